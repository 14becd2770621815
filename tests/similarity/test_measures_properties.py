"""What holds of each measure for any hidden states: invariances, range, symmetry, itself."""

import numpy as np
import pytest
from hidden_states import layers
from hypothesis import given, settings
from hypothesis import strategies as st

from engramcka import similarity_map
from engramcka.measures import MEASURES

OTHERS = [name for name, measure in MEASURES.items() if not measure.is_cka]
SEEDS = st.integers(0, 2**32 - 1)
SAMPLES = st.integers(42, 120)
QUICK = settings(max_examples=5, deadline=None)


def two_models(seed, n):
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 8))
    y, x = (
        [a.astype(np.float64) for a in layers(rng, n, widths, shared=shared)]
        for widths in ((4, 9, 30), (12, 4))
    )
    return rng, y, x


def similarity(y, x, measure, **options):
    return similarity_map(y, x, measure=measure, **options).similarity


def rotated(rng, sides):
    return [a @ np.linalg.qr(rng.standard_normal((a.shape[1],) * 2))[0] for a in sides]


@pytest.mark.parametrize("measure", OTHERS)
@QUICK
@given(SEEDS, SAMPLES)
def test_within_its_range_and_one_with_itself(measure, seed, n):
    _, y, x = two_models(seed, n)
    found = similarity(y, x, measure)
    known = MEASURES[measure]
    # A sum over neighbours' products, which chance may put a little below zero.
    low = known.low - (0.05 if measure == "cknna" else 1e-9)
    assert ((found >= low) & (found <= known.high + 1e-9)).all()
    np.testing.assert_allclose(np.diag(similarity(y, y, measure)), 1, rtol=0, atol=1e-9)


@pytest.mark.parametrize("measure", OTHERS)
@QUICK
@given(SEEDS, SAMPLES)
def test_symmetric_and_the_order_of_samples_changes_nothing(measure, seed, n):
    rng, y, x = two_models(seed, n)
    one = similarity(y, x, measure)
    np.testing.assert_allclose(similarity(x, y, measure).T, one, rtol=0, atol=1e-9)
    order, documents = rng.permutation(n), rng.integers(0, 21, n)
    one = similarity(y, x, measure, groups=documents)
    sides = [[a[order] for a in side] for side in (y, x)]
    other = similarity(*sides, measure, groups=documents[order])
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-9)


@pytest.mark.parametrize("measure", ["procrustes", "mutual-knn", "cknna", "svcca", "pwcca"])
@QUICK
@given(SEEDS, SAMPLES, st.floats(1e-3, 1e3))
def test_rotation_and_scale_change_nothing(measure, seed, n, scale):
    rng, y, x = two_models(seed, n)
    if measure == "pwcca":  # only of the side that gives no weights, the one with more components
        y, x = y[2:], [x[1][:, :2]]
        one, other = similarity(y, x, measure), similarity(rotated(rng, y), x, measure)
    else:
        one = similarity(y, x, measure)
        other = similarity([scale * a for a in rotated(rng, y)], x, measure)
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-8)


@pytest.mark.parametrize("measure", ["mutual-knn", "cknna", "rsa"])
@QUICK
@given(SEEDS, SAMPLES)
def test_a_factor_of_each_sample_changes_nothing(measure, seed, n):
    rng, y, x = two_models(seed, n)
    factors = rng.uniform(0.1, 10, (n, 1))
    offset = rng.standard_normal((n, 1)) if measure == "rsa" else 0
    other = similarity([a * factors + offset for a in y], x, measure)
    np.testing.assert_allclose(other, similarity(y, x, measure), rtol=0, atol=1e-8)


@pytest.mark.parametrize("measure", ["procrustes", "svcca", "pwcca"])
@QUICK
@given(SEEDS, SAMPLES)
def test_a_common_offset_changes_nothing(measure, seed, n):
    rng, y, x = two_models(seed, n)
    moved = [a + 10 * rng.standard_normal(a.shape[1]) for a in y]
    np.testing.assert_allclose(
        similarity(moved, x, measure), similarity(y, x, measure), rtol=0, atol=1e-8
    )


@QUICK
@given(SEEDS, SAMPLES)
def test_canonical_correlations_know_no_linear_map_of_what_they_keep(seed, n):
    """Of all components, SVCCA is the same after any invertible map of a narrow layer."""
    rng, y, x = two_models(seed, n)
    mixed = y[0] @ (rng.standard_normal((4, 4)) + 3 * np.eye(4))
    one, other = (similarity([a], x[1:], "svcca", variance=1.0) for a in (y[0], mixed))
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-6)


@QUICK
@given(SEEDS, SAMPLES)
def test_an_order_of_the_dimensions_is_nothing_to_ranks(seed, n):
    rng, y, x = two_models(seed, n)
    turned = [a[:, rng.permutation(a.shape[1])] for a in y]
    np.testing.assert_allclose(
        similarity(turned, x, "rsa"), similarity(y, x, "rsa"), rtol=0, atol=1e-9
    )
