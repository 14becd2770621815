"""Distances between a few things, as a tree and as points in the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engramcka.errors import ComparisonError
from engramcka.results.statistics import Float

_EXACT = 1e-9  # eigenvalues below this share of the largest are rounding
_TIED = 1e-12  # of the largest distance: distances that differ by less are one


@dataclass(frozen=True)
class Join:
    """Two groups that become one: a number below n is a thing, n + i the group of join i."""

    left: int  # holds the first thing of the two
    right: int
    height: float  # mean distance between the members of the two


@dataclass(frozen=True)
class Embedding:
    """Things as points in the plane."""

    points: Float  # (n, 2), centred; the second coordinate is 0 where the things lie on a line
    shares: tuple[float, float]  # of the distances' variance that each coordinate holds, 0 to 1


def average_linkage(distance: npt.ArrayLike) -> list[Join]:
    """The tree of average linkage (UPGMA, Sokal and Michener 1958): the two nearest groups join.

    Args:
        distance: (n, n), symmetric and finite; the diagonal is not looked at. Of equal distances
            the groups that hold the first things join first; what differs by rounding is equal.

    Returns:
        n - 1 joins, from the lowest up.

    Raises:
        ComparisonError: it is no such matrix.
    """
    between = _checked(distance).copy()
    np.fill_diagonal(between, np.inf)
    n = len(between)
    groups = list(range(n))  # in the order of their first things
    sizes = [1] * n
    joins: list[Join] = []
    finite = between[np.isfinite(between)]
    tied = _TIED * float(abs(finite).max(initial=0.0))
    while len(groups) > 1:
        nearest = int((between <= between.min() + tied).argmax())
        at, to = sorted(np.unravel_index(nearest, between.shape))
        joins.append(Join(groups[at], groups[to], float(between[at, to])))
        weights = np.array([sizes[at], sizes[to]]) / (sizes[at] + sizes[to])
        merged = weights @ between[[at, to]]
        merged[at] = np.inf
        between[at] = between[:, at] = merged
        between = np.delete(np.delete(between, to, axis=0), to, axis=1)
        groups[at], sizes[at] = n + len(joins) - 1, sizes[at] + sizes[to]
        del groups[to], sizes[to]
    return joins


def leaves(joins: list[Join]) -> list[int]:
    """The things in the order of the tree's leaves, so that no two branches cross."""
    below: dict[int, list[int]] = {}
    for number, join in enumerate(joins):
        sides = (below.pop(side, [side]) for side in (join.left, join.right))
        below[len(joins) + 1 + number] = [leaf for side in sides for leaf in side]
    return next(iter(below.values()), [0])


def classical_scaling(distance: npt.ArrayLike) -> Embedding:
    """Classical multidimensional scaling (Torgerson 1952): the plane that keeps most of the
    squared distances.

    A share is the eigenvalue of a coordinate over the sum of the sizes of all (Mardia 1978), so
    that distances which no points of any space have count against the plane. Of each coordinate the
    point farthest out is on the positive side.

    Args:
        distance: (n, n), symmetric and finite, with a diagonal of 0.

    Raises:
        ComparisonError: it is no such matrix.
    """
    d = _checked(distance)
    n = len(d)
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centre @ d**2 @ centre)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = np.where(values > _EXACT * max(float(values[0]), 0.0), values, 0.0)[:2]
    points = np.zeros((n, 2))
    points[:, : len(kept)] = vectors[:, :2] * np.sqrt(kept)
    farthest = points[abs(points).argmax(axis=0), np.arange(2)]
    points *= np.where(farthest < 0, -1.0, 1.0)
    total = float(abs(values).sum())
    first, second = ([*(kept / total).tolist(), 0.0] if total > 0 else [0.0, 0.0])[:2]
    return Embedding(points, (first, second))


def _checked(distance: npt.ArrayLike) -> Float:
    d = np.asarray(distance, dtype=np.float64)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or not d.size:
        raise ComparisonError(f"distances are a square matrix, found shape {d.shape}")
    if not np.isfinite(d).all() or not np.allclose(d, d.T):
        raise ComparisonError("distances are finite and symmetric")
    return d
