"""Muon on each linear map by itself, AdamW on the rest, as two optimisers written out."""

from __future__ import annotations

import copy

import pytest
import torch
from once import ENGRAM, OPTIONS, sequences

from engramcka.models import build_model
from engramcka.training.optimizer import make_optimizer


@pytest.fixture
def model(tokenizer):
    model = build_model("moe-tiny", ENGRAM, tokenizer, seed=0)
    ids = torch.from_numpy(sequences(tokenizer, 4))
    model(input_ids=ids, labels=ids).loss.backward()
    return model


def orthogonalised(gradient: torch.Tensor) -> torch.Tensor:
    """Muon's first update of a matrix by torch itself, from zero, at rate 1 without decay."""
    one = torch.nn.Parameter(torch.zeros_like(gradient))
    one.grad = gradient.clone()
    torch.optim.Muon([one], lr=1.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw").step()
    return one.detach()


def test_every_expert_and_every_half_is_a_matrix_of_its_own(model) -> None:
    options = OPTIONS.model_copy(update={"optimizer": "muon", "weight_decay": 0.0})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer, schedule = make_optimizer(model, options)
    names = [group["name"] for group in optimizer.param_groups]
    rate = schedule.get_last_lr()[names.index("matrices")]
    optimizer.step()
    layer = "backbone.model.layers.3."
    now = dict(model.named_parameters())

    def step(name: str) -> torch.Tensor:
        return (now[layer + name] - before[layer + name]).detach() / rate

    def gradient(name: str) -> torch.Tensor:
        return now[layer + name].grad

    expected = orthogonalised(gradient("self_attn.o_proj.weight"))
    torch.testing.assert_close(step("self_attn.o_proj.weight"), expected, atol=1e-3, rtol=1e-2)
    both, down = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
    for expert in (0, 7):
        for rows in (slice(0, 40), slice(40, 80)):
            expected = orthogonalised(gradient(both)[expert, rows])
            torch.testing.assert_close(step(both)[expert, rows], expected, atol=1e-3, rtol=1e-2)
        expected = orthogonalised(gradient(down)[expert])
        torch.testing.assert_close(step(down)[expert], expected, atol=1e-3, rtol=1e-2)


def test_tables_norms_and_embeddings_move_as_under_adamw(model) -> None:
    twin = copy.deepcopy(model)
    for source, target in zip(model.parameters(), twin.parameters(), strict=True):
        target.grad = None if source.grad is None else source.grad.clone()
    for each, name in ((model, "muon"), (twin, "adamw")):
        optimizer, _schedule = make_optimizer(each, OPTIONS.model_copy(update={"optimizer": name}))
        optimizer.step()
    same = {
        name: torch.equal(a, b)
        for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True)
    }
    assert same["engrams.2.memory.weight"]
    assert same["backbone.model.embed_tokens.weight"]
    assert all(ok for name, ok in same.items() if "norm" in name or "convolution" in name)
    moved_by_muon = [name for name, ok in same.items() if not ok]
    assert all(p.dim() in (2, 3) for n, p in model.named_parameters() if n in moved_by_muon)
    assert {"engrams.2.value.weight", "backbone.model.layers.1.mlp.gate.weight"} < set(
        moved_by_muon
    )


def test_the_state_survives_and_follows_the_schedule(model) -> None:
    options = OPTIONS.model_copy(update={"optimizer": "muon"})
    optimizer, schedule = make_optimizer(model, options)
    optimizer.step()
    schedule.step()
    twin = copy.deepcopy(model)
    for source, target in zip(model.parameters(), twin.parameters(), strict=True):
        target.grad = None if source.grad is None else source.grad.clone()
    again, its_schedule = make_optimizer(twin, options)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    its_schedule.load_state_dict(schedule.state_dict())
    for some in (optimizer, again):
        some.step()
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)
    )
