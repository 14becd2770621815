"""Which samples make a batch, and which are left out together: what holds for any documents."""

import numpy as np
import pytest
from hidden_states import drawn
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engramcka.errors import ComparisonError
from engramcka.similarity import documents as grouping

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(4, 300)  # of a batch at most
MANY = settings(max_examples=80, deadline=None)


@st.composite
def labels(draw, most=40, samples=12):
    """A document a sample, in no order: up to so many documents of up to so many samples."""
    sizes = draw(st.lists(st.integers(1, samples), min_size=4, max_size=most))
    order = np.random.default_rng(draw(SEEDS)).permutation(sum(sizes))
    return grouping.document_numbers(np.repeat(np.arange(len(sizes)), sizes)[order])


def check_all_once_and_even(batches, n, size):
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(n))
    lengths = [len(batch) for batch in batches]
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 4
    # 5 to 7 samples in batches of 4 are one batch
    assert max(lengths) <= max(size, 7)


def check_balanced(batches, groups):
    """No group is left out without the others' samples staying alike: every batch has its share."""
    counts = np.array([np.bincount(groups[batch], minlength=groups.max() + 1) for batch in batches])
    share = np.bincount(groups) / len(batches)
    # a group's samples are dealt round by round: parts of a first and of a last one at most
    assert (np.abs(counts - share) < 2).all()


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a, b) for a, b in zip(one, other, strict=True)
    )


@MANY
@given(st.integers(4, 700), SIZES, SEEDS, st.booleans())
def test_random_batches(n, size, seed, grouped):
    groups = np.sort(np.random.default_rng(seed).integers(0, 7, n)) if grouped else None
    batches = grouping.random_batches(n, size, seed, groups)
    check_all_once_and_even(batches, n, size)
    assert same(batches, grouping.random_batches(n, size, seed, groups))
    for batch in batches:
        there = batch if groups is None else groups[batch]
        assert (np.diff(there) >= 0).all()
    if grouped:
        check_balanced(batches, groups)
    if n > 40 and len(batches) > 2:
        assert not same(batches, grouping.random_batches(n, size, seed + 1, groups))


@MANY
@given(labels(), SIZES, SEEDS, st.integers(2, 32))
def test_distinct_batches(documents, size, seed, most):
    n, largest = len(documents), np.bincount(documents).max()
    groups = grouping.jackknife_groups(documents, most)
    assume(n // largest >= 4)
    batches = grouping.distinct_batches(documents, size, seed, groups)
    check_all_once_and_even(batches, n, size)
    assert len(batches) >= largest
    for batch in batches:
        assert len(np.unique(documents[batch])) == len(batch)
        assert (np.diff(groups[batch]) >= 0).all()
    check_balanced(batches, groups)
    assert same(batches, grouping.distinct_batches(documents, size, seed, groups))
    if n > 40 and len(batches) > 2:
        assert not same(batches, grouping.distinct_batches(documents, size, seed + 1, groups))


@MANY
@given(labels(), st.integers(2, 70))
def test_groups_hold_whole_documents_of_even_size(documents, most):
    groups = grouping.jackknife_groups(documents, most)
    per_document = [np.unique(groups[documents == d]) for d in range(documents.max() + 1)]
    assert all(len(found) == 1 for found in per_document)
    assert np.array_equal(np.unique(groups), np.arange(groups.max() + 1))
    assert groups.max() < most
    sizes = np.bincount(documents)
    fair = len(documents) / min(most, len(sizes))
    assert (np.abs(np.bincount(groups) - fair) <= fair + sizes.max()).all()
    assert np.bincount(groups).max() < fair + sizes.max()


@MANY
@given(labels(), SIZES, SEEDS)
def test_batches_of_a_map(documents, size, seed):
    """What the engine draws: in every batch there is something left whichever group is left out."""
    assume(len(documents) // np.bincount(documents).max() >= 4)
    made = drawn(len(documents), size, seed, documents)
    check_all_once_and_even(made.batches, len(documents), size)
    if made.groups is not None:
        check_balanced(made.batches, made.groups)
    single = len(set(documents.tolist())) == len(documents)
    assert made.over == "documents" or single
    for batch in made.batches:
        assert len(np.unique(documents[batch])) == len(batch)


def test_every_pair_of_documents_meets_as_often():
    """Over many draws: 6 documents of 3 samples, of which batches of 6 hold one each."""
    documents = np.repeat(np.arange(8), [3, 1, 2, 3, 3, 1, 2, 3])
    met = np.zeros((18, 18))
    groups = np.zeros(18, dtype=np.int64)
    for seed in range(3000):
        for batch in grouping.distinct_batches(documents, 6, seed, groups):
            met[np.ix_(batch, batch)] += 1
    apart = documents[:, None] != documents[None]
    assert met[~apart & ~np.eye(18, dtype=bool)].max() == 0
    # whom a sample meets does not depend on which of its document's it is
    for one in range(8):
        for other in range(one):
            between = met[np.ix_(documents == one, documents == other)]
            assert abs(between - between.mean()).max() < 5 * np.sqrt(between.mean())


def test_documents_are_numbered_as_they_appear():
    numbers = grouping.document_numbers(["b", "a", "b", ("c", 1), "a"])
    assert numbers.tolist() == [0, 1, 0, 2, 1]
    assert grouping.document_numbers(np.array([7, 7, 3])).tolist() == [0, 0, 1]


@pytest.mark.parametrize("sizes", [[3, 3, 3], [40, 1, 1, 1, 1], [5, 5, 5, 4]])
def test_batches_that_cannot_be_made_are_an_error(sizes):
    documents = np.repeat(np.arange(len(sizes)), sizes)
    with pytest.raises(ComparisonError, match="batches of 4 different documents cannot be made"):
        grouping.distinct_batches(documents, 64, 0, np.zeros_like(documents))


@given(labels(), SEEDS)
def test_one_sample_a_document(documents, seed):
    rows = grouping.one_a_document(documents, seed)
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(np.sort(documents[rows]), np.arange(documents.max() + 1))


def test_pairs_within_documents_are_drawn_alike():
    documents = np.array([0, 1, 1, 2, 0, 2, 2])  # 1 + 1 + 3 pairs of 21
    assert grouping.share_within(documents) == pytest.approx(5 / 21)
    pairs = grouping.pairs_within(documents, 20_000, 0)
    assert (documents[pairs[:, 0]] == documents[pairs[:, 1]]).all()
    assert (pairs[:, 0] != pairs[:, 1]).all()
    counts = np.unique(np.sort(pairs, axis=1), axis=0, return_counts=True)[1]
    assert len(counts) == 5
    assert abs(counts / 20_000 - 1 / 5).max() < 0.02
