"""Expert loads: counted as a slow count does, and more even when that is asked for."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from once import sequences
from torch import nn
from transformers import AutoModelForCausalLM, OlmoeConfig

from engramcka.config import TrainingTable
from engramcka.data import Document, token_sequences, train_tokenizer
from engramcka.errors import ConfigError
from engramcka.models import build_model
from engramcka.training import train_model
from engramcka.training.balancing import ExpertLoads


def chosen_slowly(router: nn.Module, hidden: torch.Tensor) -> np.ndarray:
    """(tokens, top_k): the experts with the highest sigmoid score plus bias, in float64."""
    x = hidden.detach().double().numpy().reshape(-1, hidden.shape[-1])
    scores = 1 / (1 + np.exp(-x @ router.weight.detach().double().numpy().T))
    return np.argsort(-(scores + router.e_score_correction_bias.double().numpy()), axis=1)[:, :2]


@pytest.fixture
def seen(tokenizer):
    """A model, what its routers were given in one forward pass, and their loads."""
    model = build_model("moe-tiny", None, tokenizer, seed=0)
    given: list[tuple[nn.Module, torch.Tensor]] = []
    loads = ExpertLoads(model, "auxiliary", 0.5)
    for router in loads.routers:
        router.register_forward_hook(lambda module, args, out: given.append((module, args[0])))
    model(torch.from_numpy(sequences(tokenizer, 4)))
    return model, given, loads


def test_loads_and_their_imbalance_are_those_of_a_slow_count(seen) -> None:
    model, given, loads = seen
    assert len(loads.routers) == 5  # the first of the six blocks is dense
    model.eval()(torch.zeros(1, 8, dtype=torch.int64))  # counts in training alone
    loads.end_step()
    counts = [np.bincount(chosen_slowly(*pair).ravel(), minlength=8) for pair in given[:5]]
    assert loads.pending == [count.tolist() for count in counts]
    expected = np.mean([count.max() / count.mean() - 1 for count in counts])
    assert loads.read() == pytest.approx(expected, rel=1e-12)
    assert loads.read() is None


def test_the_auxiliary_loss_is_that_of_its_equation(seen) -> None:
    _, given, loads = seen
    losses = []
    for router, hidden in given:
        x = hidden.detach().double().numpy().reshape(-1, hidden.shape[-1])
        scores = 1 / (1 + np.exp(-x @ router.weight.detach().double().numpy().T))
        shares = (scores / scores.sum(1, keepdims=True)).mean(0)
        counts = np.bincount(chosen_slowly(router, hidden).ravel(), minlength=8)
        losses.append(8 / (2 * len(x)) * (counts * shares).sum())
    found = loads.auxiliary_loss()
    assert found is not None
    assert found.item() == pytest.approx(0.5 * np.mean(losses), rel=1e-5)
    assert loads.auxiliary_loss() is None
    found.backward()
    assert all(router.weight.grad.abs().sum() > 0 for router, _ in given)


def test_the_bias_moves_against_the_excess(tokenizer) -> None:
    model = build_model("moe-tiny", None, tokenizer, seed=0)
    loads = ExpertLoads(model, "loss-free", 0.01)
    model(torch.from_numpy(sequences(tokenizer, 4)))
    loads.end_step()
    for router, counts in zip(loads.routers, loads.pending, strict=True):
        expected = -0.01 * np.sign(np.array(counts) - np.mean(counts))
        np.testing.assert_allclose(router.e_score_correction_bias, expected, rtol=1e-6)


@pytest.mark.parametrize("balancing", ["loss-free", "auxiliary"])
def test_a_frozen_router_is_counted_and_left_alone(tokenizer, balancing) -> None:
    model = build_model("moe-tiny", None, tokenizer, seed=0)
    model.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loads = ExpertLoads(model, balancing, 0.01)
    model(torch.from_numpy(sequences(tokenizer, 4)))
    assert loads.auxiliary_loss() is None
    loads.end_step()
    assert loads.read() > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_both_ways_even_the_loads_out(tmp_path: Path) -> None:
    """On real text, where a router left to itself soon sends every token to the same experts."""
    text = Document("argparse", inspect.getsource(argparse))
    tokenizer = train_tokenizer([text], 400)
    ids = token_sequences(tokenizer, [text], length=64, count=24 * 8, seed=0)
    late = {}
    for balancing, rate in (("none", 1.0), ("loss-free", 0.01), ("auxiliary", 0.1)):
        record = train_model(
            build_model("moe-tiny", None, tokenizer, seed=0),
            tokenizer,
            training=ids,
            validation=ids[:1],
            options=TrainingTable(
                steps=24, batch_size=8, sequence_length=64, learning_rate=1.5e-3,
                balancing=balancing, balancing_rate=rate,
            ),
            seed=0,
            device="cpu",
            folder=tmp_path / balancing,
            inputs={},
            on_step=lambda step, info: None,
        )  # fmt: skip
        late[balancing] = np.mean([value for _, value in record.expert_imbalance[-8:]])
    assert late["loss-free"] < 0.8 * late["none"]
    assert late["auxiliary"] < 0.8 * late["none"]


def test_a_router_without_a_bias_is_refused_for_loss_free_alone() -> None:
    config = OlmoeConfig(
        vocab_size=32, eos_token_id=None, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ConfigError, match=r"OlmoeTopKRouter has no bias .* allowed"):
        ExpertLoads(model, "loss-free", 1e-3)
    loads = ExpertLoads(model, "auxiliary", 1.0)
    model.train()(torch.arange(8)[None])
    assert len(loads.routers) == 2
    assert loads.auxiliary_loss().item() > 0.0


def test_a_model_without_experts_has_nothing_to_balance() -> None:
    loads = ExpertLoads(nn.Linear(4, 4), "loss-free", 1e-3)
    loads.end_step()
    assert loads.read() is None
