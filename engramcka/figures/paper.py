"""Maps and a layer sweep side by side, as the Engram paper's Figures 4 (b)-(c) and 5.

Knows results, no files: `engramcka.paper` has the published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from engramcka.errors import ConfigError
from engramcka.figures.panels import draw_panels, letters
from engramcka.figures.style import Style, as_style, compose, new_figure
from engramcka.figures.sweep import plot_sweep
from engramcka.results import CkaMap, LossSweep

_SWEEP_WIDTH = 1.35  # of a map's, and over its height
_SWEEP_BELOW = 1.7, 2.4  # width over height, in one column and in a page
_NARROWEST = 6.0  # inches; below, the sweep stands under the maps


def paper_figure(
    maps: Sequence[CkaMap],
    sweep: LossSweep,
    style: Style | str | None = None,
    *,
    first_layer: int = 1,
    **options: Any,
) -> Figure:
    """Maps with one colour bar, and the sweep beside them; under them in a narrow figure.

    Args:
        maps: one to three; rows of one height where they have the same layers.
        sweep: always counted from layer 1, as the paper's Figure 5 is.
        style: a `Style` or the name of one; without it the plain one, as wide as the page.
        first_layer: number of the first block of the maps; the paper's Figure 4 counts from 0.
        options: further options of `plot_cka_map`.

    Raises:
        ConfigError: there is no map, or there are more than three.
    """
    style = Style.named(width="page") if style is None else as_style(style)
    if not 1 <= len(maps) <= 3:
        raise ConfigError(f"this figure shows one to three maps beside a sweep, found {len(maps)}")
    count = len(maps)
    options = {"halo": False, "first_layer": first_layer, **options}
    wide = style.inches >= _NARROWEST
    across = _SWEEP_WIDTH if wide else _SWEEP_BELOW[style.inches > 4.0]
    with style.context():
        figure = new_figure(style, style.inches * (1.0 if wide else 1.6))
        if wide:
            *left, right = figure.subplots(1, count + 1, width_ratios=[1.0] * count + [across])
        else:
            grid = figure.add_gridspec(2, count, height_ratios=[1.0, count / across])
            left = [figure.add_subplot(grid[0, column]) for column in range(count)]
            right = figure.add_subplot(grid[1, :])

        def draw() -> None:
            draw_panels(np.array([left]), maps, letters(count + 1)[:count], **options)
            right.set_box_aspect(1 / across)
            for ax in left if not wide else ():
                ax.set_anchor("S")
            right.set_anchor("C" if wide else "N")
            plot_sweep(sweep, right, title=letters(count + 1)[-1])

        compose(figure, draw, trim=True)
    return figure
