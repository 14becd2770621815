"""Curves with bands, and losses of several seeds as points: what all line figures share.

Colours, markers and dashes of several results in one figure, and their legend. A point is a mean
over seeds with one standard deviation, each seed a faint dot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from engramcka.errors import ComparisonError, ConfigError
from engramcka.figures.labels import (
    as_plain,
    elided,
    fit,
    set_ticks,
    size_in_points,
    span_of,
    text_width,
    tick_size,
)
from engramcka.figures.style import Style, as_style, one_axes_figure
from engramcka.plain_text import one_line
from engramcka.results.losses import SeedSweep
from engramcka.results.statistics import Float, mean_finite

Sweep = TypeVar("Sweep", bound=SeedSweep)

POINTS_HIGH = 0.68  # height over width of a figure of points
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
_MARKERS = "os^Dv"
_DASHES = ("-", "--", ":", "-.")
_APART = 4.0  # points between layers that markers need
_NAME_SHARE = 0.62  # of the axes' width, for the longest name of a legend
_ROWS = 0.6  # of the axes' height, for a legend in one column
_MOST_ROWS = 0.8  # and in two


@dataclass(frozen=True)
class LineStyle:
    """How one of several curves is drawn."""

    colour: str
    marker: str
    dashes: str = "-"

    @classmethod
    def of(cls, index: int, dashes: str | None = None) -> LineStyle:
        """The line_style of curve ``index`` among several."""
        turn = index // len(COLOURS)
        return cls(
            COLOURS[index % len(COLOURS)],
            _MARKERS[index % len(_MARKERS)],
            dashes or _DASHES[turn % len(_DASHES)],
        )


def draw_curve(
    ax: Axes, x: Float, y: Float, line_style: LineStyle, *, marked: bool = True
) -> Line2D:
    """A line through (points,) values; gaps where there is none, markers where there is room."""
    room = size_in_points(ax)[0] / max(len(x), 1)
    alone = np.isfinite(y).sum() == 1
    (line,) = ax.plot(
        x, y, color=line_style.colour, linestyle=line_style.dashes, linewidth=1.1, zorder=3,
        marker=line_style.marker if alone or (marked and room >= _APART) else "",
        markersize=min(3.2, 0.5 * room) if not alone else 3.2, markeredgewidth=0.0,
    )  # fmt: skip
    return line


def draw_band(
    ax: Axes, x: Float, low: Float | None, high: Float | None, line_style: LineStyle
) -> PolyCollection | None:
    """The interval of a curve, or None where it has none. Both ends are (points,)."""
    if low is None or high is None or not np.isfinite(low + high).any():
        return None
    return ax.fill_between(
        x, low, high, color=line_style.colour, alpha=0.2, linewidth=0.0, zorder=2,
        where=np.isfinite(low + high),
    )  # fmt: skip


def draw_legend(
    ax: Axes, handles: Sequence[Any], names: Sequence[tuple[str, str]], *, outside: bool = False
) -> Legend | None:
    """Names of the curves where least is in the way; one curve alone needs none.

    A name is a label, shortened where it is long, and what is kept whole after it. A legend too
    high for the axes goes on in a second column, and counts what does not fit there. ``outside``
    puts it above the axes.
    """
    if len(handles) < 2:
        return None
    width, height = size_in_points(ax)
    size = tick_size(ax)
    columns = 1 if len(handles) * 1.3 * size <= _ROWS * height and not outside else 2
    font = FontProperties(family=ax.xaxis.label.get_fontfamily(), size=size)
    room = _NAME_SHARE * width if columns == 1 else 0.5 * width - 4 * size
    most = max(4, 2 * int(_MOST_ROWS * height / (1.3 * size)))
    shown = [
        elided(one_line(name), font, room - text_width(after, font)) + after
        for name, after in names
    ]
    if len(shown) > most and not outside:
        handles = [*handles[: most - 1], Line2D([], [], linestyle="none")]
        shown = [*shown[: most - 1], f"and {len(shown) - most + 1} more"]
    place: dict[str, Any] = {"loc": "best", "borderaxespad": 0.3}
    if outside:
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "borderaxespad": 0.1}
    legend: Legend = ax.legend(
        handles, shown, **place, fontsize=size, frameon=not outside, framealpha=0.85,
        edgecolor="none", facecolor=ax.get_facecolor(), borderpad=0.2, labelspacing=0.25,
        handlelength=1.8, handletextpad=0.5, ncols=columns, columnspacing=0.8,
    )  # fmt: skip
    legend.set_zorder(4)
    as_plain(legend.get_texts())
    return legend


def draw_points(
    ax: Axes, x: Float, loss: Float, line_style: LineStyle, half: Float
) -> tuple[ErrorbarContainer, Line2D | None]:
    """Means of (points, seeds) losses at ``x``, joined by a line; gaps where there is none.

    Args:
        ax: where.
        x: (points,).
        loss: (points, seeds).
        line_style: colour and marker.
        half: (points,) half the length of each bar; NaN for none.

    Returns:
        The means with their bars, where there are any, and the faint dots of several seeds.
    """
    seeded = loss.shape[1] > 1
    dots = None
    if seeded:
        (dots,) = ax.plot(
            np.repeat(x, loss.shape[1]), loss.ravel(), linestyle="none", marker="o",
            markersize=2.0, color=line_style.colour, alpha=0.4, markeredgewidth=0.0, zorder=2,
        )  # fmt: skip
    points = ax.errorbar(
        x, mean_finite(loss), half if np.isfinite(half).any() else None,
        color=line_style.colour, marker=line_style.marker, linestyle=line_style.dashes,
        markersize=min(3.5, 0.75 * size_in_points(ax)[0] / len(x)),
        linewidth=1.1, elinewidth=0.8, capsize=1.6, zorder=3,
    )  # fmt: skip
    return points, dots


def loss_label(ax: Axes, unit: str, room: float, what: str = "validation loss") -> str:
    """What is measured, with its unit where that fits in ``room`` points."""
    full = f"{what} ({one_line(unit)})"
    return full if text_width(full, ax.yaxis.label.get_fontproperties()) <= room else what


def limit_losses(ax: Axes, sweeps: Sequence[SeedSweep], others: Sequence[float] = ()) -> None:
    """The y axis with room around all losses, bars and other levels; or a word that there is none.

    Args:
        ax: where.
        sweeps: drawn there.
        others: further levels; NaN is passed over.
    """
    ends = [(sweep.mean, np.nan_to_num(sweep.bars)) for sweep in sweeps]
    parts = [part for mean, bars in ends for part in (mean - bars, mean + bars)]
    values = np.concatenate([*parts, *(sweep.loss.ravel() for sweep in sweeps), np.array(others)])
    values = values[np.isfinite(values)]
    if not len(values):
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no loss yet", transform=ax.transAxes, ha="center", va="center")
        return
    room = 0.12 * span_of(values)
    limits = float(values.min()) - room, float(values.max()) + room
    ax.set_ylim(*limits)
    set_ticks(ax, (limits,))


def finish_losses(ax: Axes, unit: str, title: str | None) -> None:
    """Name the y axis of losses and put a title above, both as wide as there is room."""
    width, height = size_in_points(ax)
    ax.set_ylabel(loss_label(ax, unit, height))
    fit(ax.yaxis.label, height)
    if title is not None:
        ax.set_title(title)
        fit(ax.title, width)


def common_unit(sweeps: Sequence[SeedSweep], what: str) -> str:
    """The unit of all these losses.

    Raises:
        ConfigError: there is no sweep; ``what`` names them.
        ComparisonError: the units differ.
    """
    units = list(dict.fromkeys(sweep.unit for sweep in sweeps))
    if not units:
        raise ConfigError(f"a figure of {what} needs at least one")
    if len(units) > 1:
        raise ComparisonError(f"losses in {' and '.join(units)} have no common axis")
    return units[0]


@dataclass(frozen=True)
class PointArtists:
    """What was drawn of sweeps over a number, to be changed at will; in the order of the sweeps."""

    axes: Axes
    points: list[ErrorbarContainer]  # means over seeds, one standard deviation where there are two
    seeds: list[Line2D | None]  # every seed's loss, faint
    levels: list[Line2D]  # the losses of what they are compared with, where those are known
    marks: list[Line2D]  # what is drawn over the points: a ring, a straight line
    legend: Legend | None


@dataclass(frozen=True)
class PointDrawing(Generic[Sweep]):
    """What tells one kind of sweep over a number from another when it is drawn."""

    noun: str  # sweeps of this kind, in a message
    x: Callable[[Sweep], Float]  # (points,)
    level: Callable[[Sweep], float]  # the dashed line; NaN for none
    mark: Callable[[Axes, Sweep, str], Line2D | None]  # drawn over the points, in this colour
    name_x: Callable[[Axes, Sequence[Sweep]], None]  # limits, ticks and name of the x axis


def plot_points(
    ax: Axes,
    sweeps: Sequence[Sweep],
    drawing: PointDrawing[Sweep],
    *,
    title: str | None,
    legend: bool,
) -> PointArtists:
    """Draw sweeps over a number: points joined by lines, a dashed level, a mark.

    Raises:
        ConfigError: there is no sweep.
        ComparisonError: the units differ.
    """
    unit = common_unit(sweeps, drawing.noun)
    drawn, levels, marks = [], [], []
    for index, sweep in enumerate(sweeps):
        line_style, x, level = LineStyle.of(index), drawing.x(sweep), drawing.level(sweep)
        order = np.argsort(x, kind="stable")
        drawn.append(draw_points(ax, x[order], sweep.loss[order], line_style, sweep.bars[order]))
        if np.isfinite(level):
            levels.append(
                ax.axhline(level, color=line_style.colour, linestyle="--", linewidth=0.8, zorder=1)
            )
        marks.append(drawing.mark(ax, sweep, line_style.colour))
    limit_losses(ax, sweeps, [drawing.level(sweep) for sweep in sweeps])
    drawing.name_x(ax, sweeps)
    finish_losses(ax, unit, title)
    points, seeds = [one[0] for one in drawn], [one[1] for one in drawn]
    names = [(sweep.label, "") for sweep in sweeps]
    shown = draw_legend(ax, [made.lines[0] for made in points], names) if legend else None
    return PointArtists(ax, points, seeds, levels, [mark for mark in marks if mark], shown)


def points_figure(
    plot: Callable[..., Any], sweeps: Any, style: Style | str, **options: Any
) -> Figure:
    """A figure of its own with what ``plot`` draws of the sweeps; ``options`` are the plot's."""
    style = as_style(style)
    height = max(1.9, min(POINTS_HIGH * style.inches, 3.4))
    return one_axes_figure(style, height, lambda axes: plot(sweeps, axes, **options))


def spread_sentence(sweeps: Sequence[SeedSweep]) -> str:
    """What the points and bars are, for a caption."""
    seeds = sorted({len(sweep.seeds) for sweep in sweeps})
    if seeds == [1]:
        return "One seed: the spread between seeds is unknown."
    numbers = " or ".join(map(str, seeds))
    return f"Points are means over {numbers} seeds (faint), bars one standard deviation."
