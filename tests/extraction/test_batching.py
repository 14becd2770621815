"""Batches hold every sequence once, within the budget, in an order that lengths alone decide."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engramcka.distributed import World
from engramcka.extraction.batching import (
    BATCH_COST,
    PACKED,
    TOKEN_BUDGET,
    Batch,
    lay_out,
    least_waste,
    length_batches,
    pad,
    plan_batches,
)
from engramcka.extraction.packing import ALIGNED, chunk_samples, packed_rows, row_tokens
from engramcka.stores import layout

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


def sentences(count: int) -> np.ndarray:
    """Tokens up to the wanted one, of so many sentences like Few-NERD's."""
    random = np.random.default_rng(0)
    whole = np.exp(random.normal(3.3, 0.5, count)).astype(np.int64).clip(4, 128)
    return (random.uniform(size=count) * whole).astype(np.int64) + 1


def least_tokens(lengths: np.ndarray, least: int) -> int:
    """Padded tokens of the best groups by length that hold so many tokens each, padding too."""
    different, counts = np.unique(lengths, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    best = [0]
    for end, longest in enumerate(different.tolist(), start=1):
        padded = [(int(below[end] - below[begin]) * longest, begin) for begin in range(end)]
        best.append(min(best[begin] + one if one >= least else 1 << 60 for one, begin in padded))
    return best[-1]


def test_no_groups_by_length_of_8192_tokens_come_near_to_no_padding() -> None:
    """Which is why passages are packed: of a chunk 1.42, and of all 16,384 sentences 1.06."""
    cut = sentences(16_384)
    chunks = np.split(cut, 8)
    assert sum(least_tokens(chunk, 8192) for chunk in chunks) > 1.4 * cut.sum()
    assert least_tokens(cut, 8192) > 1.05 * cut.sum()


def test_packed_sentences_need_hardly_any_padding_in_batches_of_8000_tokens() -> None:
    cut = sentences(16_384)
    size = chunk_samples(len(cut), len(cut), int(cut.sum()))
    assert size == 512
    padded = []
    for start in range(0, len(cut), size):
        ends = dict(enumerate(cut[start : start + size].tolist()))
        padded += [aligned_tokens(b) for b in plan_batches(PACKED, ends, "cuda", 65_536)]
    assert sum(padded) <= 1.01 * cut.sum()
    assert np.mean(padded) >= 8000


def aligned_tokens(batch: Batch) -> int:
    ids, _ = lay_out([[np.zeros(batch.ends[n], np.int64) for n in row] for row in batch.rows], 0)
    return ids.size


@given(LENGTHS, st.integers(1, 300))
def test_packed_rows_hold_every_sequence_once(lengths: list[int], budget: int) -> None:
    rows = packed_rows(lengths, budget)
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= budget or len(row) == 1 for row in rows)
    assert row_tokens(lengths, rows).tolist() == [sum(lengths[i] for i in row) for row in rows]


@given(st.lists(st.integers(1, 3000), min_size=60, max_size=200))
def test_packing_wastes_little_of_any_lengths(lengths: list[int]) -> None:
    ends = dict(enumerate(lengths))
    padded = sum(map(aligned_tokens, plan_batches(PACKED, ends, "cuda", 65_536)))
    most = max(1.1 * sum(lengths), sum(lengths) + 4 * max(*lengths, 512))
    assert padded <= most + ALIGNED * len(lengths)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.sampled_from(["cut", PACKED]))
def test_a_halved_batch_is_all_of_it(lengths: list[int], plan: str) -> None:
    ends = dict(enumerate(lengths))
    for batch in plan_batches(plan, ends, "cuda", 600):
        halves = batch.halves()
        if halves is None:
            assert len(batch.numbers) == 1
            continue
        assert [*halves[0].numbers, *halves[1].numbers] == batch.numbers.tolist()
        assert all(half.tokens < batch.tokens for half in halves)


@pytest.mark.parametrize(
    ("samples", "passages", "tokens", "size"),
    [
        (16_384, 16_384, 16_384 * 1000, 256),
        (16_384, 16_384, 16_384 * 16, 512),
        (16_384, 16_384, 16_384 * 2, 2048),
        (16_384, 1024, 1024 * 1000, 1024),  # 16 of a passage: two chunks may want the same
        (65_536, 65_536, 65_536 * 16, 512),  # which of so many is 1,024
        (1_000_000, 1_000_000, 1_000_000 * 16, 2048),
    ],
)
def test_packed_chunks_are_as_small_as_fill_a_batch(
    samples: int, passages: int, tokens: int, size: int
) -> None:
    assert chunk_samples(samples, passages, tokens) == size


@pytest.mark.parametrize(
    ("samples", "tokens_each", "ranks", "busy"),
    [
        (16_384, 16, 32, 1.0), (16_384, 16, 64, 0.5), (16_384, 1000, 64, 1.0),
        (10_000, 16, 8, 0.95), (65_536, 16, 64, 1.0),
    ],
)  # fmt: skip
def test_so_many_ranks_have_work_of_packed_passages(
    samples: int, tokens_each: int, ranks: int, busy: float
) -> None:
    most = chunk_samples(samples, samples, samples * tokens_each)
    size, _ = layout.chunk_samples(samples, 2 * 2560, most=most)
    chunks = [min(size, samples - start) for start in range(0, samples, size)]
    loads = [sum(World(rank, ranks).share(chunks)) for rank in range(ranks)]
    assert samples / ranks / max(loads) >= busy


def test_rows_are_laid_out_with_positions_from_each_beginning() -> None:
    ids, positions = lay_out([[np.array([5, 6, 7]), np.array([8, 9])], [np.array([4])]], pad_id=1)
    assert ids.shape == (2, ALIGNED)
    assert ids[0].tolist() == [5, 6, 7, 8, 9] + [1] * 11
    assert positions[0].tolist() == [0, 1, 2, 0, 1, *range(11)]
    assert positions[1].tolist() == [0, *range(15)]


def test_padding_is_on_the_right_and_masked() -> None:
    ids, mask = pad([np.array([5, 6, 7]), np.array([8])], pad_id=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
