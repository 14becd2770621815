"""A model with the architecture and the tokenizer of a saved one, its weights drawn anew."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from engramcka.errors import ConfigError
from engramcka.models.architectures import NOT_OPENED, loader
from engramcka.models.checkpoint_files import in_short
from engramcka.models.describing import described
from engramcka.models.kinds import kinds_of
from engramcka.models.loading import Loaded, weight_dtype

_STORED = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

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

    The weights are drawn on the CPU, so that a seed gives the same ones on any machine, and have
    the dtypes that the stored ones are loaded in; those are not read.

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
        options: dict[str, Any] = {"dtype": _dtype(config, found.place, dtype)}
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
    _keep_in_float32(model, options["dtype"])
    return Loaded(model.to(device).eval(), tokenizer)


def _keep_in_float32(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Widen what transformers does not load in 16 bits, by the rules of its ``from_pretrained``."""
    names: set[str] = set()
    if dtype in (torch.float16, torch.bfloat16):
        names |= {*(model._keep_in_fp32_modules_strict or ())}
    if dtype == torch.float16:
        names |= {*(model._keep_in_fp32_modules or ())}
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        if weight.is_floating_point() and any(f".{kept}." in f".{name}." for kept in names):
            weight.data = weight.data.float()


def _dtype(config: Any, place: str, dtype: str) -> torch.dtype:
    """The dtype that a checkpoint is loaded in: of one whose config names none, that of its file.

    float32 where the file is not on this machine, or does not say.
    """
    if dtype != "auto" or getattr(config, "dtype", None) is not None:
        return weight_dtype(config, dtype)
    from safetensors import SafetensorError, safe_open

    for file in sorted(Path(place).glob("*.safetensors")):
        with suppress(SafetensorError, OSError), safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118  (it is no mapping)
                found = _STORED.get(weights.get_slice(name).get_dtype())
                if found is not None:
                    return found
    return torch.float32
