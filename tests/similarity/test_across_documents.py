"""Pairs of samples of different documents only, against sums over all sets of four samples."""

import numpy as np
import pytest
import reference
import torch
from hidden_states import KINDS, drawn, layers
from hypothesis import given, settings
from hypothesis import strategies as st

from engramcka import cka_map
from engramcka.errors import ComparisonError
from engramcka.similarity import exact

TOLERANCE = 1e-6


def labels(rng, sizes):
    """A name a sample, in no order."""
    return [f"d{d}" for d in rng.permutation(np.repeat(np.arange(len(sizes)), sizes))]


def of_documents(rng, groups, widths, dtype=np.float64):
    """Layers whose samples share a vector with those of their document."""
    names, which = np.unique(groups, return_inverse=True)
    shared = rng.standard_normal((len(names), 8))[which]
    return [
        (
            shared @ rng.standard_normal((8, w))
            + 2 * rng.standard_normal((len(names), w))[which]
            + rng.standard_normal((len(groups), w))
            + 5
        ).astype(dtype)
        for w in widths
    ]


@pytest.mark.parametrize(
    "sizes", [[1, 1, 1, 1], [1, 2, 1, 3, 1], [2, 2, 2, 2, 2], [4, 1, 1, 1, 3], [5, 2, 1, 1]]
)
def test_the_average_over_all_sets_of_four_samples(sizes):
    rng = np.random.default_rng(sum(sizes))
    groups = labels(rng, sizes)
    y, x = of_documents(rng, groups, (3,)), of_documents(rng, groups, (4,))
    k, l = (reference.gram(side[0]) for side in (y, x))  # noqa: E741
    cross, own_k, own_l = (
        reference.hsic_of_four(a, b, groups) for a, b in ((k, l), (k, k), (l, l))
    )
    assert reference.hsic_across(k, l, groups) == pytest.approx(cross, rel=1e-10)
    found = cka_map(y, x, estimator="debiased", groups=groups)
    with np.errstate(invalid="ignore"):
        expected = cross / np.sqrt(own_k * own_l)
    if own_k > 0 and own_l > 0:
        assert found.similarity[0, 0] == pytest.approx(expected, abs=1e-9)
    else:
        assert np.isnan(found.similarity[0, 0])


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(8, 25), st.integers(1, 12))
def test_documents_of_any_size_in_any_order(seed, count, most):
    rng = np.random.default_rng(seed)
    groups = labels(rng, rng.integers(1, most + 1, count))
    y, x = of_documents(rng, groups, (3, 20, 20)), of_documents(rng, groups, (4, 9))
    found = cka_map(y, x, estimator="debiased", groups=groups).similarity
    expected = reference.cka_across(y, x, groups)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("block", [256, 7])
def test_the_jackknife_is_the_map_without_the_documents(block, monkeypatch):
    monkeypatch.setattr(exact, "BLOCK", block)
    rng = np.random.default_rng(2)
    groups = labels(rng, rng.integers(1, 10, 34))
    y, x = of_documents(rng, groups, (6, 30)), of_documents(rng, groups, (5,))
    found = cka_map(y, x, estimator="debiased", groups=groups)
    np.testing.assert_allclose(
        found.similarity, reference.cka_across(y, x, groups), rtol=0, atol=1e-9
    )
    left_out = without_each(groups, 32)
    assert len(found.jackknife) == len(left_out)
    for replicate, keep in zip(found.jackknife, left_out, strict=True):
        expected = reference.cka_across(y, x, groups, keep)
        np.testing.assert_allclose(replicate, expected, rtol=0, atol=1e-9)
    assert (found.interval_over, found.n_documents) == ("documents", 34)


def without_each(groups, most):
    """The samples that stay, for each group of neighbouring documents of even numbers of samples.

    Documents are in the order in which they appear; one belongs where its middle sample does.
    """
    names = list(dict.fromkeys(groups))
    before, result = 0, {}
    for name in names:
        size = groups.count(name)
        result.setdefault(int((before + size / 2) * most / len(groups)), set()).add(name)
        before += size
    return [np.flatnonzero([name not in left for name in groups]) for left in result.values()]


