"""Batches hold every sequence once, within the budget, in an order that lengths alone decide."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engramcka.extraction.batching import (
    BATCH_COST,
    TOKEN_BUDGET,
    least_waste,
    length_batches,
    pad,
)

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80)


@given(LENGTHS, st.integers(1, 200))
def test_every_sequence_once_within_the_budget(lengths: list[int], budget: int) -> None:
    for batches in (list(length_batches(lengths, budget)), least_waste(lengths, budget, 20)):
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
        for batch in batches:
            padded = max(lengths[i] for i in batch) * len(batch)
            assert padded <= budget or len(batch) == 1
    again = least_waste(lengths, budget, 20)
    assert [b.tolist() for b in least_waste(lengths, budget, 20)] == [b.tolist() for b in again]


def padded_tokens(lengths: list[int], batches: list[np.ndarray]) -> int:
    return sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(0, 30))
def test_no_other_cut_of_the_lengths_wastes_less(lengths: list[int], cost: int) -> None:
    found = least_waste(lengths, 10_000, cost)
    different = sorted(set(lengths))
    least = min(
        cost * (len(cuts) + 1) + sum(
            max(group) * sum(lengths.count(length) for length in group)
            for group in np.split(different, cuts)
        )
        for number in range(len(different))
        for cuts in combinations(range(1, len(different)), number)
    )  # fmt: skip
    assert padded_tokens(lengths, found) + cost * len(found) == least


@pytest.mark.parametrize(("device", "most"), [("cpu", 1.05), ("cuda", 1.15)])
def test_last_positions_of_sentences_need_little_padding(device: str, most: float) -> None:
    """Of one entity a sentence, cut after it: a chunk of 2,048 as Few-NERD's are."""
    random = np.random.default_rng(0)
    whole = np.exp(random.normal(3.3, 0.5, 2048)).astype(np.int64).clip(4, 128)
    cut = (random.uniform(size=2048) * whole).astype(np.int64) + 1
    batches = least_waste(cut, TOKEN_BUDGET[device], BATCH_COST[device])
    padded = padded_tokens(cut.tolist(), batches)
    assert padded <= most * cut.sum()
    assert padded <= 0.6 * whole.sum()
    before = length_batches(cut.tolist(), TOKEN_BUDGET[device])
    assert padded < padded_tokens(cut.tolist(), list(before))


def test_padding_is_on_the_right_and_masked() -> None:
    ids, mask = pad([np.array([5, 6, 7]), np.array([8])], pad_id=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
