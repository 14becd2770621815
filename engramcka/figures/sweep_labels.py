"""Names beside a sweep's ablations and lines, so placed that none covers another.

Ablations are crosses on the right with their names; the lines of baseline and references are named
where there is room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from engramcka.figures.labels import as_plain, elided, fit, size_in_points, text_width, tick_size
from engramcka.plain_text import one_line
from engramcka.results.statistics import Float

_CROSSES = "#c8383c"
_QUIET = "#808080"
_WIDEST_LEFT, _WIDEST_RIGHT = 0.6, 0.46  # share of the axes that names may take
_BESIDE = 8.0  # points from the dotted line to the crosses, and from them to names on the right
_CLEAR = 3.0  # points from names on the left to the dotted line
LINE = 1.2  # line height, in font sizes


@dataclass(frozen=True)
class Ablations:
    """What was drawn, and what part of the axes the layers have."""

    share: float = 1.0
    crosses: Line2D | None = None
    names: list[Annotation] = field(default_factory=list)
    taken: Float = field(default_factory=lambda: np.empty((0, 2)))  # (points, 2) in points


def draw_ablations(
    ax: Axes, variants: Mapping[str, float], x: Float, mean: Float, lines: Float | None = None
) -> Ablations:
    """Set the x limits and draw the ablations that are there.

    Args:
        ax: axes with their final y limits.
        variants: name to loss.
        x: (layers,) ascending.
        mean: (layers,) the curve.
        lines: losses of horizontal lines; names of crosses above one stay above it.
    """
    there = {one_line(name): loss for name, loss in variants.items() if np.isfinite(loss)}
    half = 0.6 * (float(np.diff(x).min()) if len(x) > 1 else 1.0)
    if not there:
        ax.set_xlim(x[0] - half, x[-1] + half)
        return Ablations()
    width, height = size_in_points(ax)
    size = tick_size(ax)
    losses = np.array(list(there.values()))
    own = heights_of(ax, losses)
    under = heights_of(ax, lines) if lines is not None and len(lines) else np.empty(0)
    under = under[under <= own.min()]
    low = max(size / 2, *(under + 0.65 * size)) if len(under) else size / 2
    shown = spread_apart(own, LINE * size, low, height - size / 2)
    plan = _place_names(ax, list(there), x, mean, shown)
    ax.axvline(x[-1] + half, color=_QUIET, linestyle=":", linewidth=0.8, zorder=1)
    at = x[-1] + half + _BESIDE * float(np.ptp(ax.get_xlim())) / width
    (crosses,) = ax.plot(
        np.full(len(losses), at), losses, linestyle="none", marker="x", markersize=4.0,
        markeredgewidth=1.1, color=_CROSSES, zorder=3,
    )  # fmt: skip
    texts = [
        _beside(ax, name, (at, loss), (plan.away, raised), size)
        for name, loss, raised in zip(plan.names, losses, shown - own, strict=True)
    ]
    boxes = np.linspace(plan.start, plan.end, 9)
    taken = np.column_stack([boxes.ravel(), np.tile(shown, 9)])
    marks = np.column_stack([np.full(len(own), plan.share * width + _BESIDE), own])
    return Ablations(plan.share, crosses, texts, np.concatenate([taken, marks]))


@dataclass(frozen=True)
class _Plan:
    names: list[str]
    share: float  # of the axes, for the layers
    away: float  # from a cross to its name, in points; below 0 to the left
    start: Float  # of each name, in points
    end: Float


def _place_names(ax: Axes, names: list[str], x: Float, mean: Float, shown: Float) -> _Plan:
    """Choose the side of the names, and set the x limits to it."""
    width, size = size_in_points(ax)[0], tick_size(ax)
    half = 0.6 * (float(np.diff(x).min()) if len(x) > 1 else 1.0)
    font = FontProperties(family=ax.xaxis.label.get_fontfamily(), size=size)
    for left in (True, False):
        widest = (_WIDEST_LEFT if left else _WIDEST_RIGHT) * width
        fitting = [elided(name, font, widest) for name in names]
        widths = np.array([text_width(name, font) for name in fitting])
        beyond = 2 * _BESIDE + (0.0 if left else widths.max() + _BESIDE / 2)
        share = 1.0 - beyond / width
        ax.set_xlim(x[0] - half, x[0] - half + (x[-1] - x[0] + 2 * half) / share)
        away = -_BESIDE - _CLEAR if left else _BESIDE
        end = share * width + _BESIDE + away + (0.0 * widths if left else widths)
        if left and _is_free(ax, x, mean, end - widths, shown, size):
            break
    return _Plan(fitting, share, away, end - widths, end)


def _is_free(ax: Axes, x: Float, mean: Float, start: Float, shown: Float, size: float) -> bool:
    """Whether the curve stays clear of names from ``start`` to the right, at these heights."""
    there = np.isfinite(mean)
    if not there.any():
        return True
    left, right = ax.get_xlim()
    fine = np.linspace(x[0], x[-1], 400)
    across = (fine - left) / (right - left) * size_in_points(ax)[0]
    curve = heights_of(ax, np.interp(fine, x[there], mean[there]))
    beside = across[None, :] > start[:, None] - size
    return not (beside & (np.abs(curve - shown[:, None]) < size)).any()


def spread_apart(wanted: Float, gap: float, low: float, high: float) -> Float:
    """Positions as near to ``wanted`` as can be (least squares), at least ``gap`` apart.

    They stay within ``low`` .. ``high``, where the gap shrinks if that is too narrow for all.
    """
    count = len(wanted)
    gap = min(gap, (high - low) / max(count - 1, 1))
    order = np.argsort(wanted, kind="stable")
    shift = gap * np.arange(count)
    # Without the gaps it is the nearest non-decreasing sequence: pool neighbours out of order.
    pools: list[tuple[float, int]] = []
    for value in wanted[order] - shift:
        mean, size = float(value), 1
        while pools and pools[-1][0] > mean:
            before, members = pools.pop()
            mean = (before * members + mean * size) / (members + size)
            size += members
        pools.append((mean, size))
    level = np.concatenate([np.full(size, mean) for mean, size in pools])
    placed = np.empty(count)
    placed[order] = np.clip(level, low, high - shift[-1]) + shift
    return placed


def heights_of(ax: Axes, values: Float) -> Float:
    """Where values stand above the bottom of the axes, in points; needs the axes' final limits."""
    scale = ax.yaxis.get_transform().transform
    bottom, top = scale(np.array(ax.get_ylim()))
    share = (scale(values) - bottom) / (top - bottom)
    return np.asarray(share * size_in_points(ax)[1], dtype=np.float64)


