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
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from engramcka.errors import ComparisonError, ConfigError
from engramcka.figures.broken import set_ticks, span_of
from engramcka.figures.draw import Drawing
from engramcka.figures.labels import fit, size_in_points
from engramcka.figures.latex import Table, deviations, escaped, number, only
from engramcka.figures.lines import LineStyle, draw_legend, draw_points, loss_label
from engramcka.figures.style import Style, as_style, compose, new_figure, on_own_axes
from engramcka.results import SlotSweep
from engramcka.results.base import one_line

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
    if not sweeps:
        raise ConfigError("a figure of slot sweeps needs at least one")
    units = list(dict.fromkeys(sweep.unit for sweep in sweeps))
    if len(units) > 1:
        raise ComparisonError(f"losses in {' and '.join(units)} have no common axis")
    ax.set_xscale("log")
    drawn = [_draw(ax, sweep, LineStyle.of(index)) for index, sweep in enumerate(sweeps)]
    points, seeds = [one[0] for one in drawn], [one[1] for one in drawn]
    _limits(ax, sweeps)
    width, height = size_in_points(ax)
    ax.set_ylabel(loss_label(ax, units[0], height))
    ax.set_xlabel("memory slots")
    fit(ax.yaxis.label, height)
    if title is not None:
        ax.set_title(title)
        fit(ax.title, width)
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
    """Both axes with room around the points, and fixed ticks."""
    slots = np.concatenate([sweep.slots for sweep in sweeps])
    ax.set_xlim(float(slots.min()) / 1.4, float(slots.max()) * 1.4)
    if slots.max() < 10 * slots.min():  # less than a decade: the points' own numbers
        inside = sorted(set(slots.tolist()))
        ax.set_xticks(inside, [short_count(tick) for tick in inside])
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(LogLocator(10))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    ends = [np.nan_to_num(sweep.bars) for sweep in sweeps]
    values = np.concatenate(
        [part for sweep in sweeps for part in (sweep.loss.ravel(), sweep.baseline)]
        + [sweep.mean + sign * end for sweep, end in zip(sweeps, ends, strict=True)
           for sign in (-1, 1)]
    )  # fmt: skip
    values = values[np.isfinite(values)]
    if not len(values):
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no loss yet", transform=ax.transAxes, ha="center", va="center")
        return
    room = 0.12 * span_of(values)
    limits = float(values.min()) - room, float(values.max()) + room
    ax.set_ylim(*limits)
    set_ticks(ax, (limits,))


def short_count(value: float) -> str:
    """A number of slots as on an axis: 240, 1k, 8.4k, 10M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def slots_caption(sweeps: Sequence[SlotSweep]) -> str:
    """What a slot is, and the dashed and the dotted line."""
    seeds = sorted({len(sweep.seeds) for sweep in sweeps})
    spread = (
        "One seed: the spread between seeds is unknown."
        if seeds == [1]
        else f"Points are means over {' or '.join(map(str, seeds))} seeds (faint), bars one "
        "standard deviation."
    )
    without = ", ".join(dict.fromkeys(one_line(sweep.baseline_label) for sweep in sweeps))
    return (
        f"Validation loss ({one_line(sweeps[0].unit)}) against the rows of all memory tables. "
        f"{spread} Dashed: {without}. Dotted: straight line through the means."
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
