"""Validation loss against the number of memory slots, as the Engram paper's Figure 3 (right).

The axis of slots is logarithmic. The dashed line is the model without memory, the dotted one the
straight line through the means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from engramcka.figures.draw import Drawing, Table, deviations, escaped, number, only
from engramcka.figures.labels import short_count
from engramcka.figures.lines import (
    POINTS_HIGH,
    PointArtists,
    PointDrawing,
    plot_points,
    points_figure,
    spread_sentence,
)
from engramcka.figures.style import Style, on_own_axes
from engramcka.plain_text import one_line
from engramcka.results import SlotSweep


@on_own_axes(height=POINTS_HIGH)
def plot_slots(
    sweeps: SlotSweep | Sequence[SlotSweep],
    ax: Axes | None = None,
    *,
    title: str | None = None,
    legend: bool = True,
) -> PointArtists:
    """Draw one or several slot sweeps on these axes, or on new ones.

    Args:
        sweeps: one, or several of one unit; points that are not there (NaN) leave a gap.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).
        title: plain text above.
        legend: name the sweeps, where there are several.

    Returns:
        The artists; levels are the losses without memory, marks the straight lines.

    Raises:
        ConfigError: there is no sweep.
        ComparisonError: the units differ.
    """
    assert ax is not None
    sweeps = [sweeps] if isinstance(sweeps, SlotSweep) else list(sweeps)
    ax.set_xscale("log")
    return plot_points(ax, sweeps, _SLOTS, title=title, legend=legend)


def slots_figure(
    sweeps: SlotSweep | Sequence[SlotSweep], style: Style | str = "plain", **options: Any
) -> Figure:
    """A figure with one or several sweeps; ``options`` are `plot_slots`'s, but ``ax``."""
    return points_figure(plot_slots, sweeps, style, **options)


def _straight_line(ax: Axes, sweep: SlotSweep, colour: str) -> Line2D | None:
    if sweep.line is None:
        return None
    ends = np.array([sweep.slots.min(), sweep.slots.max()])
    (line,) = ax.plot(
        ends, sweep.line.start + sweep.line.slope * np.log10(ends), color=colour, linestyle=":",
        linewidth=0.8, zorder=1,
    )  # fmt: skip
    return line


def _name_slots(ax: Axes, sweeps: Sequence[SlotSweep]) -> None:
    """Room around the points; ticks at 1, 2 and 5 of a decade where they fit."""
    slots = np.concatenate([sweep.slots for sweep in sweeps])
    low, high = float(slots.min()) / 1.4, float(slots.max()) * 1.4
    ax.set_xlim(low, high)
    ax.xaxis.set_major_locator(LogLocator(10, subs=(1.0,) if high > 300 * low else (1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("memory slots")


_SLOTS = PointDrawing[SlotSweep](
    "slot sweeps",
    x=lambda sweep: sweep.slots,
    level=lambda sweep: sweep.baseline_mean,
    mark=_straight_line,
    name_x=_name_slots,
)


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
