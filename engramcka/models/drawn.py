"""A model with the architecture and the tokenizer of a saved one, its weights drawn anew."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch

from engramcka.errors import ConfigError
from engramcka.models.architectures import NOT_OPENED, loader
from engramcka.models.checkpoint_files import in_short
from engramcka.models.describing import described
from engramcka.models.kinds import kinds_of
from engramcka.models.loading import Loaded, weight_dtype

DRAWN_KEYS = ("path", "dtype", "revision", "trust_remote_code", "attn_implementation")
"""The arguments that `draw_checkpoint` shares with `engramcka.models.loading.load_checkpoint`."""


def draw_checkpoint(
    path: str,
    *,
    seed: int,
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    attn_implementation: str | None = None,
    device: str = "cpu",
) -> Loaded:
    """A model as its architecture begins a training, by transformers' own initialisation.

    The weights are drawn on the CPU, in the dtype that the model has, so that a seed gives the same
    ones on any machine; those that are stored are not read.

    Args:
        path, dtype, revision, trust_remote_code, attn_implementation, device: as in
            `engramcka.models.loading.load_checkpoint`.
        seed: of the weights.

    Raises:
        StoreError: nothing there, or files that no checkpoint should have.
        ConfigError: neither a causal LM nor an encoder, or no fast tokenizer.
    """
    said: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    with described(path, device=None, **said) as found:
        tokenizer = found.tokenizer()
        config = deepcopy(found.config)
        for part in (config, *(getattr(config, name, None) for name in config.sub_configs)):
            if hasattr(part, "quantization_config"):
                del part.quantization_config
        opener = loader(path, config, kinds_of(config)[0], trust_remote_code)
        options: dict[str, Any] = {"dtype": weight_dtype(config, dtype)}
        if attn_implementation is not None:
            options["attn_implementation"] = attn_implementation
        make = getattr(opener, "_from_config", None)
        if make is None:  # one of transformers' automatic classes
            make, options["trust_remote_code"] = opener.from_config, trust_remote_code
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = make(config, **options)
        except Exception as error:  # of whatever the numbers of somebody's config do
            raise ConfigError(f"{path}: {NOT_OPENED} ({in_short(error)})") from error
    return Loaded(model.to(device).eval(), tokenizer)
