"""Samples of documents: a map is about the text of different ones, in whatever order it comes."""

import numpy as np
import pytest
from hidden_states import layers
from hypothesis import given, settings
from hypothesis import strategies as st

from engramcka import cka_map
from engramcka.results import CkaMap

DOCUMENTS, EACH, WIDTH = 64, 64, 64
BOTH = pytest.mark.parametrize("estimator", ["minibatch", "debiased"])


@pytest.fixture(scope="module")
def clustered():
    """Two models that agree on what a document is, and on nothing else; in order of documents."""
    rng = np.random.default_rng(3)
    shared = np.repeat(rng.normal(size=(DOCUMENTS, WIDTH)) * 3, EACH, axis=0)
    y_own, x_own = rng.normal(size=(2, DOCUMENTS * EACH, WIDTH))
    turned = shared @ np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    groups = np.repeat(np.arange(DOCUMENTS), EACH)
    return [(shared + y_own).astype(np.float32)], [(turned + x_own).astype(np.float32)], groups


def value(y, x, **options):
    return cka_map(y, x, **options).similarity[0, 0]


def test_random_batches_give_what_all_samples_at_once_do(clustered):
    y, x, _ = clustered
    assert value(y, x, estimator="debiased") == pytest.approx(0.8920, abs=5e-5)
    for size in (64, 256, 1024):
        assert value(y, x, batch_size=size) == pytest.approx(0.892, abs=0.005)


def test_batches_of_neighbours_do_not(clustered):
    """As other packages take them: 64 are one document, 256 four of them."""
    y, x, _ = clustered
    for size, expected in ((64, 0.0067), (256, 0.986), (1024, 0.954)):
        found = value(y, x, batch_size=size, batches="in-order")
        assert found == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    "options", [{"batch_size": 64}, {"batch_size": 1024}, {"estimator": "debiased"}]
)
def test_without_pairs_of_one_document_it_is_the_population_s(clustered, options):
    y, x, groups = clustered
    found = cka_map(y, x, groups=groups, **options)
    population = 9**2 / 10**2  # variance of a dimension: 9 of the document, 1 of the sample
    assert found.similarity[0, 0] == pytest.approx(population, abs=0.015)
    assert found.ci_low[0, 0] < population < found.ci_high[0, 0]
    assert found.all_pairs[0, 0] == pytest.approx(0.892, abs=0.005)
    assert (found.pairs, found.n_documents) == ("across-documents", DOCUMENTS)
    assert found.pairs_within == pytest.approx((EACH - 1) / (DOCUMENTS * EACH - 1))
    [said] = [w for w in found.warnings if w.startswith("pairs of samples of one document (1.5%")]
    assert "change 1 of 1 cells by more than their interval, by up to +0.09" in said


@pytest.mark.parametrize("options", [{}, {"batch_size": 64}, {"estimator": "debiased"}])
def test_what_all_pairs_would_give_is_what_they_give(options):
    """The guess from 512 pairs of one document, for layers alike in several ways."""
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(60), rng.integers(1, 40, 60))
    of = rng.standard_normal((60, 8))[groups] + 0.3 * rng.standard_normal((len(groups), 8))
    y, x = (layers(rng, len(groups), (12, 20), shared=2 * of) for _ in range(2))
    apart = cka_map(y, x, groups=groups, **options)
    full = cka_map(y, x, groups=groups, estimator="debiased", pairs="all")
    assert np.abs(apart.similarity - full.similarity).max() > 0.02
    assert np.abs(apart.all_pairs - full.similarity).max() < 0.02
    assert full.all_pairs is None
    assert full.pairs == "all"


def test_linear_products_are_not_mixed_into_another_kernel(clustered):
    y, x, groups = clustered
    found = cka_map(y, x, groups=groups, kernel="rbf", batch_size=64)
    assert found.all_pairs is None
    assert found.pairs_within > 0.015
    assert not any("pairs of samples" in w for w in found.warnings)


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["minibatch", "debiased"]),
    st.booleans(),
    st.sampled_from([16, 64, 1024]),
)
def test_the_order_of_samples_changes_nothing_but_noise(seed, estimator, with_groups, batch_size):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(50), rng.integers(1, 25, 50))
    of = rng.standard_normal((50, 8))[groups]
    y, x = (layers(rng, len(groups), (9, 30), shared=2 * of) for _ in range(2))
    order = rng.permutation(len(groups))
    options = {"estimator": estimator, "batch_size": batch_size}
    one = cka_map(y, x, groups=groups if with_groups else None, **options)
    y, x = ([a[order] for a in side] for side in (y, x))
    other = cka_map(y, x, groups=groups[order] if with_groups else None, **options)
    if estimator == "debiased":
        np.testing.assert_allclose(one.similarity, other.similarity, rtol=0, atol=1e-6)
    apart = np.abs(one.similarity - other.similarity)
    half, other_half = ((found.ci_high - found.ci_low) / 2 for found in (one, other))
    if with_groups:
        assert (apart <= np.minimum(half, other_half)).all()
        assert (np.maximum(half, other_half) < 5 * np.minimum(half, other_half)).all()
    else:  # intervals over batches are about the draw of them too, and groups are neighbours
        assert (apart <= half + other_half).all()


