"""Experts' grouped products in 16 bits under autocast, as those of other linear maps are.

torch's grouped products are not among the operations that autocast knows: with weights in float32
they stay in float32, which a GPU has no kernel for, so that the host starts a product an expert
after waiting for the experts' sizes. Set by transformers' interface for experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

GROUPED = "grouped_mm"
IN_AUTOCAST = "engramcka_grouped_mm_in_autocast"

_COLUMNS = 8  # in 16 bits a grouped product wants rows of weights at multiples of 16 bytes


class _Cast:
    """A module whose weights are seen in another dtype; everything else is the module's own."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._module, self._dtype = module, dtype

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        is_weight = isinstance(found, Tensor) and found.is_floating_point()
        return found.to(self._dtype) if is_weight else found


def in_autocast(
    experts: nn.Module, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """What transformers' grouped products give, in bfloat16 where autocast says so.

    Args:
        experts: a stack of experts, in the form that transformers knows.
        hidden_states: (tokens, width).
        top_k_index: (tokens, choices) experts of each token.
        top_k_weights: (tokens, choices) their weights; the sum over experts is in their dtype.

    Returns:
        (tokens, width) in the dtype of ``hidden_states``.
    """
    grouped = ALL_EXPERTS_FUNCTIONS[GROUPED]
    device = hidden_states.device.type
    dtype = torch.get_autocast_dtype(device)
    is_asked = torch.is_autocast_enabled(device) and dtype == torch.bfloat16
    if not is_asked or not _has_even_rows(experts):
        found: Tensor = grouped(experts, hidden_states, top_k_index, top_k_weights)
        return found
    cast = _Cast(experts, dtype)
    found = grouped(cast, hidden_states.to(dtype), top_k_index, top_k_weights)
    return found.to(hidden_states.dtype)


def _has_even_rows(experts: nn.Module) -> bool:
    stacked = [weight for weight in experts.parameters(recurse=False) if weight.dim() == 3]
    return all(size % _COLUMNS == 0 for weight in stacked for size in weight.shape[1:])


@contextmanager
def experts_in_autocast(model: nn.Module) -> Iterator[None]:
    """Inside, experts that take grouped products take them as `in_autocast` does.

    Without autocast the numbers are the same to the bit.

    Args:
        model: with experts or without.
    """
    if not isinstance(model, PreTrainedModel):
        yield
        return
    before = model.get_experts_implementation()
    ALL_EXPERTS_FUNCTIONS.register(IN_AUTOCAST, in_autocast)
    after = {part: IN_AUTOCAST if kind == GROUPED else kind for part, kind in before.items()}
    model.set_experts_implementation(after)
    try:
        yield
    finally:
        model.set_experts_implementation(before)
