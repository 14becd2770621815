"""The class of transformers that opens a checkpoint, and its parts for text.

A model that takes pictures or sound beside text is built as the class that it was saved as, without
the towers that read those: text never meets them, so they are neither loaded nor in the way of the
decoder's blocks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoModelForTextEncoding,
    PreTrainedModel,
)

from engramcka.errors import ConfigError
from engramcka.models.checkpoint_files import in_short
from engramcka.models.kinds import Kind, kinds_of, opens_as

NOT_OPENED = "not a causal LM or encoder that can be loaded"

_CLASSES: dict[str, Any] = {
    "causal": AutoModelForCausalLM,
    "multimodal": AutoModelForMultimodalLM,
    "encoder": AutoModel,
    "encoder half": AutoModelForTextEncoding,
}


def read_config(path: str, place: str, **options: Any) -> Any:
    """A model's config.

    Args:
        path: as in `engramcka.models.loading.load_checkpoint`.
        place: where transformers finds it.
        options: of transformers' ``from_pretrained``.

    Raises:
        ConfigError: it cannot be read, or is of what is neither a causal LM nor an encoder.
    """
    try:
        config = AutoConfig.from_pretrained(place, **options)
    except Exception as error:  # of whatever stands in somebody's file
        raise ConfigError(f"{path}: not a model that can be loaded ({in_short(error)})") from error
    kind = opens_as(config.architectures or [], config.model_type)
    if not kind or (kind == "multimodal" and config.is_encoder_decoder):
        raise ConfigError(
            f"{path}: it was saved as {', '.join(config.architectures)}, which is neither a causal "
            "LM nor an encoder; give a decoder that was saved with its LM head"
        )
    return config


def empty_model(path: str, config: Any, trust_remote_code: bool = False) -> PreTrainedModel:
    """A model of this config on the meta device: all shapes, no weights, no towers.

    Raises:
        ConfigError: it is neither a causal LM nor an encoder.
    """
    model = _empty(path, config, kinds_of(config)[0], trust_remote_code)
    for name in _towers(model):
        model.set_submodule(name, Unloaded(model.dtype))
    return model


def loader(path: str, config: Any, kind: Kind, trust_remote_code: bool = False) -> Any:
    """What has the ``from_pretrained`` that opens a model of this config as one of `kinds_of`.

    Raises:
        ConfigError: it is neither a causal LM nor an encoder.
    """
    auto = _CLASSES[kind]
    is_remote = trust_remote_code and getattr(config, "auto_map", None)
    if is_remote:
        return auto
    model = _empty(path, config, kind)
    towers = _towers(model)
    return _without(type(model), towers) if towers else auto


def concrete(opener: Any, config: Any, path: str, shared: dict[str, Any]) -> Any:
    """The class itself that an automatic one would choose; others are what they are."""
    if opener not in _CLASSES.values():
        return opener
    named = getattr(config, "auto_map", None) or {}
    if shared.get("trust_remote_code") and opener.__name__ in named:
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        return get_class_from_dynamic_module(
            named[opener.__name__], path, revision=shared["revision"]
        )
    found = opener._model_mapping[type(config)]
    return found[0] if isinstance(found, tuple | list) else found


class Unloaded(nn.Module):
    """Stands where a tower for pictures or sound would be, which text never meets.

    Attributes:
        dtype: the model's, which some models ask the tower for.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("place", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        place: Tensor = self.get_buffer("place")
        return place.device

    def forward(self, *_: Any, **__: Any) -> Any:
        """Refuse; raises ConfigError."""
        raise ConfigError("a tower for pictures or sound was asked for; only text can be fed")


def _empty(path: str, config: Any, kind: Kind, trust_remote_code: bool = False) -> PreTrainedModel:
    try:
        with torch.device("meta"):
            model: PreTrainedModel = _CLASSES[kind].from_config(
                config, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # of whatever the numbers of somebody's config do
        raise ConfigError(f"{path}: {NOT_OPENED} ({in_short(error)})") from error
    return model


def _towers(model: PreTrainedModel) -> list[str]:
    """Names of the models inside a model that are beside its text decoder."""
    decoder = model.get_decoder() if model.config.sub_configs else None
    path = next((name for name, module in model.named_modules() if module is decoder), "")
    found: list[str] = []
    for name, module in model.named_modules():
        around = path.startswith(f"{name}.") or name.startswith(f"{path}.")
        inside = any(name.startswith(f"{other}.") for other in found)
        if path and name not in ("", path) and not around and not inside:
            found += [name] if isinstance(module, PreTrainedModel) else []
    return found


def _without(whole: type[PreTrainedModel], towers: Sequence[str]) -> type[PreTrainedModel]:
    """A model's class, of the same name, that has no towers and passes over their weights."""

    def __init__(self: Any, config: Any, *given: Any, **options: Any) -> None:
        whole.__init__(self, config, *given, **options)
        for name in towers:
            self.set_submodule(name, Unloaded(self.dtype))

    ignored = [rf"^{re.escape(name)}\." for name in towers]
    return type(
        whole.__name__,
        (whole,),
        {
            "__init__": __init__,
            "__module__": whole.__module__,
            "_keys_to_ignore_on_load_unexpected": [
                *(whole._keys_to_ignore_on_load_unexpected or []),
                *ignored,
            ],
        },
    )
