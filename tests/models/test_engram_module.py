from __future__ import annotations

import naive_engram
import numpy as np
import pytest
import torch

from engramcka.config import EngramConfig
from engramcka.models.engram.hashing import NgramHash
from engramcka.models.engram.module import CausalTaps, Engram

WIDTH, TOKENS = 12, 11


def random_module(engram: EngramConfig, streams: int) -> tuple[NgramHash, Engram]:
    hashing = NgramHash(engram, torch.randint(0, 40, (60,)), 40, 3)
    module = Engram(engram, WIDTH, streams, sum(hashing.rows_per_layer.values()))
    for parameter in module.parameters():
        parameter.data.normal_()
    return hashing, module


def as_weights(module: Engram) -> dict[str, np.ndarray]:
    weights = {"table": module.memory.weight, "value": module.value.weight}
    if module.gate is not None:
        weights["key"] = torch.stack([key.weight for key in module.gate.keys])
        weights["query_norm"] = module.gate.query_norm
        weights["key_norm"] = module.gate.key_norm
    if module.convolution is not None:
        weights["conv"] = module.convolution.weight
        weights["conv_norm"] = module.convolution.norm
    return {name: w.detach().double().numpy() for name, w in weights.items()}


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("heads", range(1, 9))
@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize(
    ("gating", "convolution"), [("signed-sqrt", True), ("plain", True), ("none", False)]
)
def test_equals_float64_numpy_from_the_equations(n, heads, streams, gating, convolution):
    torch.manual_seed(n * 100 + heads * 10 + streams)
    orders = tuple(range(2, n + 1))
    engram = EngramConfig(
        layers=(5,),
        orders=orders,
        heads=heads,
        d_mem=2 * heads * len(orders),
        table_size=31,
        gating=gating,
        convolution=convolution,
    )
    hashing, module = random_module(engram, streams)
    ids = torch.randint(0, 60, (2, TOKENS))
    shape = (2, TOKENS, WIDTH) if streams == 1 else (2, TOKENS, streams, WIDTH)
    hidden = torch.randn(shape)
    found, _ = module(hidden, hashing(hashing.canonical(ids, None, None))[0])
    for b in range(2):
        rows = naive_engram.rows(
            hashing.token_map[ids[b]].tolist(),
            hashing.multipliers[0].tolist(),
            hashing.primes[0].tolist(),
            orders,
            heads,
            pad_id=3,
        )
        expected = naive_engram.engram(
            hidden[b].double().numpy().reshape(TOKENS, streams, WIDTH),
            rows,
            as_weights(module),
            gating,
            convolution,
            dilation=n,
        )
        error = np.abs(found[b].detach().numpy().reshape(expected.shape) - expected)
        assert (error / np.maximum(1.0, np.abs(expected))).max() < 1e-5


def test_one_gate_on_the_mean_when_streams_share_a_branch():
    engram = EngramConfig(layers=(1,), table_size=31, d_mem=8, heads=2, fusion="mean")
    hashing, module = random_module(engram, streams=4)
    rows = hashing(hashing.canonical(torch.randint(0, 60, (1, TOKENS)), None, None))[0]
    hidden = torch.randn(1, TOKENS, 4, WIDTH)
    found, _ = module(hidden, rows)
    pooled, _ = module(hidden.mean(2), rows)
    assert len(module.gate.keys) == 1
    torch.testing.assert_close(found, pooled.unsqueeze(2).expand(-1, -1, 4, -1))


def test_begins_as_a_plain_gated_lookup():
    engram = EngramConfig(layers=(1,), table_size=31, d_mem=8, heads=2)
    hashing, module = random_module(engram, 1)
    module.reset_parameters(torch.Generator().manual_seed(1))
    rows = hashing(hashing.canonical(torch.randint(0, 60, (1, TOKENS)), None, None))[0]
    hidden = torch.randn(1, TOKENS, WIDTH)
    memory = module.memory(rows)
    alpha = module.gate(hidden.unsqueeze(2), memory)
    torch.testing.assert_close(module(hidden, rows)[0], alpha * module.value(memory))


@pytest.mark.parametrize("kernel_size", [1, 4])
def test_in_pieces_equals_at_once(kernel_size):
    engram = EngramConfig(layers=(1,), table_size=31, d_mem=8, heads=2, kernel_size=kernel_size)
    hashing, module = random_module(engram, 1)
    ids, hidden = torch.randint(0, 60, (2, TOKENS)), torch.randn(2, TOKENS, WIDTH)
    whole, _ = module(hidden, hashing(hashing.canonical(ids, None, None))[0])
    parts, ids_tail, tail = [], None, None
    for start, stop in [(0, 1), (1, 6), (6, 8), (8, TOKENS)]:
        canonical = hashing.canonical(ids[:, start:stop], None, ids_tail)
        ids_tail = canonical[:, stop - start :]
        y, tail = module(hidden[:, start:stop], hashing(canonical)[0], None, tail)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)


def test_gradients_reach_every_weight_and_agree_with_float64():
    engram = EngramConfig(layers=(1,), table_size=31, d_mem=8, heads=2)
    hashing, module = random_module(engram, 1)
    rows = hashing(hashing.canonical(torch.randint(0, 60, (2, TOKENS)), None, None))[0]
    hidden = torch.randn(2, TOKENS, WIDTH)
    module(hidden, rows)[0].square().sum().backward()
    single = {name: p.grad.clone() for name, p in module.named_parameters()}
    module.double().zero_grad()
    module(hidden.double(), rows)[0].square().sum().backward()
    for name, parameter in module.named_parameters():
        scale = parameter.grad.abs().max()
        assert scale > 0, name
        assert (single[name] - parameter.grad).abs().max() < 1e-4 * scale, name


@pytest.mark.parametrize(("taps", "dilation"), [(1, 3), (4, 3), (3, 1)])
def test_the_convolutions_own_gradient_is_that_of_finite_differences(taps, dilation):
    torch.manual_seed(0)
    shape = (2, 5 + (taps - 1) * dilation, 2, 3)
    padded = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, taps, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w: CausalTaps.apply(x, w, dilation, None),
        (padded, weight),
        check_batched_grad=False,
    )


def test_a_memory_of_zeros_has_a_gradient_of_numbers():
    engram = EngramConfig(layers=(1,), table_size=31, d_mem=8, heads=2)
    hashing, module = random_module(engram, 1)
    module.memory.weight.data.zero_()
    hidden = torch.zeros(1, TOKENS, WIDTH, requires_grad=True)
    rows = hashing(hashing.canonical(torch.randint(0, 60, (1, TOKENS)), None, None))[0]
    module(hidden, rows)[0].sum().backward()
    assert hidden.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())
