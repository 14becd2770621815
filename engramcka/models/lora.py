"""Low-rank updates of a model's linear layers (LoRA), by peft: added, and put into the weights."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn

from engramcka.errors import ConfigError
from engramcka.plain_text import first_line

_BASE = "base_layer"  # peft's name of the layer that is updated


def require_peft() -> None:
    """Refuse updates where peft is not installed.

    Raises:
        ConfigError: it is not.
    """
    if find_spec("peft") is None:
        raise ConfigError(
            "train = 'lora' needs peft; pip install 'engramcka[peft]', or train = 'memory' or 'all'"
        )


def add_low_rank_updates(model: nn.Module, rank: int, seed: int) -> None:
    """Add an update of zero to every linear layer but the LM head; only these then learn.

    Args:
        model: a causal LM, changed in place.
        rank: of the updates; their scale is twice it, as is usual.
        seed: of the one of two matrices that does not start at zero.

    Raises:
        ConfigError: peft is not installed, or has no updates for such a model.
    """
    require_peft()
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    head = cast(Any, model).get_output_embeddings()
    linear = sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and module is not head
        }
    )
    if not linear:
        raise ConfigError(
            f"{type(model).__name__} has no linear layers that can be updated; train = 'memory' or "
            "'all'"
        )
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=linear, lora_dropout=0.0)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the layout of Conv1D's weights, which it then takes
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:
            raise ConfigError(
                f"peft has no updates for {type(model).__name__} ({first_line(error)}); "
                "train = 'memory' or 'all'"
            ) from error


def merged_weights(model: nn.Module) -> dict[str, Tensor] | None:
    """The weights of a model with its updates put into them, under the names without updates.

    Returns:
        None for a model that has no updates.
    """
    if not any(is_update(name) for name, _ in model.named_parameters()):
        return None
    from peft.tuners.lora import LoraLayer

    state: dict[str, Tensor] = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            key = _updated(name, module)
            delta = cast(Any, module).get_delta_weight("default")
            state[key] = (state[key].float() + delta.float()).to(state[key].dtype)
    return {
        ".".join(part for part in name.split(".") if part != _BASE): value
        for name, value in state.items()
        if not is_update(name)
    }


def is_update(name: str) -> bool:
    """Whether a parameter of this name is one of an update, and not of the model."""
    return ".lora_" in name


def _updated(name: str, module: Any) -> str:
    """The name of the weight that a module of peft updates: of stacked experts one of several."""
    parameter = getattr(module, "parameter_name", "weight")
    inner: Any = module
    while hasattr(inner, _BASE):  # stacked experts: an update within another
        name, inner = f"{name}.{_BASE}", getattr(inner, _BASE)
    return f"{name}.{parameter}"
