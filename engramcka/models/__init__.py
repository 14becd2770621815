"""Decoders: loading them, finding their parts, building them, and the Engram module.

Public names load on first use, since all but the presets need torch and transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engramcka.models.blocks import Blocks, find_blocks
    from engramcka.models.build import build_model
    from engramcka.models.engram import EngramForCausalLM, graft, memory_off, read_gates
    from engramcka.models.engram.parameters import parameter_groups
    from engramcka.models.loading import load_model
    from engramcka.models.presets import PRESETS, preset_config, preset_layers

_HOMES = {
    "PRESETS": "engramcka.models.presets",
    "Blocks": "engramcka.models.blocks",
    "EngramForCausalLM": "engramcka.models.engram",
    "build_model": "engramcka.models.build",
    "find_blocks": "engramcka.models.blocks",
    "graft": "engramcka.models.engram",
    "load_model": "engramcka.models.loading",
    "memory_off": "engramcka.models.engram",
    "parameter_groups": "engramcka.models.engram",
    "preset_config": "engramcka.models.presets",
    "preset_layers": "engramcka.models.presets",
    "read_gates": "engramcka.models.engram",
}

__all__ = [
    "PRESETS",
    "Blocks",
    "EngramForCausalLM",
    "build_model",
    "find_blocks",
    "graft",
    "load_model",
    "memory_off",
    "parameter_groups",
    "preset_config",
    "preset_layers",
    "read_gates",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
