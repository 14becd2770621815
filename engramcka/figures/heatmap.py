"""A CKA map as a heatmap: cells, soft alignment with its interval, diagonal, colour bar.

Both axes are in layer numbers, so that whatever a caller draws on top is too: a
cell is centred on its layer, row 1 at the bottom, as in the Engram paper's Figure 4 (b).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from engramcka import palettes
from engramcka.errors import ComparisonError
from engramcka.figures.labels import (
    as_plain,
    fit,
    fit_lines,
    layer_ticks,
    size_in_points,
    tick_size,
)
from engramcka.figures.style import Style, as_style, on_own_axes, one_axes_figure
from engramcka.results import SimilarityMap
from engramcka.results.statistics import Float

_CASING = "#000000c0"  # under white lines, which are seen on the brightest cells so
_SLIM = 4.0  # a map with more layers one way than this many times the other is drawn so slim


@dataclass(frozen=True)
class CkaMapArtists:
    """What was drawn, to be changed at will; None where it was not asked for or does not exist."""

    axes: Axes
    cells: QuadMesh
    missing: PolyCollection | None  # hatched ground where the map is NaN
    diagonal: Line2D | None
    curve: Line2D | None  # soft alignment
    band: tuple[Line2D, Line2D] | None  # ends of its 95 % interval
    colour_bar: Colorbar | None


@on_own_axes(height=1.35)
def plot_cka_map(
    cka: SimilarityMap,
    ax: Axes | None = None,
    *,
    palette: str = palettes.PALETTES[0],
    alignment: bool = True,
    k: int = 5,
    first_layer: int = 1,
    interval: bool = True,
    diagonal: bool = True,
    colour_bar: bool = True,
    title: str | None = None,
    low: float = 0.0,
    high: float = 1.0,
    halo: bool = True,
    bar_label: str | None = None,
) -> CkaMapArtists:
    """Draw a map on these axes, or on new ones of a figure of its own.

    Args:
        cka: the map; its similarity is clipped to ``low`` .. ``high`` in colour only.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).
        palette: a name of `engramcka.palettes.PALETTES`, or ``diverging``.
        alignment: draw the soft alignment curve (Engram paper, equation 9) over ``k`` rows.
        k: rows averaged for each column.
        first_layer: number of the first block: 1, or 0 as the paper's Figure 4 counts.
        interval: draw the ends of the curve's 95 % jackknife interval, where the map has one.
        diagonal: draw the line on which both models are equally deep.
        colour_bar: draw the bar beside the map.
        title: plain text above the map.
        low: similarity of the first colour.
        high: similarity of the last colour.
        halo: thin outlines that keep the curve and its interval visible on the brightest cells,
            the diagonal on the darkest.
        bar_label: plain text beside the colour bar; the measure if left out.

    Returns:
        The artists.

    Raises:
        ConfigError: there is no such palette.
        ComparisonError: a layer occurs twice on one axis, or k is below 1.
    """
    assert ax is not None
    y, y_order = layer_numbers(cka.y_layers, first_layer, "y_layers")
    x, x_order = layer_numbers(cka.x_layers, first_layer, "x_layers")
    values = cka.similarity[np.ix_(y_order, x_order)]
    y_edges, x_edges = edges(y), edges(x)
    cells = draw_cells(ax, values, x_edges, y_edges, palette, low, high)
    missing = draw_missing(ax, values, x_edges, y_edges)
    line = _draw_diagonal(ax, x_edges, y_edges, halo) if diagonal else None
    ends = cka.soft_alignment_interval(k, first_layer) if alignment and interval else None
    band = _draw_band(ax, ends, x, x_order, halo) if ends is not None else None
    curve = _draw_curve(ax, cka, x, x_order, k, first_layer, halo) if alignment else None
    _frame(ax, cka, x, y, x_edges, y_edges, title)
    bar = draw_colour_bar(ax, cells, bar_label or cka.title) if colour_bar else None
    return CkaMapArtists(ax, cells, missing, line, curve, band, bar)


def cka_figure(cka: SimilarityMap, style: Style | str = "plain", **options: Any) -> Figure:
    """A figure with one map and its colour bar, as high as it needs to be.

    Args:
        cka: the map.
        style: a `Style` or the name of one.
        options: those of `plot_cka_map`, but ``ax``.
    """
    style = as_style(style)
    return one_axes_figure(
        style, 1.35 * style.inches, lambda axes: plot_cka_map(cka, axes, **options), trim=True
    )


def draw_colour_bar(ax: Axes, cells: QuadMesh, label: str) -> Colorbar:
    """A bar at the right of the axes and as high, inside the layout's reckoning."""
    bar = ax.figure.colorbar(cells, cax=ax.inset_axes((1.03, 0.0, 0.045, 1.0)))
    finish_colour_bar(bar, label, _map_size(ax)[1])
    return bar


