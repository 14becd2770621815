"""Lens curves, maps and a layer sweep as one figure: the Engram paper's Figures 4 and 5.

Knows results, no files: `engramcka.paper` has the published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from engramcka.errors import ConfigError
from engramcka.figures.heatmap import map_shape
from engramcka.figures.lens import plot_lens
from engramcka.figures.panels import draw_panels, letters, told_apart
from engramcka.figures.style import PAD, SETTLED, Style, arrange, as_style, compose, new_figure
from engramcka.figures.sweep import plot_sweep
from engramcka.results import LensCurve, LossSweep, SimilarityMap

Panel = tuple[str, float]
"""lens, map or sweep, and its width over its height in a row with others, which are as high."""

_LENS, _SWEEP = 1.25, 1.35
_ALL = 1.8  # inches of a row's height that one row of everything needs
_CURVES_AND_MAPS = 1.55  # and one of the curves and the maps, as Figure 4 is
_ALONE = 1.7, 2.4, 3.0  # width over height of a panel with its own row: column, text, page


def paper_figure(
    maps: Sequence[SimilarityMap] = (),
    sweep: LossSweep | None = None,
    style: Style | str | None = None,
    *,
    lens: Sequence[LensCurve] = (),
    first_layer: int = 1,
    log: bool = False,
    **options: Any,
) -> Figure:
    """Lens curves, maps with one colour bar, and the sweep, in rows as the width allows.

    Args:
        maps: up to three, in a row of one height.
        sweep: always counted from layer 1, as the paper's Figure 5 is.
        style: a `Style` or the name of one; without it the plain one, as wide as the page.
        lens: curves for one panel.
        first_layer: number of the first block of curves and maps; the paper's Figure 4 counts
            from 0.
        log: a logarithmic axis for the divergence.
        options: further options of `plot_cka_map`.

    Raises:
        ConfigError: there is nothing to draw, or there are more than three maps.
    """
    style = Style.named(width="page") if style is None else as_style(style)
    if len(maps) > 3:
        raise ConfigError(f"this figure shows up to three maps, found {len(maps)}; name some")
    panels = [
        *([("lens", _LENS)] if lens else []),
        *(("map", map_shape(cka)) for cka in maps),
        *([("sweep", _SWEEP)] if sweep is not None else []),
    ]
    if not panels:
        raise ConfigError("this figure needs lens curves, maps or a sweep; found none of them")
    options = {"first_layer": first_layer, **options}
    rows = _rows(panels, style.inches)
    with style.context():
        figure = new_figure(style, style.inches * len(rows))
        grid = figure.add_gridspec(len(rows), 1)
        axes = _axes(figure, grid, rows)
        row_of = [index for index, row in enumerate(rows) for _ in row]
        titles = letters(len(axes)) if len(axes) > 1 else [""]
        ways = iter(told_apart(maps))
        titles = [
            f"{title} {next(ways) if kind == 'map' else ''}".strip()
            for title, (kind, _) in zip(titles, panels, strict=True)
        ]
        of: dict[str, list[Axes]] = {}
        for ax, (kind, _) in zip(axes, panels, strict=True):
            of.setdefault(kind, []).append(ax)
        named = dict(zip(axes, titles, strict=True))

        def draw() -> None:
            for ax, panel, row in zip(axes, panels, row_of, strict=True):
                _shape(ax, panel, len(rows[row]) == 1, style.inches)
            if maps:
                draw_panels(np.array([of["map"]]), maps, [named[ax] for ax in of["map"]], **options)
            if lens:
                (ax,) = of["lens"]
                plot_lens(lens, ax, title=named[ax], first_layer=first_layer, log=log)
            if sweep is not None:
                (ax,) = of["sweep"]
                plot_sweep(sweep, ax, title=named[ax])

        compose(figure, draw, trim=partial(_fit_rows, grid=grid, row_of=row_of))
    return figure


def _rows(panels: Sequence[Panel], inches: float) -> list[list[Panel]]:
    """The panels in rows: as few as leave each panel its room."""

    def room(row: Sequence[Panel]) -> float:
        return inches / sum(width for _, width in row)

    whole = list(panels)
    if whole[-1][0] != "sweep" or room(whole) >= _ALL:
        return _without_sweep(whole, room)
    return [*_without_sweep(whole[:-1], room), whole[-1:]]


def _without_sweep(
    panels: list[Panel], room: Callable[[Sequence[Panel]], float]
) -> list[list[Panel]]:
    maps = [panel for panel in panels if panel[0] != "lens"]
    if len(panels) > len(maps) > 0 and room(panels) < _CURVES_AND_MAPS:
        return [panels[:1], maps]
    return [panels] if panels else []


def _axes(figure: Figure, grid: GridSpec, rows: Sequence[Sequence[Panel]]) -> list[Axes]:
    """An axes a panel, in reading order."""
    axes = []
    for index, row in enumerate(rows):
        inner = grid[index].subgridspec(1, len(row), width_ratios=[width for _, width in row])
        axes += [figure.add_subplot(inner[0, column]) for column in range(len(row))]
    return axes


def _shape(ax: Axes, panel: Panel, own_row: bool, inches: float) -> None:
    """The shape of an axes, which clearing it forgets: as high as the maps beside it."""
    kind, width = panel
    if kind != "map":
        ax.set_box_aspect(1 / (_alone(inches) if own_row else width))


def _fit_rows(figure: Figure, grid: GridSpec, row_of: Sequence[int]) -> None:
    """Lay the panels out as wide as they can be, then give each row the height that it needs.

    What maps need is known once their row is about so high: one layout takes their labels for a
    part of the room that the maps leave.
    """
    rows = len(set(row_of))
    grid.set_height_ratios([1.0] * rows)
    arrange(figure, rows * figure.get_figwidth())
    for _ in range(4):
        needed = _heights(figure, row_of)
        grid.set_height_ratios(needed)
        before = figure.get_figheight()
        arrange(figure, sum(needed))
        if abs(sum(needed) - before) < SETTLED:
            break


def _heights(figure: Figure, row_of: Sequence[int]) -> list[float]:
    """What each row needs, in inches."""
    renderer = cast(Any, figure.canvas).get_renderer()
    needed = [0.0] * len(set(row_of))
    for ax, row in zip(figure.axes, row_of, strict=False):
        box = cast(Any, ax.get_tightbbox(renderer))
        needed[row] = max(needed[row], box.height / figure.dpi)
    return [height + 2 * PAD for height in needed]


def _alone(inches: float) -> float:
    return _ALONE[(inches > 4.0) + (inches > 6.0)]