@pytest.mark.parametrize("estimator", ["minibatch", "debiased"])
def test_the_jackknife_of_all_pairs_is_the_map_without_the_documents(estimator):
    rng = np.random.default_rng(12)
    groups = labels(rng, rng.integers(1, 10, 40))
    y, x = of_documents(rng, groups, (6, 30)), of_documents(rng, groups, (5,))
    options = {"estimator": estimator, "groups": groups, "pairs": "all", "batch_size": 50}
    found = cka_map(y, x, **options)
    if estimator == "minibatch":
        made = drawn(len(groups), 50, 0, groups, "all")
        keeps = [np.flatnonzero(made.groups != g) for g in range(made.groups.max() + 1)]
        parts = [[batch[np.isin(batch, keep)] for batch in made.batches] for keep in keeps]
    else:
        keeps = without_each(groups, 32)
        parts = [[keep] for keep in keeps]
    assert len(found.jackknife) == len(keeps) > 7
    for replicate, rest in zip(found.jackknife, parts, strict=True):
        expected = reference.cka_matrix(y, x, parts=rest)
        np.testing.assert_allclose(replicate, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("batch_size", [1024, 30, 10])
def test_minibatches_and_their_jackknife(batch_size):
    rng = np.random.default_rng(3)
    groups = labels(rng, rng.integers(1, 9, 60))
    y, x = of_documents(rng, groups, (6, 30)), of_documents(rng, groups, (5,))
    found = cka_map(y, x, groups=groups, batch_size=batch_size, seed=4)
    made = drawn(len(groups), batch_size, 4, groups)
    expected = reference.cka_matrix(y, x, parts=made.batches)
    np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=1e-9)
    assert len(found.jackknife) == made.groups.max() + 1 == 8
    for group, replicate in enumerate(found.jackknife):
        rest = [batch[made.groups[batch] != group] for batch in made.batches]
        expected = reference.cka_matrix(y, x, parts=rest)
        np.testing.assert_allclose(replicate, expected, rtol=0, atol=1e-9)
    assert (found.pairs, found.n_batches) == ("across-documents", len(made.batches))


