"""Maps of several models with one another: a row of panels a model y, a column a model x."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engramcka.errors import ConfigError
from engramcka.figures.cka import caption_parts
from engramcka.figures.heatmap import finish_colour_bar, plot_cka_map
from engramcka.figures.labels import size_in_points
from engramcka.figures.panels import bar_title, cka_panels, letters, told_apart
from engramcka.figures.style import Style, as_style, compose, new_figure
from engramcka.results import SimilarityMap

_COLUMNS = 3  # of maps that make no grid

Places = dict[tuple[int, int], SimilarityMap]  # (row, column) -> its map, in reading order


def map_grid(maps: Sequence[SimilarityMap], style: Style | str = "plain", **options: Any) -> Figure:
    """All maps with one colour bar, named (a), (b), .. in reading order.

    Where no two are of the same models, each row is of one model y and each column of one model x,
    in the order in which they come; other maps stand one after the other.

    Args:
        maps: at least one.
        style: a `Style` or the name of one.
        options: those of `plot_cka_map`, but ``ax``, ``title`` and ``colour_bar``.

    Raises:
        ConfigError: there is no map.
    """
    if not maps:
        raise ConfigError("a figure of maps needs at least one map")
    places = _places(maps)
    if places is None:
        ways = zip(letters(len(maps)), told_apart(maps), strict=True)
        titles = [f"{letter} {way}".strip() for letter, way in ways]
        columns = min(len(maps), _COLUMNS)
        return cka_panels(maps, style, titles=titles, columns=columns, **options)
    rows, columns = (1 + max(place[axis] for place in places) for axis in (0, 1))
    high = {row: len(cka.y_layers) for (row, _), cka in places.items()}
    wide = {column: len(cka.x_layers) for (_, column), cka in places.items()}
    style = as_style(style)
    with style.context():
        needed = sum(high.values()) / sum(wide.values())
        figure = new_figure(style, style.inches * (0.35 + 1.1 * needed), "compressed")
        grid = figure.subplots(
            rows,
            columns,
            squeeze=False,
            width_ratios=[wide[column] for column in range(columns)],
            height_ratios=[high[row] for row in range(rows)],
        )
        compose(figure, lambda: _draw(grid, places, options), trim=True)
    return figure


def in_reading_order(maps: Sequence[SimilarityMap]) -> list[SimilarityMap]:
    """The maps as `map_grid` names them."""
    places = _places(maps)
    return list(maps if places is None else places.values())


def map_grid_caption(maps: Sequence[SimilarityMap], *, k: int = 5, first_layer: int = 1) -> str:
    """What is said of each map, by its letter, and once what holds for all of them."""
    ordered = in_reading_order(maps)
    parts = [caption_parts(cka, k=k, first_layer=first_layer) for cka in ordered]
    shared = [part for part in parts[0] if all(part in other for other in parts)]
    own = [[part for part in one if part not in shared] for one in parts]
    said = zip(letters(len(own)), own, strict=True)
    return " ".join([*(" ".join([letter, *one]) for letter, one in said), *shared])


def _places(maps: Sequence[SimilarityMap]) -> Places | None:
    """Where in a grid of models each map stands; None where they make no grid."""
    ys, xs = (
        list(
            dict.fromkeys((getattr(m, f"{side}_label"), getattr(m, f"{side}_layers")) for m in maps)
        )
        for side in ("y", "x")
    )
    of = {((m.y_label, m.y_layers), (m.x_label, m.x_layers)): m for m in maps}
    is_full = 2 * len(of) >= len(ys) * len(xs)
    if len(of) < len(maps) or not is_full or 1 in (len(ys), len(xs)):
        return None
    return {
        (row, column): of[y, x]
        for (row, y), (column, x) in product(enumerate(ys), enumerate(xs))
        if (y, x) in of
    }


def _draw(grid: Any, places: Places, options: dict[str, Any]) -> None:
    """Every map in its place; layers are named on the outer panels of each row and column."""
    drawn = {}
    for (place, cka), title in zip(places.items(), letters(len(places)), strict=True):
        drawn[place] = plot_cka_map(cka, grid[place], title=title, colour_bar=False, **options)
    for row, column in np.ndindex(grid.shape):
        ax: Axes = grid[row, column]
        if (row, column) not in places:
            ax.set_axis_off()
            continue
        if any(other < column for at, other in places if at == row):
            ax.tick_params(labelleft=False)
            ax.set_ylabel("")
        if any(other > row for other, at in places if at == column):
            ax.tick_params(labelbottom=False)
            ax.set_xlabel("")
    first = next(iter(drawn.values()))
    bar = grid[0, 0].figure.colorbar(
        first.cells, ax=list(grid.ravel()), pad=0.02, fraction=0.03, aspect=40
    )
    finish_colour_bar(
        bar, bar_title(list(places.values())), sum(size_in_points(ax)[1] for ax in grid[:, -1])
    )