def _beside(
    ax: Axes, name: str, at: tuple[float, float], off: tuple[float, float], size: float
) -> Annotation:
    """A name ``off`` a point, in points, joined to it by a thin line where it had to move."""
    line: dict[str, Any] = {
        "arrowstyle": "-",
        "color": _QUIET,
        "linewidth": 0.4,
        "shrinkA": 1,
        "shrinkB": 3,
    }
    line["relpos"] = (1.0, 0.5) if off[0] < 0 else (0.0, 0.5)
    text = ax.annotate(
        name, at, off, textcoords="offset points", va="center", fontsize=size,
        ha="right" if off[0] < 0 else "left", annotation_clip=False,
        arrowprops=line if abs(off[1]) > size / 3 else None,
    )  # fmt: skip
    as_plain((text,))
    put_on_ground(text, ax)
    return text


def put_on_ground(text: Annotation, ax: Axes) -> None:
    """Put the text on the axes' colour, so that no line runs through it."""
    text.set_bbox({"facecolor": ax.get_facecolor(), "linewidth": 0.0, "pad": 0.3, "alpha": 0.85})


_NEAR = 4.0  # points: what is nearer to a name than this is in its way


def name_lines(
    ax: Axes,
    lines: Sequence[Line2D],
    names: Sequence[str],
    x: Float,
    mean: Float,
    taken: Float,
) -> list[Annotation]:
    """Each horizontal line's name above or below it, at the end where least is in the way.

    A name longer than the layers' part of the axes reaches on under the ablations. ``taken`` are
    further (points, 2) places not to cover, in points.
    """
    width, height = size_in_points(ax)
    size = tick_size(ax)
    left, right = ax.get_xlim()
    at = (x - left) / (right - left) * width
    ends = 0.02 * width, float(at[-1])
    busy = np.column_stack([at, heights_of(ax, mean)])
    busy = np.concatenate([busy, taken])
    losses = np.array([float(np.asarray(line.get_ydata())[0]) for line in lines])
    levels = heights_of(ax, losses)
    texts = []
    for index, (line, name) in enumerate(zip(lines, names, strict=True)):
        text = ax.annotate(
            one_line(name), (0, losses[index]), (0, 0), textcoords="offset points", fontsize=size,
            color=line.get_color(), annotation_clip=False,
        )  # fmt: skip
        fit(text, width - 2 * ends[0])
        put_on_ground(text, ax)
        long = text_width(text.get_text(), text.get_fontproperties())
        others = np.delete(levels, index)
        below, at_right = min(
            product((False, True), (False, True) if long <= ends[1] - ends[0] else (False,)),
            key=lambda place: _in_the_way(
                busy, others, (ends[1] - long if place[1] else ends[0]) - 3, long + 13,
                levels[index] - place[0] * LINE * size, LINE * size, height,
            ),
        )  # fmt: skip
        text.xy = (left + ends[at_right] * (right - left) / width, losses[index])
        text.set_position((0, -0.2 * size if below else 0.2 * size))
        text.set_horizontalalignment("right" if at_right else "left")
        text.set_verticalalignment("top" if below else "bottom")
        texts.append(text)
    return texts


def _in_the_way(
    busy: Float, lines: Float, left: float, long: float, bottom: float, tall: float, height: float
) -> float:
    """How much a name in this box would cover: how deep points lie in it, lines, the frame."""
    across = (busy[:, 0] > left) & (busy[:, 0] < left + long)
    deep = np.minimum(busy[:, 1] - bottom, bottom + tall - busy[:, 1]) + _NEAR
    crossed = ((lines > bottom) & (lines < bottom + tall)).sum()
    outside = bottom < 0 or bottom + tall > height
    return float(deep[across & (deep > 0)].sum() + tall * crossed + 1000.0 * outside)
