"""Experts' grouped products under autocast, and that nothing changes without it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import tiny
from torch import nn

from engramcka.config import EngramConfig
from engramcka.models import graft
from engramcka.training.experts import IN_AUTOCAST, experts_in_autocast

IDS = torch.randint(3, 280, (2, 16), generator=torch.Generator().manual_seed(0))


def one_pass(model: Any, is_set: bool, *, autocast: bool) -> tuple[float, torch.Tensor]:
    """The loss and the gradient of all experts, as one vector."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        if is_set:
            with experts_in_autocast(model):
                loss = model(input_ids=IDS, labels=IDS).loss
        else:
            loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    experts = [weight for name, weight in model.named_parameters() if "experts" in name]
    grads = [weight.grad for weight in experts if weight.grad is not None]
    assert all(grad.dtype == torch.float32 for grad in grads)
    return float(loss), torch.cat([grad.flatten() for grad in grads])


@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral", "deepseek_v3"])
def test_experts_in_16_bits_are_as_near_as_autocast_is(family: str) -> None:
    model = tiny(family, 300).train()
    exact, grad = one_pass(model, False, autocast=False)
    before, wide = one_pass(model, False, autocast=True)
    after, narrow = one_pass(model, True, autocast=True)
    assert abs(after - exact) <= abs(before - exact) + 0.005
    assert float((narrow - grad).norm()) <= float((wide - grad).norm()) + 0.02 * float(grad.norm())
    assert not torch.equal(narrow, wide)


def test_without_autocast_they_are_the_same_bits() -> None:
    model = tiny("qwen3_moe", 300).train()
    (loss, grad), (again, same) = (one_pass(model, one, autocast=False) for one in (False, True))
    assert loss == again
    assert torch.equal(grad, same)


def test_experts_whose_rows_are_uneven_stay_as_they_are() -> None:
    """A grouped product in 16 bits wants rows at multiples of 16 bytes."""
    model = tiny("qwen3_moe", 300).train()
    for name, weight in list(model.named_parameters()):
        parent = model.get_submodule(name.rpartition(".")[0])
        if name.endswith("gate_up_proj"):
            parent.gate_up_proj = nn.Parameter(weight.detach()[:, :40])  # 20 wide
        elif name.endswith("experts.down_proj"):
            parent.down_proj = nn.Parameter(weight.detach()[:, :, :20].contiguous())
    loss, grad = one_pass(model, False, autocast=True)
    again, same = one_pass(model, True, autocast=True)
    assert loss == again
    assert torch.equal(grad, same)


def test_it_reaches_a_model_within_a_model_and_is_taken_back(tokenizer: Any) -> None:
    engram = EngramConfig(layers=(2,), table_size=64, d_mem=32)
    model = graft(tiny("qwen3_moe", len(tokenizer)), engram, tokenizer).train()
    before, wide = one_pass(model, False, autocast=True)
    kinds = model.get_experts_implementation()
    with experts_in_autocast(model):
        assert IN_AUTOCAST in model.get_experts_implementation().values()
        assert IN_AUTOCAST not in model.config.to_json_string()  # which is saved with a model
    assert model.get_experts_implementation() == kinds
    _, narrow = one_pass(model, True, autocast=True)
    assert not torch.equal(narrow, wide)
    assert one_pass(model, False, autocast=True)[0] == before


def test_a_model_without_experts_is_left_alone() -> None:
    model = tiny("llama", 300)
    with experts_in_autocast(model):
        assert model(input_ids=IDS).logits.isfinite().all()
    with experts_in_autocast(nn.Linear(2, 2)):
        pass
