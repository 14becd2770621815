"""Several maps in one figure: side by side, over training, and one less another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engramcka.errors import ComparisonError, ConfigError
from engramcka.figures.heatmap import (
    CkaMapArtists,
    draw_colour_bar,
    finish_colour_bar,
    map_shape,
    plot_cka_map,
)
from engramcka.figures.labels import size_in_points
from engramcka.figures.style import (
    Style,
    as_style,
    compose,
    new_figure,
    on_own_axes,
    one_axes_figure,
)
from engramcka.plain_text import one_line
from engramcka.results import SimilarityMap

_NARROWEST = 1.05  # inches a panel needs for its ticks and title

AxesGrid = npt.NDArray[np.object_]


def cka_panels(
    maps: Sequence[SimilarityMap],
    style: Style | str = "plain",
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    **options: Any,
) -> Figure:
    """Small multiples of maps, as wide as the style says, with one colour bar.

    Args:
        maps: at least one, in reading order.
        style: a `Style` or the name of one.
        titles: plain text above each map; without it (a), (b), ..
        columns: panels a row; without it as many as stay legible.
        options: those of `plot_cka_map`, but ``ax``, ``title`` and ``colour_bar``.

    Raises:
        ConfigError: there is no map, a title too few or too many, or no column.
    """
    style = as_style(style)
    if not maps:
        raise ConfigError("a figure of maps needs at least one map")
    titles = letters(len(maps)) if titles is None else titles
    if len(titles) != len(maps):
        raise ConfigError(f"{len(maps)} maps have {len(titles)} titles; give one each")
    fitting = max(1, int((style.inches - 0.5) / _NARROWEST))
    columns = min(len(maps), fitting) if columns is None else columns
    if not 1 <= columns <= len(maps):
        raise ConfigError(f"{len(maps)} maps are drawn in 1 to {len(maps)} columns, not {columns}")
    rows = -(-len(maps) // columns)
    with style.context():
        figure = new_figure(style, style.inches * (0.35 + 1.1 * rows / columns), "compressed")
        grid = figure.subplots(rows, columns, squeeze=False, width_ratios=_widths(maps, columns))
        compose(figure, lambda: draw_panels(grid, maps, titles, **options), trim=True)
    return figure


def draw_panels(
    grid: AxesGrid, maps: Sequence[SimilarityMap], titles: Sequence[str], **options: Any
) -> list[CkaMapArtists]:
    """Draw maps on a (rows, columns) array of axes, and one colour bar on the right of them all."""
    bar_label = options.pop("bar_label", None) or bar_title(maps)
    axes: list[Axes] = list(grid.ravel())
    drawn = [
        plot_cka_map(cka, ax, title=title, colour_bar=False, **options)
        for cka, ax, title in zip(maps, axes, titles, strict=False)
    ]
    for ax in axes[len(maps) :]:
        ax.set_axis_off()
    columns = grid.shape[1]
    same_y = len({(cka.y_label, cka.y_layers) for cka in maps}) == 1
    same_x = len({(cka.x_label, cka.x_layers) for cka in maps}) == 1
    for index, ax in enumerate(axes[: len(maps)]):
        if same_y and index % columns:
            ax.tick_params(labelleft=False)
            ax.set_ylabel("")
        if same_x and index + columns < len(maps):
            ax.tick_params(labelbottom=False)
            ax.set_xlabel("")
    if len(grid) == 1:
        draw_colour_bar(grid[0, -1], drawn[0].cells, bar_label)
    else:
        bar = axes[0].figure.colorbar(drawn[0].cells, ax=axes, pad=0.02, fraction=0.03, aspect=40)
        finish_colour_bar(bar, bar_label, len(grid) * size_in_points(axes[0])[1])
    return drawn


def bar_title(maps: Sequence[SimilarityMap]) -> str:
    """What the values of maps are that share one colour bar."""
    titles = {cka.title for cka in maps}
    return titles.pop() if len(titles) == 1 else "similarity"


def told_apart(maps: Sequence[SimilarityMap]) -> list[str]:
    """What says which is which of several maps of the same models: how they were made; "" else."""
    said = []
    for cka in maps:
        same = [
            other for other in maps
            if (other.y_label, other.x_label) == (cka.y_label, cka.x_label)
        ]  # fmt: skip
        ways = [_way(other) for other in same]
        own = _way(cka)
        different = [own[i] for i in range(len(own)) if len({way[i] for way in ways}) > 1]
        said.append(", ".join(filter(None, different)) or ("plain" if different else ""))
    return said


def _way(cka: SimilarityMap) -> tuple[str, ...]:
    """What a map was made with, each "" for the usual."""
    massive = "without massive samples" if cka.n_massive_dropped else ""
    return (
        "" if cka.normalize == "none" else cka.normalize,
        "" if cka.standardize == "none" else cka.standardize,
        massive,
        *cka.way,
        cka.where,
    )


def letters(count: int) -> list[str]:
    """(a), (b), .. (z), (27), .."""
    return [f"({chr(ord('a') + i)})" if i < 26 else f"({i + 1})" for i in range(count)]


def _widths(maps: Sequence[SimilarityMap], columns: int) -> list[float]:
    """Widths in proportion to the layers across, where one row then has one height."""
    if len(maps) > columns:
        return [1.0] * columns
    return [map_shape(cka) for cka in maps]


MOST_PANELS = 12
"""Panels a figure of a series has at most; of a longer one, evenly spaced maps are shown."""


def series_figure(
    maps: Sequence[SimilarityMap],
    style: Style | str = "plain",
    *,
    most: int = MOST_PANELS,
    **options: Any,
) -> Figure:
    """Small multiples of a series, earliest checkpoint first, the step above each.

    Args:
        maps: of one pair of models, with their ``step``.
        style: a `Style` or the name of one.
        most: panels at most; the first and the last map are always shown.
        options: those of `cka_panels`, but ``titles``.

    Raises:
        ComparisonError: there are no maps, one has no step, or a step occurs twice.
    """
    ordered = in_order(maps)
    shown = np.unique(np.linspace(0, len(ordered) - 1, min(most, len(ordered))).round().astype(int))
    chosen = [ordered[index] for index in shown]
    return cka_panels(chosen, style, titles=[step_title(cka) for cka in chosen], **options)


def in_order(maps: Sequence[SimilarityMap]) -> list[SimilarityMap]:
    """The maps by step.

    Raises:
        ComparisonError: as `series_figure`.
    """
    if not maps:
        raise ComparisonError("a series needs at least one map")
    for cka in maps:
        if cka.step is None:
            raise ComparisonError(
                f"the map of {one_line(cka.y_label)} and {one_line(cka.x_label)} has no training "
                "step, which a series is ordered by"
            )
    ordered = sorted(maps, key=lambda cka: cka.step or 0)
    steps = [cka.step for cka in ordered]
    for before, after in pairwise(steps):
        if before == after:
            raise ComparisonError(f"two maps of the series are of step {after}")
    return ordered


def step_title(cka: SimilarityMap) -> str:
    """As it stands above a map."""
    return f"step {cka.step:,}"


@on_own_axes(height=1.35)
def plot_cka_difference(
    first: SimilarityMap,
    ax: Axes | None = None,
    *,
    second: SimilarityMap,
    limit: float | None = None,
    **options: Any,
) -> CkaMapArtists:
    """Draw ``first`` minus ``second`` on these axes; zero is the neutral colour.

    Args:
        first: a map.
        ax: where to draw; without it a figure in the plain style is made.
        second: a map of the same layers.
        limit: difference of the strongest colours, above 0; without it the largest there is,
            rounded up to one digit.
        options: those of `plot_cka_map`, but ``ax``, ``alignment``, ``low``, ``high``, ``palette``.

    Returns:
        The artists; there is no curve.

    Raises:
        ComparisonError: the maps are of different layers, or ``limit`` is not above 0.
    """
    assert ax is not None
    apart = map_difference(first, second)
    limit = _round_up(apart) if limit is None else limit
    if not limit > 0:
        raise ComparisonError(f"the limit of a difference map is above 0, found {limit}")
    options = {"bar_label": f"difference in {bar_title([first, second])}", **options}
    return plot_cka_map(
        apart, ax, alignment=False, palette="diverging", low=-limit, high=limit, **options
    )


def difference_figure(
    first: SimilarityMap, second: SimilarityMap, style: Style | str = "plain", **options: Any
) -> Figure:
    """A figure of ``first`` minus ``second``; ``options`` are those of `plot_cka_difference`."""
    style = as_style(style)
    return one_axes_figure(
        style,
        1.35 * style.inches,
        lambda axes: plot_cka_difference(first, axes, second=second, **options),
        trim=True,
    )


def map_difference(first: SimilarityMap, second: SimilarityMap) -> SimilarityMap:
    """``first`` minus ``second`` cell by cell, both labels on an axis where they differ.

    Raises:
        ComparisonError: the maps are of different layers.
    """
    for axis in ("y_layers", "x_layers"):
        one, other = getattr(first, axis), getattr(second, axis)
        if one != other:
            raise ComparisonError(
                f"two maps are subtracted layer by layer: {axis} are {_shown(one)} and "
                f"{_shown(other)}; choose maps of the same layers"
            )
    return SimilarityMap(
        first.similarity - second.similarity,
        measure=first.measure if first.measure == second.measure else "unknown",
        y_label=_either(first.y_label, second.y_label),
        x_label=_either(first.x_label, second.x_label),
        y_layers=first.y_layers,
        x_layers=first.x_layers,
    )


def _either(one: str, other: str) -> str:
    return one if one == other else f"{one} − {other}"


def _round_up(apart: SimilarityMap) -> float:
    """Largest difference, up to its first digit; 1 where there is none."""
    values = np.abs(apart.similarity[np.isfinite(apart.similarity)])
    largest = float(values.max()) if len(values) else 0.0
    if largest < 1e-12:
        return 1.0
    unit = 10.0 ** np.floor(np.log10(largest))
    return float(np.ceil(largest / unit - 1e-9) * unit)


def _shown(layers: tuple[int, ...]) -> str:
    if len(layers) <= 4:
        return str(list(layers))
    return f"{layers[0]}..{layers[-1]} ({len(layers)} layers)"
