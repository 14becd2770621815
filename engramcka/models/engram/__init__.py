"""The Engram module and how it is grafted onto a decoder.

Importing this registers the grafted model with transformers, so that
``AutoModelForCausalLM.from_pretrained`` opens its checkpoints.
"""

from engramcka.models.configs import EngramModelConfig
from engramcka.models.engram.analysis import memory_off, read_gates
from engramcka.models.engram.compression import token_map
from engramcka.models.engram.model import EngramForCausalLM, graft
from engramcka.models.engram.module import Engram
from engramcka.models.engram.parameters import is_table_parameter, parameter_groups

__all__ = [
    "Engram",
    "EngramForCausalLM",
    "EngramModelConfig",
    "graft",
    "is_table_parameter",
    "memory_off",
    "parameter_groups",
    "read_gates",
    "token_map",
]
