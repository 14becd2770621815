from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_engram import rows

from engramcka.config import EngramConfig
from engramcka.models.allocation import primes_from, table_primes
from engramcka.models.engram.hashing import NgramHash, layer_multipliers


def config(orders, heads, layers=(2,), table_size=50, seed=0) -> EngramConfig:
    return EngramConfig(
        layers=layers,
        orders=orders,
        heads=heads,
        d_mem=len(orders) * heads,
        table_size=table_size,
        seed=seed,
    )


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 4),
    heads=st.integers(1, 8),
    layers=st.lists(st.integers(1, 30), min_size=1, max_size=3, unique=True),
    wide=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_addresses_equal_python_integers(n, heads, layers, wide, seed):
    """Also where products leave int64, which full-range multipliers force."""
    engram = config(tuple(range(2, n + 1)), heads, tuple(layers), seed=seed)
    n_ids, pad_id = 1000, 7
    hashing = NgramHash(engram, torch.randperm(n_ids), n_ids, pad_id)
    rng = np.random.default_rng(seed)
    if wide:
        full = rng.integers(-(2**63), 2**63 - 1, hashing.multipliers.shape, dtype=np.int64)
        hashing.multipliers.copy_(torch.tensor(full))
    ids = torch.tensor(rng.integers(0, n_ids, (2, 9)))
    found = hashing(hashing.canonical(ids, None, None))
    primes = [table_primes(engram)[layer] for layer in sorted(layers)]
    for i in range(len(layers)):
        for b in range(2):
            expected = rows(
                hashing.token_map[ids[b]].tolist(),
                hashing.multipliers[i].tolist(),
                primes[i],
                sorted(engram.orders),
                heads,
                pad_id,
            )
            assert found[i, b].tolist() == expected


def test_multipliers_are_the_authors_draw():
    bound = np.iinfo(np.int64).max // 5000 // 2
    drawn = np.random.default_rng(3 + 10007 * 15).integers(0, bound, size=3, dtype=np.int64)
    expected = [2 * int(m) + 1 for m in drawn]
    assert layer_multipliers(3, 15, 3, 5000).tolist() == expected
    assert max(expected) * 4999 < 2**63


@pytest.mark.parametrize("table_size", [2, 50, 4096])
def test_primes_are_distinct_over_layers_orders_and_heads(table_size):
    engram = config((2, 3, 4), 8, layers=(1, 5, 9), table_size=table_size)
    primes = [p for layer in table_primes(engram).values() for p in layer]
    assert len(set(primes)) == 3 * 3 * 8
    assert min(primes) >= table_size
    assert primes == sorted(primes)
    assert all(all(p % d for d in range(2, int(p**0.5) + 1)) for p in primes)


def test_primes_start_at_the_table_size_and_skip_none():
    primes = primes_from(2)
    assert [next(primes) for _ in range(8)] == [2, 3, 5, 7, 11, 13, 17, 19]
    assert next(primes_from(23)) == 23


def test_rows_of_different_tables_never_meet():
    engram = config((2, 3), 4, table_size=11)
    hashing = NgramHash(engram, torch.arange(100), 100, 0)
    found = hashing(hashing.canonical(torch.randint(0, 100, (4, 50)), None, None))[0]
    ends = hashing.primes[0].cumsum(0)
    assert (found >= ends - hashing.primes[0]).all()
    assert (found < ends).all()
    assert hashing.rows_per_layer == {2: int(ends[-1])}
