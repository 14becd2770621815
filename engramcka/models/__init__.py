"""Decoders: loading them, finding their parts, building them, and the Engram module.

Public names load on first use, since all but the presets need torch and transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engramcka.lazy import attach

if TYPE_CHECKING:
    from engramcka.models.blocks import Blocks, find_blocks
    from engramcka.models.build import build_model
    from engramcka.models.engram import EngramForCausalLM, graft, memory_off, read_gates
    from engramcka.models.engram.analysis import parameter_groups
    from engramcka.models.loading import load_model
    from engramcka.models.presets import PRESETS, preset_config, preset_layers

_HOMES = {
    "PRESETS": "presets",
    "Blocks": "blocks",
    "EngramForCausalLM": "engram",
    "build_model": "build",
    "find_blocks": "blocks",
    "graft": "engram",
    "load_model": "loading",
    "memory_off": "engram",
    "parameter_groups": "engram",
    "preset_config": "presets",
    "preset_layers": "presets",
    "read_gates": "engram",
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

__getattr__, __dir__ = attach(__name__, __all__, _HOMES)