def finish_colour_bar(bar: Colorbar, label: str, height: float) -> None:
    """Label, thin frame, and ticks for a bar of ``height`` points.

    The ticks are fixed here: chosen again at every layout, they would change the layout.
    """
    room = min(6, int(height / (2.2 * tick_size(bar.ax))))
    low, high = bar.mappable.get_clim()
    ticks = MaxNLocator(max(room, 2), steps=[1, 2, 5, 10]).tick_values(low, high)
    slack = 1e-9 * (high - low)
    bar.set_ticks([tick for tick in ticks if low - slack <= tick <= high + slack])
    bar.ax.minorticks_off()
    bar.set_label(label)
    as_plain((bar.ax.yaxis.label,))
    bar.outline.set_linewidth(0.4)
    if bar.solids is not None:
        bar.solids.set_rasterized(False)
        bar.solids.set_edgecolor("face")  # no hairlines between the colours in vector files


def _draw_diagonal(ax: Axes, x_edges: Float, y_edges: Float, halo: bool) -> Line2D | None:
    low, high = max(x_edges[0], y_edges[0]), min(x_edges[-1], y_edges[-1])
    if low >= high:
        return None
    (line,) = ax.plot([low, high], [low, high], color="black", linestyle=":", linewidth=0.8)
    if halo:
        line.set_path_effects([withStroke(linewidth=1.6, foreground="#ffffff60")])
    return line


def _draw_curve(
    ax: Axes,
    cka: SimilarityMap,
    x: Float,
    x_order: npt.NDArray[np.intp],
    k: int,
    first_layer: int,
    halo: bool,
) -> Line2D:
    aligned = cka.soft_alignment(k, first_layer)[x_order]
    marker = "o" if np.isfinite(aligned).sum() == 1 else ""
    (line,) = ax.plot(x, aligned, color="white", linestyle="--", linewidth=1.3, marker=marker)
    if halo:
        line.set_path_effects([withStroke(linewidth=2.5, foreground=_CASING)])
    return line


def _draw_band(
    ax: Axes, ends: tuple[Float, Float], x: Float, x_order: npt.NDArray[np.intp], halo: bool
) -> tuple[Line2D, Line2D]:
    """A thin line along each end: a filled band would change the colours of the cells under it."""
    low, high = (end[x_order] for end in ends)
    marker = "_" if np.isfinite(low).sum() == 1 else ""
    lines = ax.plot(x, np.column_stack((low, high)), color="white", linewidth=0.5, marker=marker)
    if halo:
        for line in lines:
            line.set_path_effects([withStroke(linewidth=1.1, foreground=_CASING)])
    return lines[0], lines[1]


def _frame(
    ax: Axes,
    cka: SimilarityMap,
    x: Float,
    y: Float,
    x_edges: Float,
    y_edges: Float,
    title: str | None,
) -> None:
    """Limits, aspect, ticks and labels."""
    ax.set_xlim(x_edges[0], x_edges[-1])
    ax.set_ylim(y_edges[0], y_edges[-1])
    across, up = x_edges[-1] - x_edges[0], y_edges[-1] - y_edges[0]
    if max(across, up) <= _SLIM * min(across, up):
        ax.set_aspect("equal")
    else:
        ax.set_box_aspect(1 / _limited(across / up))
    width, height = _map_size(ax)
    digits, size = len(f"{x[-1]:.0f}"), tick_size(ax)
    ax.set_xticks(layer_ticks(x, int(width / (size * (0.65 * digits + 0.6)))))
    ax.set_yticks(layer_ticks(y, int(height / (size * 2.0))))
    for axis, label, room, lines in (
        (ax.xaxis, cka.x_label, width, 5),
        (ax.yaxis, cka.y_label, height, 3),
    ):
        axis.set_label_text(label)
        fit_lines(axis.label, 0.97 * room, " layer", lines)
    if title is not None:
        ax.set_title(title)
        fit(ax.title, 0.97 * width)


