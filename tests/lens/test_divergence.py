"""The lens against a naive float64 computation over the whole vocabulary at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from engramcka.lens.logit_lens import READINGS, Head, read_layers
from engramcka.models import take_steps

WIDTH = 16


def make_head(vocabulary: int, dtype: torch.dtype = torch.float32, **options: object) -> Head:
    generator = torch.Generator().manual_seed(vocabulary)
    norm = nn.RMSNorm(WIDTH, eps=1e-6).to(dtype)
    weight = torch.randn(vocabulary, WIDTH, generator=generator)
    bias = torch.randn(vocabulary, generator=generator)
    return Head((norm.requires_grad_(False),), weight.to(dtype), bias.to(dtype), **options)


def naive(hidden: dict[int, torch.Tensor], head: Head) -> dict[str, np.ndarray]:
    """The definitions, word for word, in float64 NumPy."""
    weight, bias = head.weight.double().numpy(), head.bias.double().numpy()
    logits = []
    for number in sorted(hidden):
        y = (take_steps(head.steps, hidden[number]).double().numpy() @ weight.T + bias) * head.scale
        logits.append(y if head.cap is None else np.tanh(y / head.cap) * head.cap)
    logits = [y - y.max(-1, keepdims=True) for y in logits]
    log_q = [y - np.log(np.exp(y).sum(-1, keepdims=True)) for y in logits]
    log_p = log_q[-1]
    p = np.exp(log_p)
    return {
        "kl_final_layer": np.stack([(p * (log_p - q)).sum(-1) for q in log_q], 1),
        "kl_layer_final": np.stack([(np.exp(q) * (q - log_p)).sum(-1) for q in log_q], 1),
        "entropy": np.stack([-(np.exp(q) * q).sum(-1) for q in log_q], 1),
        "top1": np.stack([q.argmax(-1) == log_p.argmax(-1) for q in log_q], 1).astype(float),
    }


def states(rows: int, layers: int, dtype: torch.dtype = torch.float32) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows + layers)
    last = torch.randn(rows, WIDTH, generator=generator)
    return {
        number: (last + (layers - number) * torch.randn(rows, WIDTH, generator=generator)).to(dtype)
        for number in range(1, layers + 1)
    }


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 7),
    layers=st.integers(1, 4),
    vocabulary=st.sampled_from([3, 2048, 2049, 5000]),
    scale=st.sampled_from([1.0, 0.25]),
    cap=st.sampled_from([None, 8.0]),
    elements=st.sampled_from([1, 2048 * 6, 1 << 20]),
)
def test_every_reading_is_the_naive_one_whatever_the_pieces(
    rows: int, layers: int, vocabulary: int, scale: float, cap: float | None, elements: int
) -> None:
    head = make_head(vocabulary, scale=scale, cap=cap)
    hidden = states(rows, layers)
    found = read_layers(hidden, head, elements)
    assert list(found) == list(READINGS)
    for name, expected in naive(hidden, head).items():
        assert found[name].dtype == torch.float64
        assert found[name].numpy() == pytest.approx(expected, rel=2e-6, abs=1e-5), name


def test_bfloat16_weights_are_read_without_rounding_the_logits() -> None:
    head = make_head(4000, torch.bfloat16)
    hidden = states(6, 3, torch.bfloat16)
    found = read_layers(hidden, head, 1)
    for name, expected in naive(hidden, head).items():
        assert found[name].numpy() == pytest.approx(expected, rel=2e-6, abs=1e-5), name


def test_the_last_block_is_its_own_prediction() -> None:
    found = read_layers(states(5, 3), make_head(3000))
    assert found["kl_final_layer"][:, -1].abs().max() == 0
    assert found["kl_layer_final"][:, -1].abs().max() == 0
    assert (found["top1"][:, -1] == 1).all()
    assert (found["kl_final_layer"][:, 0] > 0.1).all()


def test_very_far_apart_and_very_large_logits_stay_exact() -> None:
    head = make_head(2500)
    hidden = states(4, 3)
    sharp = Head(head.steps, head.weight * 40, head.bias)  # logits of some hundreds
    found = read_layers(hidden, sharp, 1)
    for name, expected in naive(hidden, sharp).items():
        assert found[name].numpy() == pytest.approx(expected, rel=1e-5, abs=1e-4), name


def test_a_row_that_is_not_finite_is_nan_and_no_other() -> None:
    hidden = states(4, 3)
    expected = read_layers(hidden, make_head(2100))
    hidden[2][1, 3] = torch.nan
    found = read_layers(hidden, make_head(2100))
    for name in READINGS:
        assert torch.isnan(found[name][1, 1])
        keep = [0, 2, 3]
        assert torch.equal(found[name][keep], expected[name][keep])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_a_gpu_the_readings_are_the_same(dtype: torch.dtype) -> None:
    head, hidden = make_head(4000, dtype), states(6, 3, dtype)
    expected = naive(hidden, head)
    on_gpu = Head(tuple(step.cuda() for step in head.steps), head.weight.cuda(), head.bias.cuda())
    found = read_layers({number: value.cuda() for number, value in hidden.items()}, on_gpu)
    for name in READINGS:
        assert found[name].cpu().numpy() == pytest.approx(expected[name], abs=2e-2), name
