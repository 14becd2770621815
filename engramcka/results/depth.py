"""Nearest depth: which layer of y a layer of x is most like, and the mean shift against its own.

The headline of a CKA map. A column's depth is its maximum, not a mean of its best rows: rows of a
residual stream fall off unevenly on the two sides of the best, which pulls every mean over them,
and every parabola through them, away from it (docs/cka.md has the measurements). Rows that
sampling noise cannot tell from the best share its weight; a column in which such a row, or a
second peak, is elsewhere in the model has no depth. It is said to be not determined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

from engramcka.results.statistics import (
    Float,
    jackknife_error,
    mean_finite,
    student_quantile,
)

NEAR = 0.05
"""Rows this near to the best, as a share of y's depth, do not compete with it; nor do its two
neighbours."""

ALIKE = 0.1
"""Numbers of blocks that differ by this share of the larger, or by one, are compared in layers."""

Unit = Literal["layers", "relative depth"]

_erfc = np.vectorize(erfc, otypes=[np.float64])


@dataclass(frozen=True, eq=False)
class DepthShift:
    """Which depth of y each column of a map is nearest to, and the mean shift against x's own.

    Depths count from 0, the embedding, and are in `unit`: blocks, or blocks over the model's
    number of them (0 to 1). All intervals are 95 % ones over documents, NaN for a map without a
    jackknife, and lie inside y.
    """

    depth: Float  # (x layers,); NaN where a column has no number
    depth_low: Float  # (x layers,)
    depth_high: Float  # (x layers,)
    determined: npt.NDArray[np.bool_]  # (x layers,): one depth stands out; only these count
    shift: float  # mean of depth - x's depth over them; NaN for under half of the columns
    shift_low: float
    shift_high: float
    unit: Unit
    interval: bool = True  # whether the map had a jackknife

    @property
    def n_determined(self) -> int:
        """How many columns have a determined shift; the others do not count."""
        return int(self.determined.sum())

    @property
    def n_columns(self) -> int:
        """Columns that have a number."""
        return int(np.isfinite(self.depth).sum())

    @property
    def sentence(self) -> str:
        """The headline in one line, for people."""
        counts = f"{self.n_determined} of {self.n_columns} columns"
        text = f"nearest depth not determined ({counts})"
        if np.isfinite(self.shift):
            there = "determined" if self.interval else "with one peak"
            text = f"nearest depth {self.said}, {counts} {there}"
        broken = len(self.depth) - self.n_columns
        return text + (f", {broken} without a number" if broken else "")

    @property
    def said(self) -> str:
        """The shift with unit and interval; "not determined" where there is none."""
        if not np.isfinite(self.shift):
            return "not determined"
        unit = "layers" if self.unit == "layers" else "of the depth"
        ends = "no interval"
        if self.interval:
            ends = f"95 % {_signed(self.shift_low)} to {_signed(self.shift_high)}"
        return f"{_signed(self.shift)} {unit} ({ends})"


@dataclass(frozen=True)
class _Column:
    """One column's depth, what it is without each group, and its error from whole rows."""

    depth: float
    without: Float  # (groups,)
    rounding: float  # root mean square
    determined: bool


def depth_shift(
    similarity: npt.ArrayLike,
    jackknife: npt.ArrayLike | None,
    y_layers: Sequence[int],
    x_layers: Sequence[int],
    y_blocks: int | None = None,
    x_blocks: int | None = None,
) -> DepthShift:
    """Nearest depth of every column of a map, and the mean shift.

    Depth: the mean of the best row and of those near it, each weighted by the two-sided p value of
    its difference from the best (paired over the jackknife), so that it is the best row where that
    is known and between two that are tied.

    Determined: every row i that is not near the best row b must be parted from it,
    S_b - S_i > min(S_i - S_d, 1 - S_b), with d the lowest row between: a second peak has to stand
    less above the valley than the best stands above it, unless it is as far again from identity as
    the best is. The jackknife's one-sided end of the difference must be above 0, at 2.5 % over the
    number of columns (Bonferroni: one falsely determined column in the map is rare); over rows
    nothing is corrected, since all must be parted (the intersection-union test, Berger 1982; with
    a best row that was chosen for being best, Gupta 1965). The best similarity must be above 0 too.

    Interval: the jackknife's error of the mean over determined columns, and that of rounding to
    whole rows: x's depth is taken to be anywhere nearer to the best row than to the next, evenly
    and a column independent of the other, and no further than arccos S allows (a distance,
    Williams et al. 2021: 0 for identical states). A shift common to all columns and smaller than
    half the distance of y's rows can be missed.

    Unit: layers where the models' numbers of blocks differ by one or by at most 10 %, else
    relative depth.

    Args:
        similarity: (y layers, x layers); NaN where there is no number.
        jackknife: (groups, y layers, x layers), the map without each group. With None, or fewer
            than two groups, determined is what has one peak, and intervals are NaN.
        y_layers: (y layers,) block numbers, 0 for the embedding.
        x_layers: (x layers,) block numbers.
        y_blocks: number of blocks of y's model; the largest layer compared if left out.
        x_blocks: number of blocks of x's model.
    """
    s = np.asarray(similarity, dtype=np.float64)
    groups = None if jackknife is None else np.asarray(jackknife, dtype=np.float64)
    if groups is None or len(groups) < 2:
        groups = np.empty((0, *s.shape))
    order = np.argsort(y_layers, kind="stable")
    y, x = np.asarray(y_layers, dtype=np.float64)[order], np.asarray(x_layers, dtype=np.float64)
    y_blocks, x_blocks = max(y.max(), y_blocks or 1), max(x.max(), x_blocks or 1)
    near = NEAR * y_blocks
    unit: Unit = "layers"
    if abs(y_blocks - x_blocks) > max(1, ALIKE * max(y_blocks, x_blocks)):
        unit, y, x, near = "relative depth", y / y_blocks, x / x_blocks, NEAR
    level = 1 - 0.05 / max(1, int(np.isfinite(s).any(axis=0).sum()))
    quantile = student_quantile(len(groups) - 1, level) if len(groups) else 0.0
    columns = [_column(s[order, j], groups[:, order, j], y, near, quantile) for j in range(len(x))]
    return _together(columns, y, x, unit)


