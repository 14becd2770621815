"""Muon on each linear map by itself, AdamW on the rest, as two optimisers written out."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from once import ENGRAM, OPTIONS, sequences

from engramcka.config import TrainingTable
from engramcka.models import build_model
from engramcka.training.optimizer import make_optimizer, rate_share


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


def test_adamw_is_that_of_its_equations(model) -> None:
    """Loshchilov and Hutter 2019, algorithm 2, in float64; tables at 5 x the rate, undecayed."""
    options = OPTIONS.model_copy(update={"warmup_steps": 0, "weight_decay": 0.1})
    names = ["engrams.2.memory.weight", "engrams.2.value.weight", "backbone.model.norm.weight"]
    parameters = dict(model.named_parameters())
    x = {name: parameters[name].detach().double().numpy().copy() for name in names}
    gradients = {name: parameters[name].grad.double().numpy() for name in names}
    m, v = ({name: np.zeros_like(x[name]) for name in names} for _ in range(2))
    optimizer, schedule = make_optimizer(model, options)
    for step in range(1, 4):
        rate = options.learning_rate * rate_share(step - 1, options)
        for name in names:
            own, decay = (5 * rate, 0.0) if "memory" in name else (rate, 0.1 * ("value" in name))
            m[name] = 0.9 * m[name] + 0.1 * gradients[name]
            v[name] = 0.95 * v[name] + 0.05 * gradients[name] ** 2
            unbiased = m[name] / (1 - 0.9**step), v[name] / (1 - 0.95**step)
            x[name] -= own * decay * x[name]
            x[name] -= own * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        optimizer.step()
        schedule.step()
    for name in names:
        np.testing.assert_allclose(parameters[name].detach(), x[name], atol=1e-5, err_msg=name)


def test_the_rate_decays_in_steps_after_shares_of_the_training() -> None:
    options = TrainingTable(steps=50, warmup_steps=4, schedule="step")
    shares = [rate_share(step, options) for step in range(50)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]
    assert shares[4:30] == [1.0] * 26
    assert shares[30:45] == [0.316] * 15
    assert shares[45:] == pytest.approx([0.316**2] * 5)
    own = options.model_copy(update={"decay_at": (0.5,), "decay_factor": 0.1})
    assert [rate_share(step, own) for step in (24, 25, 49)] == [1.0, 0.1, 0.1]


def test_the_rate_falls_along_half_a_cosine() -> None:
    options = TrainingTable(steps=50, warmup_steps=10)
    for step in (10, 23, 49):
        expected = 0.1 + 0.9 * math.cos(math.pi * (step - 10) / 80) ** 2
        assert rate_share(step, options) == pytest.approx(expected)
    assert rate_share(50, options) == pytest.approx(0.1)


def test_the_optimizers_rates_follow_the_schedule(model) -> None:
    options = TrainingTable(
        steps=4, warmup_steps=0, schedule="step", decay_at=(0.5,), decay_factor=0.5
    )
    optimizer, schedule = make_optimizer(model, options)
    rates = []
    for _ in range(4):
        rates.append({group["name"]: group["lr"] for group in optimizer.param_groups})
        optimizer.step()
        schedule.step()
    assert [rate["matrices"] for rate in rates] == pytest.approx([3e-3, 3e-3, 1.5e-3, 1.5e-3])
    assert [rate["engram-tables"] for rate in rates] == pytest.approx([0.015] * 2 + [0.0075] * 2)
