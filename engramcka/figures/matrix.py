"""Models x models: the numbers of all pairs with their dendrogram, and the models as points.

The heatmap has the models in the order of the tree, which stands right of it, so that no two
branches cross. The plane is classical scaling; a point has its model's number in the heatmap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from engramcka import palettes
from engramcka.figures.cka import changes
from engramcka.figures.draw import Drawing, Table, escaped, interval, number, only
from engramcka.figures.heatmap import draw_cells, draw_missing, finish_colour_bar
from engramcka.figures.labels import as_plain, elided, fit, size_in_points, text_width, tick_size
from engramcka.figures.style import Style, as_style, compose, new_figure, on_own_axes
from engramcka.measures import MEASURES
from engramcka.plain_text import one_line
from engramcka.results import Float, ModelMatrix

_WIDE = 6.0  # inches; narrower, the plane stands below the matrix
_TREE = 0.34  # width of the tree, in widths of the matrix
_GAP = 0.03  # between the parts, in the same
_BAR = 0.045
_NAMES = 0.24  # of the figure's width, for the longest name
_LEAST = 4.0  # points; smaller numbers are not drawn
_APART = 1.4  # heights of a name by which points must be apart to have names of their own
_GREY = "#808080"


@dataclass(frozen=True)
class MatrixArtists:
    """The matrix drawn, to be changed at will; models from the top down as the tree has them."""

    axes: Axes
    cells: QuadMesh
    numbers: list[Text]  # of cells, row by row; none where there is no room
    tree: LineCollection | None  # None where a pair has no number
    colour_bar: Colorbar


@dataclass(frozen=True)
class PlaneArtists:
    """The models as points, to be changed at will."""

    axes: Axes
    points: PathCollection | None  # in the order of the result; None where a pair has no number
    names: list[Text]  # one for points that are too near to each other to be named apart


@on_own_axes(height=1.0)
def plot_matrix(
    found: ModelMatrix,
    ax: Axes | None = None,
    *,
    palette: str = palettes.PALETTES[0],
    low: float = 0.0,
    high: float = 1.0,
    title: str | None = None,
) -> MatrixArtists:
    """Draw the numbers of all pairs, and the tree, on these axes or on new ones.

    Args:
        found: the matrix.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).
        palette: a name of `engramcka.palettes.PALETTES`.
        low: similarity of the first colour.
        high: similarity of the last colour.
        title: plain text above.

    Returns:
        The artists.

    Raises:
        ConfigError: there is no such palette.
    """
    assert ax is not None
    order, n = found.order, len(found.labels)
    values = found.similarity[np.ix_(order, order)]
    edges: Float = np.arange(n + 1, dtype=np.float64) - 0.5
    cells = draw_cells(ax, values, edges, edges, palette, low, high)
    draw_missing(ax, values, edges, edges)
    ax.set_xlim(-0.5, n - 0.5)
    ax.set_ylim(n - 0.5, -0.5)
    ax.set_box_aspect(1)
    side = min(size_in_points(ax))
    numbers = _write_numbers(ax, values, side / n, palette, low, high)
    _name_rows(ax, found, order, side / n)
    tree = _draw_tree(ax, found)
    beyond = 1 + _GAP + (_TREE + _GAP if tree is not None else 0.0)
    bar = ax.figure.colorbar(cells, cax=ax.inset_axes((beyond, 0.0, _BAR, 1.0)))
    finish_colour_bar(bar, found.title, side)
    fit(bar.ax.yaxis.label, side)
    if title is not None:
        ax.set_title(title)
        fit(ax.title, side)
    return MatrixArtists(ax, cells, numbers, tree, bar)


def _write_numbers(
    ax: Axes, values: Float, cell: float, palette: str, low: float, high: float
) -> list[Text]:
    """The number of every cell that has one, black or white by its ground; none where they are too
    small to be read."""
    texts = [[_short(value) for value in row] for row in values]
    font = FontProperties(family=ax.xaxis.label.get_fontfamily(), size=tick_size(ax))
    widest = max(text_width(text, font) for row in texts for text in row)
    size = min(tick_size(ax), tick_size(ax) * 0.9 * cell / widest)
    if size < _LEAST:
        return []
    table = palettes.table(palette) / 255.0
    shade = np.clip((values - low) / (high - low), 0.0, 1.0)
    written = []
    for row, column in np.argwhere(np.isfinite(values)).tolist():
        ink = palettes.ink_on(*table[round(shade[row, column] * (len(table) - 1))])
        text = texts[row][column]
        written.append(
            ax.text(column, row, text, ha="center", va="center", fontsize=size, color=ink)
        )
    as_plain(written)
    return written


def _short(value: float) -> str:
    """Two decimals, without the zero before the point; 1 for one."""
    if not np.isfinite(value):
        return ""
    text = f"{round(float(value), 2) + 0.0:.2f}"
    return {"1.00": "1"}.get(text, text.replace("0.", ".", 1))


def _name_rows(ax: Axes, found: ModelMatrix, order: Sequence[int], cell: float) -> None:
    """Rows by number and name, columns by number."""
    size = min(tick_size(ax), 0.9 * cell)
    font = FontProperties(family=ax.xaxis.label.get_fontfamily(), size=size)
    room = _NAMES * ax.figure.bbox.width * 72 / ax.figure.dpi
    places = range(len(order))
    names = [f"{elided(one_line(found.labels[at]), font, room)}  {place + 1}"
             for place, at in enumerate(order)]  # fmt: skip
    ax.set_yticks(places, names)
    ax.set_xticks(places, [str(place + 1) for place in places])
    ax.tick_params(length=0)
    across = cell / (0.65 * len(str(len(order))) + 0.3)
    for label in ax.get_yticklabels():
        label.set_fontsize(size)
    for label in ax.get_xticklabels():
        label.set_fontsize(min(size, across))
    for spine in ax.spines.values():
        spine.set_visible(False)
    as_plain([*ax.get_yticklabels(), *ax.get_xticklabels()])


def _draw_tree(ax: Axes, found: ModelMatrix) -> LineCollection | None:
    """The dendrogram in axes of its own, its leaves at the rows, its root at the right."""
    if not found.tree:
        return None
    tree = ax.inset_axes((1 + _GAP, 0.0, _TREE, 1.0))
    places = {at: float(place) for place, at in enumerate(found.order)}
    heights = dict.fromkeys(places, 0.0)
    lines = []
    for index, join in enumerate(found.tree):
        (top, near), (bottom, far) = (
            (places[side], heights[side]) for side in (join.left, join.right)
        )
        lines.append([(near, top), (join.height, top), (join.height, bottom), (far, bottom)])
        group = len(found.labels) + index
        places[group], heights[group] = (top + bottom) / 2, join.height
    drawn = LineCollection(
        [[(1 - x, y) for x, y in line] for line in lines], colors=ax.xaxis.label.get_color(),
        linewidths=0.9, capstyle="projecting", joinstyle="miter",
    )  # fmt: skip
    tree.add_collection(drawn, autolim=False)
    root = max(0.0, *(join.height for join in found.tree))  # copies may be alike by 1 + 1e-15
    tree.set_xlim(1.0, 1 - 1.06 * max(root, 1e-3))
    tree.set_ylim(ax.get_ylim())
    tree.set_yticks([])
    for side in ("left", "right", "top"):
        tree.spines[side].set_visible(False)
    ticks = MaxNLocator(2, steps=[1, 2, 5, 10]).tick_values(1 - root, 1.0)
    tree.set_xticks([tick for tick in ticks if 1 - 1.06 * root <= tick <= 1.0])
    tree.tick_params(axis="x", labelsize=tick_size(ax))
    tree.patch.set_visible(False)
    labels = tree.get_xticklabels()
    for label in labels[-1:]:
        label.set_horizontalalignment("left")  # away from the numbers of the columns
    as_plain(labels)
    return drawn


@on_own_axes(height=0.8)
def plot_plane(found: ModelMatrix, ax: Axes | None = None) -> PlaneArtists:
    """Draw the models as points that are as far apart as they are unlike, as far as a plane can.

    Args:
        found: the matrix; where a pair has no number, the axes say that.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).

    Returns:
        The artists.
    """
    assert ax is not None
    plane = found.plane
    if plane is None:
        ax.set_axis_off()
        text = ax.text(0.5, 0.5, "a pair has no number", ha="center", va="center", color=_GREY,
                       transform=ax.transAxes)  # fmt: skip
        as_plain([text])
        return PlaneArtists(ax, None, [])
    points = plane.points
    drawn = ax.scatter(points[:, 0], points[:, 1], s=14, color=ax.xaxis.label.get_color(), zorder=3)
    half = _frame_plane(ax, points)
    side, size = min(size_in_points(ax)), tick_size(ax)
    near = _APART * size * 2 * half / side  # in units of the axes
    numbers = {at: place + 1 for place, at in enumerate(found.order)}
    names: list[Text] = []
    for group in _together(points, near):
        said, x = _spans([numbers[one] for one in group]), float(points[group, 0].mean())
        up = bool(points[group, 1].mean() >= 0)
        y = float(points[group, 1].max() if up else points[group, 1].min())
        names.append(
            ax.annotate(said, (x, y), (0, 3.5 if up else -3.5), textcoords="offset points",
                        fontsize=size, ha="center", va="bottom" if up else "top")
        )  # fmt: skip
    for axis, share, which in zip((ax.xaxis, ax.yaxis), plane.shares, ("1", "2"), strict=True):
        axis.set_label_text(f"coordinate {which} ({share:.0%})")
        fit(axis.label, side)
    as_plain(names)
    return PlaneArtists(ax, drawn, names)


def _together(points: Float, near: float) -> list[list[int]]:
    """The points in groups: whoever is so near to one of a group is of it."""
    groups: list[list[int]] = []
    left = set(range(len(points)))
    while left:
        group = [left.pop()]
        for one in group:
            close = np.abs(points - points[one]).max(axis=1) < near
            found = sorted(left & set(np.flatnonzero(close).tolist()))
            group += found
            left -= set(found)
        groups.append(sorted(group))
    return groups


def _spans(numbers: Sequence[int]) -> str:
    """The numbers in order, three and more that follow one another as their ends: 1, 4–6."""
    runs: list[list[int]] = []
    for one in sorted(numbers):
        if runs and one == runs[-1][-1] + 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    said = [
        f"{run[0]}\N{EN DASH}{run[-1]}" if len(run) > 2 else ", ".join(map(str, run))
        for run in runs
    ]
    return ", ".join(said)


def _frame_plane(ax: Axes, points: Float) -> float:
    """One scale for both axes, with room around all points; few round ticks. Half of a side."""
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    half = 0.72 * max(float(np.ptp(points, axis=0).max()), 1e-3)
    for axis, place in zip((ax.xaxis, ax.yaxis), middle, strict=True):
        ends = float(place - half), float(place + half)
        axis.set_view_interval(*ends, ignore=True)
        ticks = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(*ends)
        axis.set_ticks([tick for tick in ticks if ends[0] <= tick <= ends[1]])
    ax.set_box_aspect(1)
    ax.axhline(0.0, color=_GREY, linestyle=":", linewidth=0.5, zorder=1)
    ax.axvline(0.0, color=_GREY, linestyle=":", linewidth=0.5, zorder=1)
    return half


def matrix_figure(
    found: ModelMatrix, style: Style | str = "plain", *, title: str | None = None, **options: Any
) -> Figure:
    """The matrix with its tree, and the plane: beside each other where the style is wide.

    Args:
        found: the matrix.
        style: a `Style` or the name of one.
        title: plain text above.
        options: those of `plot_matrix`, but ``ax``.
    """
    style = as_style(style)
    beside = style.inches >= _WIDE
    with style.context():
        if beside:
            figure = new_figure(style, 0.45 * style.inches)
            axes = figure.subplots(1, 2, width_ratios=(1.6, 1.0))
        else:
            figure = new_figure(style, 1.6 * style.inches)
            axes = figure.subplots(2, 1)

        def draw() -> None:
            plot_matrix(found, axes[0], title=title, **options)
            plot_plane(found, axes[1])

        compose(figure, draw, trim=True)
    return figure


_SCORED = {
    "best-match": "the mean similarity of each layer with its best match in the other model, over "
    "the layers of both",
    "same-depth": "the mean similarity of layers at the same share of their model's depth",
}


def matrix_caption(found: ModelMatrix) -> str:
    """What a number is, of which samples, what the tree and the plane are, and the finding."""
    known = MEASURES[found.measure].words if found.measure in MEASURES else "an unknown measure"
    made = [known, *([f"{found.estimator} estimator"] if found.estimator else [])]
    made += changes(found.normalize, found.standardize)
    over = f" over {found.interval_over}" if found.interval_over else ""
    scored = _SCORED[found.score]
    corrected = [bool(np.isfinite(found.low[pair])) for pair in found.pairs]
    if found.score == "best-match" and any(corrected):
        some = "" if all(corrected) else ", where there is an interval"
        scored += f", less what the maximum of noisy numbers is too high by{some}"
    said = f"; intervals are 95 % ones{over}" if any(corrected) else ""
    parts = [
        f"How alike {len(found.labels)} models are, two at a time: {scored} "
        f"({', '.join(made)}), on {_samples(found)}{said}."
    ]
    if found.tree:
        parts.append(
            "Right of the matrix: average linkage; two groups join at the mean similarity between "
            "them."
        )
    if found.plane is not None:
        both = f"{sum(found.plane.shares):.0%}"
        parts.append(
            "Points, numbered as the rows: classical scaling of sqrt(2 (1 - similarity)), whose "
            f"plane holds {both} of the variance of the distances."
        )
    if not found.is_whole:
        parts.append("Hatched: no number, so that there is neither tree nor plane.")
    return " ".join([*parts, f"{found.summary()}.", *(f"Note: {one}." for one in _notes(found))])


def _notes(found: ModelMatrix) -> list[str]:
    return [one_line(warning) for warning in found.warnings]


def _samples(found: ModelMatrix) -> str:
    """How many, of how many documents, and which."""
    spans = []
    for counts, noun in ((found.samples, "samples"), (found.documents, "documents")):
        there = sorted({one for one in counts if one})
        if there:
            ends = f"{there[0]:,} to " if len(there) > 1 else ""
            spans.append(f"{ends}{there[-1]:,} {noun}")
    text = " of ".join(spans) or "an unknown number of samples"
    return text + (f", those where {one_line(found.where)}" if found.where else "")


def matrix_table(results: Sequence[ModelMatrix], digits: int | None = None) -> Table:
    """A row a pair, the most alike first, with its interval."""
    found: ModelMatrix = only(results)
    digits = 3 if digits is None else digits
    there = sorted(found.pairs, key=lambda pair: -np.nan_to_num(found.similarity[pair], nan=-9.0))
    rows = [
        [
            escaped(found.labels[i]),
            escaped(found.labels[j]),
            number(found.similarity[i, j], digits),
            interval(found.low[i, j], found.high[i, j], digits),
        ]
        for i, j in there
    ]
    return ["Model", "Model", escaped(found.title), "95\\,\\% interval"], rows


DRAWING = Drawing(matrix_figure, plot_matrix, matrix_caption, matrix_table)
