"""The Engram module and how it is grafted onto a decoder.

Importing this package registers our two architectures with transformers. Write
``import engramcka.models.engram`` before ``AutoModelForCausalLM.from_pretrained`` to open a
checkpoint of a model trained here.
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
