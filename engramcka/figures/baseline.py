"""A map beside its baselines on one scale, and the most similar layers of each as curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from engramcka.config.baselines import MEANINGS
from engramcka.figures.draw import Drawing, Table, escaped, interval, number, only
from engramcka.figures.heatmap import map_shape
from engramcka.figures.labels import fit, layer_ticks, size_in_points, tick_size
from engramcka.figures.lines import LineStyle, draw_band, draw_curve, draw_legend
from engramcka.figures.panels import draw_panels
from engramcka.figures.style import Style, as_style, compose, new_figure, on_own_axes
from engramcka.measures import MEASURES
from engramcka.plain_text import one_line
from engramcka.results import Baseline, SimilarityMap

_HIGH = 0.62  # height over width of the curves
_WIDE = 5.0  # inches; narrower, two maps stand beside each other, not three
_CURVES_HIGH = 2.2  # inches, at most
_BESIDE, _AROUND = 0.9, 0.55  # inches left and right of all maps, and above and below each
_MAPS = {"palette", "diagonal"}  # options that only the maps take


@dataclass(frozen=True)
class BaselineArtists:
    """What was drawn, to be changed at will; in the order of the map and its baselines."""

    axes: Axes
    curves: list[Line2D]
    bands: list[PolyCollection | None]  # 95 % intervals, where there are any
    legend: Legend | None


@on_own_axes(height=_HIGH)
def plot_baseline(
    found: Baseline,
    ax: Axes | None = None,
    *,
    first_layer: int = 1,
    interval: bool = True,
    legend: bool = True,
    title: str | None = None,
) -> BaselineArtists:
    """Draw how similar the most similar layer of y is to each layer of x, with and without.

    Args:
        found: the map and its baselines.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).
        first_layer: number of the first block: 1, or 0 as the paper's Figure 4 counts.
        interval: draw 95 % intervals where there are any.
        legend: name the curves.
        title: plain text above.

    Returns:
        The artists.
    """
    assert ax is not None
    x = np.array(found.x_layers, dtype=np.float64) + first_layer - 1
    order = np.argsort(x, kind="stable")
    lines, bands = [], []
    for at in range(len(found.titles)):
        look = LineStyle.of(at)
        low, high = (getattr(found, f"best_{end}")[at][order] for end in ("low", "high"))
        lines.append(draw_curve(ax, x[order], found.best[at][order], look))
        bands.append(draw_band(ax, x[order], low, high, look) if interval else None)
    lines[0].set_zorder(4)  # where a baseline is as high, the map is seen
    width, height = size_in_points(ax)
    ax.set_xticks(layer_ticks(x[order], int(width / (2.0 * tick_size(ax)))))
    shown = np.stack([found.best, *((found.best_low, found.best_high) if interval else ())])
    there = [0.0, 1.0, *shown[np.isfinite(shown)].tolist()]
    ax.set_ylim(min(there) - 0.02, max(there) + 0.02)
    ax.set_yticks(0.2 * np.arange(np.ceil(5 * min(there)), 5 * max(there) + 0.01))
    ax.set_xlabel(one_line(found.x_label))
    ax.set_ylabel(f"most similar {found.title}")
    fit(ax.xaxis.label, width, " layer")
    fit(ax.yaxis.label, height)
    if title is not None:
        ax.set_title(one_line(title))
        fit(ax.title, width)
    names = [(title, "") for title in found.titles]
    return BaselineArtists(ax, lines, bands, draw_legend(ax, lines, names) if legend else None)


def baseline_figure(
    found: Baseline, style: Style | str = "plain", *, title: str | None = None, **options: Any
) -> Figure:
    """The map and the baselines that vary over its cells on one scale, the curves below them.

    Args:
        found: the map and its baselines.
        style: a `Style` or the name of one.
        title: plain text above the curves.
        options: those of `plot_baseline`, but ``ax``; ``palette`` and ``diagonal`` of the maps.
    """
    style = as_style(style)
    maps, titles = _panels(found)
    columns = min(len(maps), 3 if style.inches >= _WIDE else 2)
    rows = -(-len(maps) // columns)
    first = options.get("first_layer", 1)
    of_maps = {key: value for key, value in options.items() if key in _MAPS}
    of_curves = {key: value for key, value in options.items() if key not in _MAPS}
    width = (style.inches - _BESIDE) / columns
    cells = rows * (min(width / map_shape(maps[0]), width * 2) + _AROUND)
    curves = min(style.inches * _HIGH, _CURVES_HIGH)
    with style.context():
        figure = new_figure(style, cells + curves)
        shape: dict[str, Any] = {"nrows": 2, "ncols": 1, "height_ratios": (cells, curves)}
        above, below = figure.subfigures(squeeze=False, **shape).ravel()
        grid, ax = above.subplots(rows, columns, squeeze=False), below.subplots()

        def draw() -> None:
            draw_panels(grid, maps, titles, alignment=False, first_layer=first, **of_maps)
            plot_baseline(found, ax, title=title, **of_curves)

        compose(figure, draw)
    return figure


def _panels(found: Baseline) -> tuple[list[SimilarityMap], list[str]]:
    """The maps that are worth a panel, and what stands above each: one that is the same all over
    is a line of the curves."""
    shown = [at for at in range(len(found.titles)) if at == 0 or np.ptp(_there(found, at)) > 0]
    sides = {
        name: getattr(found, name)
        for name in ("y_label", "x_label", "y_layers", "x_layers", "measure")
    }
    maps = [SimilarityMap(found.similarity[at], **sides) for at in shown]
    return maps, [one_line(found.titles[at]) for at in shown]


def _there(found: Baseline, at: int) -> Any:
    cells = found.similarity[at]
    there = cells[np.isfinite(cells)]
    return there if len(there) else np.zeros(1)


def baseline_caption(found: Baseline) -> str:
    """What the map and each baseline are, and what of the map they leave."""
    y, x = one_line(found.y_label), one_line(found.x_label)
    over = f" over {found.interval_over}" if found.interval_over else ""
    measure = MEASURES.get(found.measure)
    words = f" ({measure.words})" if measure is not None else ""
    known = f" on {found.samples[0]:,} samples" if found.samples[0] else ""
    where = f", those where {one_line(found.where)}" if found.where else ""
    parts = [
        f"{found.title}{words} of the layers of {y} (rows) and {x} (columns){known}{where}, beside "
        f"baselines that are made in the same way. Curves: similarity of each layer of {x} with "
        f"the layer of {y} that is most like it (bands: 95 % intervals{over})."
    ]
    parts += [f"{title}: {MEANINGS[title]}." for title in found.titles if title in MEANINGS]
    parts.append(f"{found.summary()}.")
    return " ".join([*parts, *(f"Note: {one_line(warning)}." for warning in found.warnings)])


def baseline_table(results: Sequence[Baseline], digits: int | None) -> Table:
    """A row a map: its mean, how far the first is above it, and the correlation of their cells."""
    found: Baseline = only(results)
    digits = 3 if digits is None else digits
    rows = []
    for at, title in enumerate(found.titles):
        row = [escaped(title), number(found.mean[at], digits)]
        row.append(interval(found.mean_low[at], found.mean_high[at], digits))
        if at:
            row.append(number(found.above[at], digits))
            row.append(interval(found.above_low[at], found.above_high[at], digits))
            row.append(number(found.correlation[at], 2))
        else:
            row += ["--", "--", "--"]
        rows.append(row)
    ends = "95\\,\\% interval"
    head = ["Map", f"Mean {found.title}", ends, "The map above it", ends, "Correlation"]
    return head, rows


DRAWING = Drawing(baseline_figure, plot_baseline, baseline_caption, baseline_table)
