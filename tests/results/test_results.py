"""What is read out of a map, on maps small enough to work out by hand."""

import numpy as np
import pytest

from engramcka.errors import ComparisonError
from engramcka.paper import published_maps
from engramcka.results import CkaMap, LossSweep, jackknife_interval, soft_alignment
from engramcka.results.statistics import paired_interval


def by_hand(similarity, k, first):
    """Equation 9 with loops."""
    result = []
    for column in np.asarray(similarity).T:
        top = sorted(range(len(column)), key=lambda i: -column[i])[:k]
        result.append(sum(column[i] * (i + first) for i in top) / sum(column[i] for i in top))
    return np.array(result)


@pytest.mark.parametrize("name", ["Engram-27B", "Engram-40B"])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("k", [1, 5, 30])
def test_soft_alignment_of_the_papers_maps(name, first, k):
    cka = published_maps()[name]
    found = cka.soft_alignment(k, first_layer=first)
    np.testing.assert_allclose(found, by_hand(cka.similarity, k, first), rtol=1e-12)


def test_the_papers_claim():
    """Engram-27B's layer 5 does what about layer 12 of the MoE does (section 6.2)."""
    cka = published_maps()["Engram-27B"]
    assert cka.soft_alignment(first_layer=0)[5] == pytest.approx(12, abs=0.5)
    assert cka.soft_alignment_interval() is None
    assert cka.p_value is None


def test_soft_alignment_leaves_out_what_says_nothing():
    similarity = [[0.5, np.nan, -0.2], [-0.5, np.nan, -0.1], [0.5, np.nan, np.nan]]
    found = CkaMap(similarity, y_layers=(2, 4, 6)).soft_alignment(k=3)
    np.testing.assert_array_equal(found, [4, np.nan, np.nan])
    with pytest.raises(ComparisonError, match="k = 0"):
        soft_alignment(similarity, [1, 2, 3], k=0)


def test_soft_alignment_of_many_maps_at_once():
    maps = np.random.default_rng(0).random((4, 3, 6, 5))
    found = soft_alignment(maps, np.arange(6), 2)
    assert found.shape == (4, 3, 5)
    np.testing.assert_allclose(found[2, 1], by_hand(maps[2, 1], 2, 0))


def test_the_alignment_is_numbered_as_the_layers_are():
    similarity = np.eye(4)
    cka = CkaMap(similarity, y_layers=(2, 4, 6, 8), x_layers=(1, 3, 5, 7))
    assert cka.soft_alignment(k=1).tolist() == [2, 4, 6, 8]


def test_jackknife_interval_of_a_mean_is_students():
    """For a mean the jackknife is exact: the t interval of its textbook."""
    values = np.random.default_rng(1).standard_normal(10)
    without = (values.sum() - values) / 9
    low, high = jackknife_interval(values.mean(), without)
    half = 2.262157 * values.std(ddof=1) / np.sqrt(10)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-6)
    with pytest.raises(ComparisonError, match="at least 2 groups"):
        jackknife_interval(0.0, [0.0])


def test_the_interval_of_one_seeds_differences_is_students_over_documents():
    rng = np.random.default_rng(2)
    differences = rng.normal(-0.5, 0.1, (1, 10))
    half = 2.262157 * differences.std(ddof=1) / np.sqrt(10)
    expected = differences.mean() - half, differences.mean() + half
    assert paired_interval(differences, np.arange(10)) == pytest.approx(expected, rel=1e-6)
    # Two sequences alike of every document say no more than one.
    twice = np.repeat(differences, 2, axis=1)
    assert paired_interval(twice, np.arange(20) // 2) == pytest.approx(expected, rel=1e-6)
    assert np.isnan(paired_interval(differences, np.zeros(10, dtype=np.int64))).all()


def test_the_interval_over_seeds_alone_is_students():
    seeds = np.array([-0.5, -0.4, -0.45, -0.52])
    differences = np.repeat(seeds[:, None], 30, axis=1)
    half = 3.182446 * seeds.std(ddof=1) / 2
    expected = seeds.mean() - half, seeds.mean() + half
    assert paired_interval(differences, np.arange(30)) == pytest.approx(expected, rel=1e-6)
    assert paired_interval(np.full((2, 3), 0.5), np.arange(3)) == (0.5, 0.5)


@pytest.mark.parametrize(("of_seed", "of_document"), [(0.0, 1.0), (0.3, 1.0), (0.5, 0.3)])
def test_the_interval_holds_the_truth_as_often_as_it_says(of_seed, of_document):
    rng = np.random.default_rng(3)
    held = []
    for _ in range(500):
        values = (
            of_seed * rng.standard_normal((3, 1))
            + of_document * rng.standard_normal((1, 20))
            + 0.3 * rng.standard_normal((3, 20))
        )
        low, high = paired_interval(values, np.arange(20))
        held.append(low <= 0.0 <= high)
    assert 0.925 < np.mean(held) <= 1.0


def test_a_sweeps_difference_is_taken_seed_by_seed():
    nan = np.nan
    sweep = LossSweep((1, 2), [[1.0, 2.0], [nan, 2.5]], [2.0, 2.8], seeds=(0, 1))
    np.testing.assert_allclose(sweep.difference, [(-1.0 - 0.8) / 2, -0.3])
    one = LossSweep((1, 2), [[1.0, 2.0], [nan, 2.5]], [2.0], seeds=(0, 1))
    np.testing.assert_allclose(one.difference, [-0.5, 0.5])
    with pytest.raises(ComparisonError, match="one difference_low a layer"):
        LossSweep((1, 2), [[1.0], [2.0]], [2.0], difference_low=[0.1])


def test_p_values_count_the_observed_one():
    null = np.array([[[0.1]], [[0.5]], [[0.9]]])
    assert CkaMap([[0.5]], null=null).p_value == [[3 / 4]]
    assert CkaMap([[0.95]], null=null).p_value == [[1 / 4]]
    assert np.isnan(CkaMap([[np.nan]], null=null).p_value).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"similarity": [1.0]}, "matrix"),
        ({"similarity": [[]]}, "matrix"),
        ({"similarity": [[1.0]], "y_layers": (1, 2)}, "y_layers names 2 layers, the map has 1"),
        ({"similarity": [[1.0]], "ci_low": [[1.0, 2.0]]}, "ci_low has shape"),
    ],
)
def test_what_does_not_fit_is_an_error(fields, message):
    with pytest.raises(ComparisonError, match=message):
        CkaMap(**fields)
