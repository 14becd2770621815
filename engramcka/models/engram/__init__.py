"""The Engram module and how it is grafted onto a decoder.

Importing this package registers our two architectures with transformers. Write
``import engramcka.models.engram`` before ``AutoModelForCausalLM.from_pretrained`` to open a
checkpoint of a model trained here, or pass ``trust_remote_code=True``, which imports it.
"""

from engramcka.models.engram.analysis import (
    is_table_parameter,
    parameter_groups,
    read_gates,
)
from engramcka.models.engram.configuration import EngramModelConfig
from engramcka.models.engram.hashing import token_map
from engramcka.models.engram.headless import EngramModel
from engramcka.models.engram.model import EngramForCausalLM, graft
from engramcka.models.engram.module import Engram

__all__ = [
    "Engram",
    "EngramForCausalLM",
    "EngramModel",
    "EngramModelConfig",
    "graft",
    "is_table_parameter",
    "parameter_groups",
    "read_gates",
    "token_map",
]