@pytest.mark.parametrize("estimator", ["minibatch", "debiased"])
def test_a_shift_changes_nothing(estimator):
    rng = np.random.default_rng(4)
    groups = labels(rng, rng.integers(1, 9, 40))
    y, x = of_documents(rng, groups, (6, 12)), of_documents(rng, groups, (5,))
    moved = [[layer + 100 * rng.standard_normal(layer.shape[1]) for layer in s] for s in (y, x)]
    one, other = (cka_map(*s, estimator=estimator, groups=groups) for s in ((y, x), moved))
    np.testing.assert_allclose(one.similarity, other.similarity, rtol=0, atol=1e-9)
    np.testing.assert_allclose(one.jackknife, other.jackknife, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_float32(kind):
    """To 1e-6, replicates too, whatever the data."""
    rng = np.random.default_rng(6)
    groups = labels(rng, rng.integers(1, 13, 34))
    n = len(groups)
    shared = rng.standard_normal((len(set(groups)), 8))[np.unique(groups, return_inverse=True)[1]]
    y, x = (
        [kind(a) for a in layers(rng, n, widths, shared=shared)] for widths in ((3, 200), (64, 500))
    )
    found = cka_map(y, x, estimator="debiased", groups=groups)
    expected = reference.cka_across(y, x, groups)
    np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=TOLERANCE)
    keep = without_each(groups, 32)[11]
    expected = reference.cka_across(y, x, groups, keep)
    np.testing.assert_allclose(found.jackknife[11], expected, rtol=0, atol=TOLERANCE)
    for batch_size in (20, 1024):
        found = cka_map(y, x, groups=groups, batch_size=batch_size)
        made = drawn(n, batch_size, 0, groups)
        expected = reference.cka_matrix(y, x, parts=made.batches)
        np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=TOLERANCE)
        rest = [batch[made.groups[batch] != 5] for batch in made.batches]
        expected = reference.cka_matrix(y, x, parts=rest)
        np.testing.assert_allclose(found.jackknife[5], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_of_samples_without_documents(kind):
    """Replicates of the minibatch estimator with groups of samples in every batch."""
    rng = np.random.default_rng(16)
    y, x = ([kind(a) for a in layers(rng, 300, widths)] for widths in ((3, 200), (64,)))
    found = cka_map(y, x, batch_size=100)
    made = drawn(300, 100)
    rest = [batch[made.groups[batch] != 2] for batch in made.batches]
    expected = reference.cka_matrix(y, x, parts=rest)
    np.testing.assert_allclose(found.jackknife[2], expected, rtol=0, atol=TOLERANCE)


def test_documents_of_one_sample_are_samples():
    rng = np.random.default_rng(7)
    y, x = layers(rng, 90, (5, 9)), layers(rng, 90, (4,))
    for estimator in ("minibatch", "debiased"):
        plain = cka_map(y, x, estimator=estimator, batch_size=20)
        named = cka_map(y, x, estimator=estimator, batch_size=20, groups=list(range(90)))
        assert np.array_equal(plain.similarity, named.similarity)
        assert np.array_equal(plain.jackknife, named.jackknife)
        assert (plain.pairs, plain.n_documents) == ("all", None)
        assert (named.pairs, named.n_documents) == ("across-documents", 90)


def test_dropped_samples_leave_the_documents_of_the_others():
    rng = np.random.default_rng(8)
    groups = labels(rng, rng.integers(2, 9, 30))
    y, x = of_documents(rng, groups, (6,)), of_documents(rng, groups, (5,))
    gone = [3, 40, 41]
    rest = np.delete(np.arange(len(groups)), gone)
    y[0][gone, 1] = np.nan
    for estimator in ("minibatch", "debiased"):
        options = {"estimator": estimator, "batch_size": 20}
        found = cka_map(y, x, groups=groups, nonfinite="drop", **options)
        expected = cka_map([y[0][rest]], [x[0][rest]], groups=[groups[i] for i in rest], **options)
        assert np.array_equal(found.similarity, expected.similarity)
        assert np.array_equal(found.jackknife, expected.jackknife)


@pytest.mark.parametrize("estimator", ["minibatch", "debiased"])
def test_too_few_documents_is_an_error(estimator):
    rng = np.random.default_rng(9)
    y, x = layers(rng, 12, (5,)), layers(rng, 12, (4,))
    with pytest.raises(ComparisonError, match="documents"):
        cka_map(y, x, estimator=estimator, groups=[0] * 4 + [1] * 4 + [2] * 4)
    with pytest.raises(ComparisonError, match="groups names 11 samples' documents, y has 12"):
        cka_map(y, x, estimator=estimator, groups=[0] * 11)
    found = cka_map(y, x, estimator=estimator, groups=[0] * 4 + [1] * 4 + [2] * 4, pairs="all")
    assert np.isfinite(found.similarity).all()


@pytest.mark.parametrize("estimator", ["minibatch", "debiased", "biased"])
def test_too_few_documents_have_no_p_value_and_say_so(estimator):
    rng = np.random.default_rng(3)
    y, x = ([rng.standard_normal((64, 5))] for _ in range(2))
    found = cka_map(
        y, x, estimator=estimator, groups=np.arange(64) % 3, pairs="all", permutations=9
    )
    assert found.null is found.p_value is None
    assert "no p values: fewer than 4 documents to shuffle" in found.warnings


def test_no_number_is_no_small_p_value():
    from engramcka.results import CkaMap

    known = CkaMap([[0.5, 0.5]], null=[[[0.1, 0.1]]], null_similarity=[[0.4, np.nan]])
    assert np.array_equal(known.p_value, [[0.5, np.nan]], equal_nan=True)


def test_labels_of_every_kind_are_the_same_documents():
    rng = np.random.default_rng(3)
    documents = np.arange(60) // 5
    y, x = ([rng.standard_normal((12, 5))[documents]] for _ in range(2))
    y[0] += 0.1 * rng.standard_normal((60, 5))
    expected = cka_map(y, x, groups=documents).similarity
    for labels in (torch.from_numpy(documents), documents.tolist(), [str(d) for d in documents]):
        assert np.array_equal(cka_map(y, x, groups=labels).similarity, expected)
    for labels in ([float("nan")] * 60, [["a"]] * 60, list(torch.arange(60))):
        with pytest.raises(ComparisonError, match="a label is a text or a number"):
            cka_map(y, x, groups=labels)


def test_a_group_that_leaves_too_few_documents_leaves_no_interval():
    rng = np.random.default_rng(3)
    documents = np.repeat(np.arange(5), [1, 1, 100, 100, 100])
    y, x = ([rng.standard_normal((302, 5))] for _ in range(2))
    found = cka_map(y, x, estimator="debiased", groups=documents)
    assert found.jackknife is None
    assert any(warning.startswith("no intervals") for warning in found.warnings)


def test_the_shuffled_samples_are_as_precise_as_the_map():
    rng = np.random.default_rng(3)
    y, x = ([rng.standard_normal((300, 8)).astype(np.float32)] for _ in range(2))
    y[0][7] *= 1e4
    found = cka_map(y, x, estimator="debiased", permutations=3)
    assert found.null_similarity == pytest.approx(found.similarity, abs=1e-9)


def test_shuffles_keep_documents_together_in_order_too():
    p = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        documents = np.repeat(np.arange(32), 16)
        y, x = (
            [rng.standard_normal((32, 8))[documents] + 0.3 * rng.standard_normal((512, 8))]
            for _ in range(2)
        )
        options = {"batches": "in-order", "batch_size": 512, "permutations": 19}
        p.append(cka_map(y, x, groups=documents, seed=seed, **options).p_value[0, 0])
    assert np.mean(p) > 0.25