def share_documents(rng, draws):
    """Models that have nothing in common but the documents' bounds, 64 of 32 samples."""
    groups = np.repeat(np.arange(64), 32)
    y, x = (
        [
            (rng.normal(size=(64, 16))[groups] + 0.5 * rng.normal(size=(2048, 16))).astype(
                np.float32
            )
            for _ in range(draws)
        ]
        for _ in range(2)
    )
    return y, x, groups


@BOTH
def test_models_that_share_documents_only_have_nothing_in_common(estimator):
    rng = np.random.default_rng(5)
    values, low, high = [], [], []
    for seed in range(3):
        y, x, groups = share_documents(rng, 10)
        found = cka_map(y, x, groups=groups, estimator=estimator, seed=seed)
        values.append(found.similarity)
        low.append(found.ci_low)
        high.append(found.ci_high)
    low, high = np.array(low), np.array(high)
    assert abs(np.mean(values)) < 0.01
    # more often than in 95 %: near zero the jackknife's variance is too large by up to twice
    assert ((low <= 0) & (high >= 0)).mean() >= 0.95
    assert (high - low).mean() / 2 < 4 * np.std(values)


def test_counting_pairs_of_one_document_they_would():
    y, x, groups = share_documents(np.random.default_rng(5), 4)
    for estimator in ("minibatch", "debiased"):
        found = cka_map(y, x, groups=groups, estimator=estimator, pairs="all")
        assert found.similarity.mean() == pytest.approx(0.13, abs=0.01)
        assert (found.ci_low > 0).all()  # wrongly so
    apart = cka_map(y, x, groups=groups, estimator="debiased")
    assert apart.all_pairs.mean() == pytest.approx(0.13, abs=0.02)


@BOTH
def test_their_p_values_are_uniform(estimator):
    rng = np.random.default_rng(6)
    p = []
    for seed in range(3):
        y, x, groups = share_documents(rng, 16)
        keep = rng.permutation(2048)[:700]  # of uneven documents, in no order
        y, x = ([a[keep] for a in side] for side in (y, x))
        found = cka_map(y, x, groups=groups[keep], estimator=estimator, permutations=59, seed=seed)
        p += [*np.diag(found.p_value)]
        assert found.null.mean() == pytest.approx(0, abs=0.01)
        assert found.null_similarity.shape == (16, 16)
    distance = np.abs(np.sort(p) - np.arange(1, 49) / 48).max()
    assert distance < 1.63 / np.sqrt(48)  # Kolmogorov and Smirnov at 1 %
    assert min(p) >= 1 / 60


@BOTH
def test_related_documents_have_the_smallest_p(clustered, estimator):
    y, x, groups = clustered
    found = cka_map(y, x, groups=groups, estimator=estimator, permutations=39, batch_size=64)
    assert found.p_value[0, 0] == 1 / 40


LAYERS = 3


def of_known_truth(rng, maps, groups):
    """y = z A + u + e, x = z B + v + e': z, u and v a document's, e and e' a sample's."""
    z = rng.standard_normal((groups.max() + 1, 4))
    return [
        [
            (z @ a + rng.standard_normal((len(z), 6)))[groups]
            + rng.standard_normal((len(groups), 6))
            for a in side
        ]
        for side in maps
    ]


@pytest.mark.parametrize("estimator", ["minibatch", "debiased", "biased"])
def test_intervals_cover_the_truth_over_documents_of_any_size(estimator):
    """Of cells, soft alignments and the shift; benchmarks/coverage.py has more of it."""
    rng = np.random.default_rng(7)
    maps = 0.8 * rng.standard_normal((2, LAYERS, 4, 6))
    own = [[np.linalg.norm(a.T @ a + 2 * np.eye(6)) for a in side] for side in maps]
    truth = np.array([[((a.T @ b) ** 2).sum() for b in maps[1]] for a in maps[0]])
    truth /= np.outer(*own)
    groups = np.repeat(np.arange(24), rng.integers(1, 65, 24))
    found = []
    for seed in range(5):
        drawn = [of_known_truth(rng, maps, groups) for _ in range(12)]
        sides = [[layer for one in drawn for layer in one[side]] for side in range(2)]
        whole = cka_map(*sides, estimator=estimator, groups=groups, seed=seed)
        for first in range(0, 36, LAYERS):
            here = (..., slice(first, first + LAYERS), slice(first, first + LAYERS))
            parts = (whole.similarity, whole.jackknife, whole.ci_low, whole.ci_high)
            similarity, jackknife, low, high = (part[here] for part in parts)
            found.append(CkaMap(similarity, jackknife=jackknife, ci_low=low, ci_high=high))
    mean = np.mean([one.similarity for one in found], axis=0)
    if estimator == "biased":
        assert (mean - truth).mean() > 0.005
        truth = mean
    assert np.abs(mean - truth).max() < 0.04
    cells = np.mean([(one.ci_low <= truth) & (truth <= one.ci_high) for one in found])
    aligned = CkaMap(truth).soft_alignment(LAYERS)
    ends = [one.soft_alignment_interval(LAYERS) for one in found]
    columns = np.mean([(low <= aligned) & (aligned <= high) for low, high in ends])
    assert 0.90 <= cells <= 0.99
    assert 0.90 <= columns <= 0.99