def _column(s: Float, t: Float, depths: Float, near: float, quantile: float) -> _Column:
    """The nearest depth of one column: (rows,), (groups, rows) and rows from shallow to deep."""
    there = np.isfinite(s) & np.isfinite(t).all(axis=0)
    s, t, depths = s[there], t[:, there], depths[there]
    if not len(s):
        return _Column(np.nan, np.full(len(t), np.nan), np.nan, False)
    best, rows = int(np.argmax(s)), np.arange(len(s))
    close = (abs(rows - best) <= 1) | (abs(depths - depths[best]) <= near)
    parted = _parted(s, t, best, quantile)[~close]
    positive = s[best] - quantile * jackknife_error(t[:, best]) > 0
    depth, without = _weighted(s[close], t[:, close], depths[close], int(close[:best].sum()))
    determined = bool(positive) and len(parted) > 0 and bool(parted.all())
    return _Column(depth, without, _rounding(s, depths, best), determined)


def _parted(s: Float, t: Float, best: int, quantile: float) -> npt.NDArray[np.bool_]:
    """(rows,) whether each row is known not to compete with the best one; see `depth_shift`."""
    valley = _valleys(s, best)
    second_peak = s - s[valley] < 1 - s[best]  # else distance from identity is the smaller

    def apart(values: Float) -> Float:
        ahead = values[..., [best]] - values
        peak = values - values[..., valley]
        return np.asarray(ahead - np.where(second_peak, peak, 1 - values[..., [best]]))

    ahead = s[best] - s - quantile * jackknife_error(t[:, [best]] - t)
    return np.asarray((ahead > 0) & (apart(s) - quantile * jackknife_error(apart(t)) > 0))


def _valleys(s: Float, best: int) -> npt.NDArray[np.intp]:
    """(rows,) the lowest row from each row to the best, both included."""
    valley = np.arange(len(s))
    for rows in (range(best - 1, -1, -1), range(best + 1, len(s))):
        lowest = best
        for row in rows:
            lowest = row if s[row] <= s[lowest] else lowest
            valley[row] = lowest
    return valley


def _weighted(s: Float, t: Float, depths: Float, best: int) -> tuple[float, Float]:
    """Mean depth of rows that noise does not part from the best, and the same without each group.

    Weights are two-sided p values of the paired difference, by the normal distribution.
    """
    if not len(t):
        return float(depths[best]), np.empty(0)
    behind = np.stack([s[best] - s, *(t[:, [best]] - t)])  # (1 + groups, rows)
    error = jackknife_error(behind[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(behind == 0, 0.0, behind / error)
    weight = _erfc(score / sqrt(2))
    weight[:, best] = 1.0
    mean = (weight * depths).sum(axis=1) / weight.sum(axis=1)
    return float(mean[0]), mean[1:]


def _rounding(s: Float, depths: Float, best: int) -> float:
    """Root mean square distance from the best row of what is nearer to it than to its neighbours.

    Uniform between the two points where arccos S, a distance, divides the way to a neighbour as
    it does for x itself: halfway at most, and at the row itself where the states are identical.
    """
    distance = np.arccos(np.clip(s, -1.0, 1.0))
    ways = []
    for row in (best - 1, best + 1):
        if 0 <= row < len(s):
            both = distance[best] + distance[row]
            share = distance[best] / both if both > 0 else 0.5
            ways.append(share * abs(depths[row] - depths[best]))
    whole = sum(ways)
    return sqrt(sum(way**3 for way in ways) / (3 * whole)) if whole > 0 else 0.0


def _together(columns: list[_Column], y: Float, x: Float, unit: Unit) -> DepthShift:
    """The columns' depths with their intervals, and the mean shift of those determined."""
    depth = np.array([column.depth for column in columns])
    without = np.stack([column.without for column in columns], axis=-1)  # (groups, columns)
    rounding = np.array([column.rounding for column in columns])
    determined = np.array([column.determined for column in columns])
    half = _half_width(without, rounding)
    low, high = (np.clip(depth + sign * half, y[0], y[-1]) for sign in (-1, 1))
    counted = int(determined.sum())
    shift = shift_low = shift_high = np.nan
    if counted and 2 * counted >= np.isfinite(depth).sum():
        own = x[determined].mean()
        shift = float(mean_finite(depth[determined]) - own)
        error = sqrt((rounding[determined] ** 2).sum()) / counted
        wide = _half_width(without[:, determined].mean(axis=1), np.float64(error))
        shift_low, shift_high = (
            float(np.clip(shift + sign * wide, y[0] - own, y[-1] - own)) for sign in (-1, 1)
        )
    interval = len(without) > 0
    return DepthShift(depth, low, high, determined, shift, shift_low, shift_high, unit, interval)


def _half_width(without: Float, rounding: Float | np.float64) -> Float:
    """Half of the 95 % interval from sampling and rounding; NaN without a jackknife."""
    if not len(without):
        return np.full(np.shape(rounding), np.nan)
    sampling = student_quantile(len(without) - 1) * jackknife_error(without)
    return np.asarray(np.hypot(sampling, 1.96 * rounding))


def _signed(value: float) -> str:
    """A shift with its sign; no negative zero."""
    return f"{round(value, 2) + 0.0:+.2f}"
