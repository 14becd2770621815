"""Trees and planes of distances, against slow second ways and points that are known."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engramcka.errors import ComparisonError
from engramcka.results.relations import average_linkage, classical_scaling, leaves


def distances(points):
    return np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=-1))


def members(joins, n):
    """The things of every group, from the joins."""
    found = {one: {one} for one in range(n)}
    for number, join in enumerate(joins):
        found[n + number] = found[join.left] | found[join.right]
    return found


@given(arrays(np.float64, st.tuples(st.integers(2, 9), st.just(3)), elements=st.floats(-1, 1)))
def test_the_two_groups_of_the_least_mean_distance_join(points):
    d = distances(points)
    joins = average_linkage(d)
    assert len(joins) == len(points) - 1
    groups = members(joins, len(points))
    left = set(range(len(points)))
    for number, join in enumerate(joins):
        means = {
            (a, b): np.mean([d[i, j] for i in groups[a] for j in groups[b]])
            for a in left
            for b in left
            if a < b
        }
        pair = tuple(sorted((join.left, join.right)))
        assert means[pair] == pytest.approx(join.height, abs=1e-9)
        assert join.height == pytest.approx(min(means.values()), abs=1e-9)
        assert min(groups[join.left]) < min(groups[join.right])
        left = left - {join.left, join.right} | {len(points) + number}
    assert all(b.height >= a.height - 1e-9 for a, b in pairwise(joins))
    order = leaves(joins)
    assert sorted(order) == list(range(len(points)))
    for group in groups.values():  # no branches cross
        places = sorted(order.index(one) for one in group)
        assert places == list(range(places[0], places[0] + len(group)))


def test_two_blocks_are_two_branches():
    d = np.array([[0, 9, 1, 8], [9, 0, 8, 2], [1, 8, 0, 7], [8, 2, 7, 0.0]])
    joins = average_linkage(d)
    assert [(one.left, one.right, one.height) for one in joins] == [
        (0, 2, 1.0), (1, 3, 2.0), (4, 5, 8.0),
    ]  # fmt: skip
    assert leaves(joins) == [0, 2, 1, 3]
    assert leaves(average_linkage([[0.0]])) == [0]


@given(arrays(np.int64, st.tuples(st.integers(3, 9), st.just(2)), elements=st.integers(-9, 9)))
def test_points_of_a_plane_keep_all_their_distances(points):
    found = classical_scaling(distances(points))
    np.testing.assert_allclose(distances(found.points), distances(points), atol=1e-6)
    whole = 1.0 if np.ptp(points, axis=0).max() else 0.0
    assert sum(found.shares) == pytest.approx(whole, abs=1e-6)


def test_shares_are_of_all_coordinates_and_of_distances_that_no_points_have():
    corners = np.eye(4)  # a regular body of three dimensions
    assert classical_scaling(distances(corners)).shares == pytest.approx((1 / 3, 1 / 3))
    line = classical_scaling(distances(np.array([[0.0], [1.0], [5.0]])))
    assert line.shares == pytest.approx((1.0, 0.0))
    np.testing.assert_allclose(line.points, [[-2, 0], [-1, 0], [3, 0]], atol=1e-9)
    broken = classical_scaling([[0, 1, 5], [1, 0, 1], [5, 1, 0.0]])  # 5 is more than 1 + 1
    assert sum(broken.shares) < 0.9
    same = classical_scaling(np.zeros((3, 3)))
    assert same.shares == (0.0, 0.0)
    assert not same.points.any()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (np.zeros((2, 3)), "a square matrix, found shape"),
        ([[0.0, 1.0], [2.0, 0.0]], "finite and symmetric"),
        ([[0.0, np.nan], [np.nan, 0.0]], "finite and symmetric"),
    ],
)
def test_what_are_no_distances_is_refused(wrong, says):
    for made in (average_linkage, classical_scaling):
        with pytest.raises(ComparisonError, match=says):
            made(wrong)