def map_shape(cka: SimilarityMap) -> float:
    """Width over height of a map as it is drawn."""
    y, x = (
        np.ptp(edges(layer_numbers(layers, 1, name)[0]))
        for layers, name in ((cka.y_layers, "y_layers"), (cka.x_layers, "x_layers"))
    )
    return _limited(float(x / y))


def _limited(shape: float) -> float:
    return min(max(shape, 1 / _SLIM), _SLIM)


def _map_size(ax: Axes) -> tuple[float, float]:
    """Width and height of the map once its aspect is applied, in points."""
    width, height = size_in_points(ax)
    ratio = ax.get_box_aspect() or np.ptp(ax.get_ylim()) / np.ptp(ax.get_xlim())
    return min(width, height / ratio), min(height, width * ratio)


_LINED = 2.5  # points: lines part cells at least so large
_RASTER_CELLS = 10_000  # above, cells are one image in a vector file, at its dpi


def layer_numbers(
    layers: Sequence[int], first_layer: int, name: str
) -> tuple[Float, npt.NDArray[np.intp]]:
    """Layer numbers in ascending order, and the order that sorts the map's rows or columns."""
    numbers = np.asarray(layers, dtype=np.float64) + (first_layer - 1)
    order = np.argsort(numbers, kind="stable")
    twice = np.flatnonzero(np.diff(numbers[order]) == 0)
    if len(twice):
        raise ComparisonError(
            f"{name} names layer {numbers[order][twice[0]]:g} twice; a map is drawn by layer number"
        )
    return numbers[order], order


def edges(numbers: Float) -> Float:
    """Cell borders midway between layers; the outer ones as far out as the next is in."""
    if len(numbers) == 1:
        return np.array([numbers[0] - 0.5, numbers[0] + 0.5])
    middle = (numbers[1:] + numbers[:-1]) / 2
    first, last = 2 * numbers[:1] - middle[:1], 2 * numbers[-1:] - middle[-1:]
    return np.concatenate((first, middle, last))


def draw_cells(
    ax: Axes,
    values: Float,
    x_edges: Float,
    y_edges: Float,
    palette: str,
    low: float,
    high: float,
) -> QuadMesh:
    """Colour (y, x) values between these borders; white lines part large ones."""
    colours = ListedColormap(palettes.table(palette) / 255.0, name=palette)
    size = min(size_in_points(ax)) / max(values.shape)
    lined = size >= _LINED
    return ax.pcolormesh(
        x_edges,
        y_edges,
        np.ma.masked_invalid(values),
        cmap=colours,
        vmin=low,
        vmax=high,
        edgecolors="white" if lined else "face",
        linewidth=min(0.8, 0.045 * size) if lined else 0.1,
        antialiased=lined,
        rasterized=values.size > _RASTER_CELLS,
    )


def draw_missing(ax: Axes, values: Float, x_edges: Float, y_edges: Float) -> PolyCollection | None:
    """Hatched grey where there is no value, a patch for each run of such cells."""
    missing = ~np.isfinite(values)
    if not missing.any():
        return None
    patches = [
        [(x_edges[left], y_edges[bottom]), (x_edges[right], y_edges[bottom]),
         (x_edges[right], y_edges[top]), (x_edges[left], y_edges[top])]
        for bottom, top, left, right in _rectangles(missing)
    ]  # fmt: skip
    ground = PolyCollection(
        patches, facecolor="#d9d9d9", edgecolor="#8c8c8c", hatch="/////", linewidth=0.0
    )
    ax.add_collection(ground, autolim=False)
    return ground


def _rectangles(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Disjoint rectangles (bottom, top, left, right) that cover the mask: equal rows merged."""
    found: list[tuple[int, int, int, int]] = []
    row = 0
    while row < len(mask):
        top = row + 1
        while top < len(mask) and (mask[top] == mask[row]).all():
            top += 1
        steps = np.flatnonzero(np.diff(mask[row].astype(np.int8), prepend=0, append=0))
        found += [(row, top, int(a), int(b)) for a, b in zip(steps[::2], steps[1::2], strict=True)]
        row = top
    return found
