"""What stands beside a sweep's curve: ablations with their names, and the names of the lines.

Knows axes and values, no results. Names are placed where they touch neither each other nor the
points; heights and widths are in points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from engramcka.figures.labels import as_plain, fit, plain, size_in_points, text_width, tick_size

Float = npt.NDArray[np.float64]

_CROSSES = "#c8383c"
_QUIET = "#808080"
_WIDEST = 0.46  # share of the axes that names of ablations may take
_BESIDE = 8.0  # points from the dotted line to the crosses, and from them to their names
_LINE = 1.2  # line height, in font sizes


def limit_x(ax: Axes, x: Float, variants: Sequence[str], width: float) -> float:
    """Set the x limits so that names of ablations have room on the right.

    Returns:
        The share of the axes that the layers have.
    """
    half = 0.6 * (float(np.diff(x).min()) if len(x) > 1 else 1.0)
    share = 1.0
    if variants:
        font = ax.xaxis.label.get_fontproperties().copy()
        font.set_size(tick_size(ax))
        widest = max(text_width(plain(name), font) for name in variants)
        share = 1.0 - min(_WIDEST, widest / width) - 2.5 * _BESIDE / width
    ax.set_xlim(x[0] - half, x[0] - half + (x[-1] - x[0] + 2 * half) / share)
    return share


def draw_variants(
    ax: Axes, variants: Mapping[str, float], x: Float
) -> tuple[Line2D | None, list[Annotation]]:
    """Crosses past a dotted line, each with its name on the right.

    Returns:
        The crosses and their names.
    """
    there = {name: loss for name, loss in variants.items() if np.isfinite(loss)}
    if not there:
        return None, []
    width, height = size_in_points(ax)
    half = 0.6 * (float(np.diff(x).min()) if len(x) > 1 else 1.0)
    left, right = ax.get_xlim()
    at = x[-1] + half + _BESIDE * (right - left) / width
    ax.axvline(x[-1] + half, color=_QUIET, linestyle=":", linewidth=0.8, zorder=1)
    losses = np.array(list(there.values()))
    (crosses,) = ax.plot(
        np.full(len(losses), at), losses, linestyle="none", marker="x", markersize=4.0,
        markeredgewidth=1.1, color=_CROSSES, zorder=3,
    )  # fmt: skip
    size = tick_size(ax)
    heights = _heights(ax, losses)
    placed = spread_apart(heights, _LINE * size, size / 2, height - size / 2)
    names = []
    for name, loss, own, shown in zip(there, losses, heights, placed, strict=True):
        text = _beside(ax, plain(name), (at, loss), shown - own, size)
        fit(text, _WIDEST * width)
        names.append(text)
    return crosses, names


def name_lines(
    ax: Axes,
    lines: Sequence[Line2D],
    names: Sequence[str],
    x: Float,
    mean: Float,
    beside: Sequence[Annotation],
) -> list[Annotation]:
    """Each horizontal line's name above or below it, at the end where least is in the way.

    A name longer than the layers' part of the axes may reach under the ablations' names
    (``beside``), from the left.
    """
    width, height = size_in_points(ax)
    size = tick_size(ax)
    left, right = ax.get_xlim()
    at = (x - left) / (right - left) * width
    ends = 0.02 * width, float(at[-1])
    busy = np.column_stack([at, _heights(ax, mean)])
    if beside:
        raised = _heights(ax, np.array([name.xy[1] for name in beside]))
        raised += [name.get_position()[1] for name in beside]
        busy = np.concatenate([busy, [(ends[1] + _BESIDE, level) for level in raised]])
    losses = np.array([float(np.asarray(line.get_ydata())[0]) for line in lines])
    levels = _heights(ax, losses)
    texts = []
    for index, (line, name) in enumerate(zip(lines, names, strict=True)):
        text = ax.annotate(
            plain(name), (0, losses[index]), (0, 0), textcoords="offset points", fontsize=size,
            color=line.get_color(), annotation_clip=False,
        )  # fmt: skip
        fit(text, width - 2 * ends[0])
        _ground(text, ax)
        long = text_width(text.get_text(), text.get_fontproperties())
        taken = np.delete(levels, index)
        below, at_right = min(
            product((False, True), (False, True) if long <= ends[1] - ends[0] else (False,)),
            key=lambda place: _in_the_way(
                busy, taken, (ends[1] - long if place[1] else ends[0]) - 3, long + 6,
                levels[index] - place[0] * _LINE * size, _LINE * size, height,
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
) -> int:
    """How many points and lines a name in this box would cover; many if it leaves the axes."""
    inside = (busy[:, 0] > left) & (busy[:, 0] < left + long)
    inside &= (busy[:, 1] > bottom - 4) & (busy[:, 1] < bottom + tall + 4)
    crossed = (lines > bottom) & (lines < bottom + tall)
    outside = bottom < 0 or bottom + tall > height
    return int(inside.sum()) + int(crossed.sum()) + 100 * outside


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


def _heights(ax: Axes, values: Float) -> Float:
    """Where values stand above the bottom of the axes, in points."""
    scale = ax.yaxis.get_transform().transform
    bottom, top = scale(np.array(ax.get_ylim()))
    share = (scale(values) - bottom) / (top - bottom)
    return np.asarray(share * size_in_points(ax)[1], dtype=np.float64)


def _beside(ax: Axes, name: str, at: tuple[float, float], raised: float, size: float) -> Annotation:
    """A name on the right of a point, joined to it by a thin line where it had to move."""
    line = {"arrowstyle": "-", "color": _QUIET, "linewidth": 0.4, "shrinkA": 1, "shrinkB": 3}
    moved = abs(raised) > size / 3
    text = ax.annotate(
        name, at, (_BESIDE, raised), textcoords="offset points", va="center", fontsize=size,
        arrowprops=line if moved else None, annotation_clip=False,
    )  # fmt: skip
    as_plain((text,))
    _ground(text, ax)
    return text


def _ground(text: Annotation, ax: Axes) -> None:
    """Put the text on the axes' colour, so that no line runs through it."""
    text.set_bbox({"facecolor": ax.get_facecolor(), "linewidth": 0.0, "pad": 0.3, "alpha": 0.85})
