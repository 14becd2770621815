"""Ablations beside a sweep's curve: crosses past a dotted line, each with its name.

Knows axes and values, no results. Names stand left of the crosses, under the curve's end, where
nothing is in the way, which leaves the curve most of the width; else right of them. Positions
called "in points" count from the lower left corner of the axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from engramcka.figures.labels import as_plain, elided, size_in_points, text_width, tick_size
from engramcka.figures.plain import plain

Float = npt.NDArray[np.float64]

_CROSSES = "#c8383c"
_QUIET = "#808080"
_WIDEST = {"left": 0.6, "right": 0.46}  # share of the axes that names may take
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


def draw_ablations(ax: Axes, variants: Mapping[str, float], x: Float, mean: Float) -> Ablations:
    """Set the x limits and draw the ablations that are there.

    Args:
        ax: axes with their final y limits.
        variants: name to loss.
        x: (layers,) ascending.
        mean: (layers,) the curve.
    """
    there = {plain(name): loss for name, loss in variants.items() if np.isfinite(loss)}
    half = 0.6 * (float(np.diff(x).min()) if len(x) > 1 else 1.0)
    if not there:
        ax.set_xlim(x[0] - half, x[-1] + half)
        return Ablations()
    width, height = size_in_points(ax)
    size = tick_size(ax)
    losses = np.array(list(there.values()))
    own = heights_of(ax, losses)
    shown = spread_apart(own, LINE * size, size / 2, height - size / 2)
    font = FontProperties(family=ax.xaxis.label.get_fontfamily(), size=size)
    for side in ("left", "right"):
        names = [elided(name, font, _WIDEST[side] * width) for name in there]
        widths = np.array([text_width(name, font) for name in names])
        share = 1.0 - (2 * _BESIDE + (_BESIDE / 2 + widths.max()) * (side == "right")) / width
        ax.set_xlim(x[0] - half, x[0] - half + (x[-1] - x[0] + 2 * half) / share)
        at = share * width + _BESIDE
        start = (
            at - _BESIDE - _CLEAR - widths if side == "left" else np.full(len(names), at + _BESIDE)
        )
        if side == "right" or _is_free(ax, x, mean, start.min(), shown, size):
            break
    boxes = np.linspace(start, start + widths, 9)
    taken = np.column_stack([boxes.ravel(), np.tile(shown, 9)])
    taken = np.concatenate([taken, np.column_stack([np.full(len(own), at), own])])
    ax.axvline(x[-1] + half, color=_QUIET, linestyle=":", linewidth=0.8, zorder=1)
    place = x[-1] + half + _BESIDE * float(np.ptp(ax.get_xlim())) / width
    (crosses,) = ax.plot(
        np.full(len(losses), place), losses, linestyle="none", marker="x", markersize=4.0,
        markeredgewidth=1.1, color=_CROSSES, zorder=3,
    )  # fmt: skip
    texts = [
        _beside(ax, name, (place, loss), (away, raised), size)
        for name, loss, raised in zip(names, losses, shown - own, strict=True)
    ]
    return Ablations(share, crosses, texts, taken)


def _is_free(ax: Axes, x: Float, mean: Float, start: float, shown: Float, size: float) -> bool:
    """Whether the curve stays clear of names from ``start`` to the right, at these heights."""
    width, _ = size_in_points(ax)
    left, right = ax.get_xlim()
    there = np.isfinite(mean)
    if not there.any():
        return True
    fine = np.linspace(x[0], x[-1], 400)
    curve = heights_of(ax, np.interp(fine, x[there], mean[there]))
    across = (fine - left) / (right - left) * width
    below, above = shown.min() - size, shown.max() + size
    return not ((across > start - size) & (curve > below) & (curve < above)).any()


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
    line = {"arrowstyle": "-", "color": _QUIET, "linewidth": 0.4, "shrinkA": 1, "shrinkB": 3}
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
