"""Validation loss against the number of memory slots, as the Engram paper's Figure 3 (right).

The axis of slots is logarithmic. The dashed line is the model without memory, the dotted one the
straight line through the means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from engramcka.figures.draw import Drawing
from engramcka.figures.labels import short_count
from engramcka.figures.latex import Table, deviations, escaped, number, only
from engramcka.figures.lines import (
    LineStyle,
    common_unit,
    draw_legend,
    draw_points,
    finish_losses,
    limit_losses,
    spread_sentence,
)
from engramcka.figures.style import Style, as_style, compose, new_figure, on_own_axes
from engramcka.plain_text import one_line
from engramcka.results import SlotSweep

_HIGH = 0.68  # height over width


@dataclass(frozen=True)
class SlotArtists:
    """What was drawn, to be changed at will; in the order of the sweeps."""

    axes: Axes
    points: list[ErrorbarContainer]  # means over seeds, one standard deviation where there are two
    seeds: list[Line2D | None]  # every seed's loss, faint
    baselines: list[Line2D]  # the losses without memory that are known
    lines: list[Line2D]  # straight lines through three means or more
    legend: Legend | None


@on_own_axes(height=_HIGH)
def plot_slots(
    sweeps: SlotSweep | Sequence[SlotSweep],
    ax: Axes | None = None,
    *,
    title: str | None = None,
    legend: bool = True,
) -> SlotArtists:
    """Draw one or several slot sweeps on these axes, or on new ones.

    Args:
        sweeps: one, or several of one unit; points that are not there (NaN) leave a gap.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).
        title: plain text above.
        legend: name the sweeps, where there are several.

    Raises:
        ConfigError: there is no sweep.
        ComparisonError: the units differ.
    """
    assert ax is not None
    sweeps = [sweeps] if isinstance(sweeps, SlotSweep) else list(sweeps)
    unit = common_unit(sweeps, "slot sweeps")
    ax.set_xscale("log")
    drawn = [_draw(ax, sweep, LineStyle.of(index)) for index, sweep in enumerate(sweeps)]
    points, seeds = [one[0] for one in drawn], [one[1] for one in drawn]
    _limits(ax, sweeps)
    ax.set_xlabel("memory slots")
    finish_losses(ax, unit, title)
    names = [(sweep.label, "") for sweep in sweeps]
    shown = draw_legend(ax, [made.lines[0] for made in points], names) if legend else None
    baselines, lines = [one[2] for one in drawn if one[2]], [one[3] for one in drawn if one[3]]
    return SlotArtists(ax, points, seeds, baselines, lines, shown)


def slots_figure(
    sweeps: SlotSweep | Sequence[SlotSweep], style: Style | str = "plain", **options: Any
) -> Figure:
    """A figure with one or several sweeps; ``options`` are `plot_slots`'s, but ``ax``."""
    style = as_style(style)
    with style.context():
        figure = new_figure(style, max(1.9, min(_HIGH * style.inches, 3.4)))
        axes = figure.subplots()
        compose(figure, lambda: plot_slots(sweeps, axes, **options))
    return figure


def _draw(
    ax: Axes, sweep: SlotSweep, line_style: LineStyle
) -> tuple[ErrorbarContainer, Line2D | None, Line2D | None, Line2D | None]:
    """Points, seeds, the level without memory and the straight line."""
    order = np.argsort(sweep.slots, kind="stable")
    slots = sweep.slots[order]
    points, seeds = draw_points(ax, slots, sweep.loss[order], line_style, sweep.bars[order])
    baseline = straight = None
    if np.isfinite(sweep.baseline_mean):
        baseline = ax.axhline(
            sweep.baseline_mean, color=line_style.colour, linestyle="--", linewidth=0.8, zorder=1
        )
    if sweep.line is not None:
        line, ends = sweep.line, slots[[0, -1]]
        (straight,) = ax.plot(
            ends, line.start + line.slope * np.log10(ends), color=line_style.colour, linestyle=":",
            linewidth=0.8, zorder=1,
        )  # fmt: skip
    return points, seeds, baseline, straight


def _limits(ax: Axes, sweeps: Sequence[SlotSweep]) -> None:
    """Both axes with room around the points; ticks at 1, 2 and 5 of a decade where they fit."""
    slots = np.concatenate([sweep.slots for sweep in sweeps])
    low, high = float(slots.min()) / 1.4, float(slots.max()) * 1.4
    ax.set_xlim(low, high)
    ax.xaxis.set_major_locator(LogLocator(10, subs=(1.0,) if high > 300 * low else (1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    limit_losses(ax, sweeps, [sweep.baseline_mean for sweep in sweeps])


def slots_caption(sweeps: Sequence[SlotSweep]) -> str:
    """What a slot is, and the dashed and the dotted line."""
    known = [sweep for sweep in sweeps if np.isfinite(sweep.baseline_mean)]
    without = ", ".join(dict.fromkeys(one_line(sweep.baseline_label) for sweep in known))
    dashed = f" Dashed: {without}." if known else ""
    dotted = " Dotted: straight line through the means." if any(s.line for s in sweeps) else ""
    return (
        f"Validation loss ({one_line(sweeps[0].unit)}) against the rows of all memory tables. "
        f"{spread_sentence(sweeps)}{dashed}{dotted}"
    )


def slots_table(sweeps: Sequence[SlotSweep], digits: int | None) -> Table:
    """A row a number of slots, then the model without memory."""
    sweep = only(sweeps)
    digits, several = 4 if digits is None else digits, len(sweep.seeds) > 1
    rows = [
        [f"{sweep.slots[index]:,.0f}", number(sweep.mean[index], digits),
         *deviations(sweep.loss[index], several, digits)]
        for index in np.argsort(sweep.slots, kind="stable")
    ]  # fmt: skip
    if np.isfinite(sweep.baseline_mean):
        spread = deviations(sweep.baseline, several, digits)
        rows.append([escaped(sweep.baseline_label), number(sweep.baseline_mean, digits), *spread])
    return ["Slots", f"Loss ({escaped(sweep.unit)})", *(["s.d."] if several else [])], rows


DRAWING = Drawing(slots_figure, plot_slots, slots_caption, slots_table)
