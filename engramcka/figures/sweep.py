"""A layer sweep: validation loss against the layer of the memory module, as the paper's Figure 5.

Points are means over seeds, each seed a faint dot; bars are the 95 % interval of the difference
from the baseline where it is known, else one standard deviation over seeds. Baseline and references
are horizontal lines; ablations are crosses on the right, past a dotted line. The y axis is broken
where the baseline is far from everything else: its scale is linear on both sides of the break and
nearly flat inside it, so that every artist stays in data coordinates and a caller can go on drawing
on the same axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from engramcka.figures.draw import Drawing, Table, deviations, escaped, interval, number, only
from engramcka.figures.labels import layer_ticks, set_ticks, size_in_points, span_of, tick_size
from engramcka.figures.lines import LineStyle, draw_points, finish_losses
from engramcka.figures.style import Style, as_style, on_own_axes, one_axes_figure
from engramcka.figures.sweep_labels import draw_ablations, name_lines
from engramcka.plain_text import one_line
from engramcka.results import LossSweep
from engramcka.results.statistics import Float, deviation

_POINTS = "#3b6fb6"
_BASELINE = "#e8820c"
_REFERENCES = ("#2f8f4e", "#8a6bbf", "#b0457b", "#5f8a8b")
FAR = 0.75  # of the others' span: a line farther away than this breaks the axis
_MARGIN = 0.13  # of the others' span, around each part
_UNDER = 0.2  # of it, at the bottom, where the name of the lowest line may have to stand
_GAP = 0.09  # of the others' span, drawn between the parts
_STROKE = ((-1.0, -0.5), (1.0, 0.5))  # a slanted line as a marker


@dataclass(frozen=True)
class SweepArtists:
    """What was drawn, to be changed at will; empty or None where the sweep has no such thing."""

    axes: Axes
    points: ErrorbarContainer  # means over seeds, with intervals or standard deviations
    seeds: Line2D | None  # every seed's loss, faint
    baseline: Line2D | None
    references: list[Line2D]
    crosses: Line2D | None  # ablations
    names: list[Annotation]  # of lines and crosses
    broken: Break | None  # the stretch left out of the y axis


@on_own_axes(height=0.68)
def plot_sweep(
    sweep: LossSweep,
    ax: Axes | None = None,
    *,
    first_layer: int = 1,
    title: str | None = None,
    break_far: bool = True,
) -> SweepArtists:
    """Draw a layer sweep on these axes, or on new ones of a figure of its own.

    Args:
        sweep: the losses; points that are not there (NaN) leave a gap in the curve.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).
        first_layer: number of the first block: 1 as everywhere, or 0.
        title: plain text above.
        break_far: break the y axis where the baseline is far from the rest.

    Returns:
        The artists.
    """
    assert ax is not None
    x = np.asarray(sweep.layers, dtype=np.float64) + (first_layer - 1)
    order = np.argsort(x, kind="stable")
    x, loss, mean = x[order], sweep.loss[order], sweep.mean[order]
    spread = sweep.bars[order]
    points, dots = draw_points(ax, x, loss, LineStyle(_POINTS, "o"), spread)
    lines = _draw_lines(ax, sweep)
    broken = _limit_y(ax, sweep, mean, spread, break_far)
    ax.set_xlabel("insertion layer")
    width, _ = size_in_points(ax)
    levels = np.array([float(np.asarray(line.get_ydata())[0]) for line in lines])
    ablations = draw_ablations(ax, sweep.variants, x, mean, levels)
    ax.set_xticks(layer_ticks(x, int(width * ablations.share / (tick_size(ax) * 1.9))))
    names = ablations.names + name_lines(ax, lines, _line_names(sweep), x, mean, ablations.taken)
    finish_losses(ax, sweep.unit, title)
    baseline = lines[0] if np.isfinite(sweep.baseline_mean) else None
    references = lines[1:] if baseline is not None else lines
    return SweepArtists(ax, points, dots, baseline, references, ablations.crosses, names, broken)


def sweep_figure(sweep: LossSweep, style: Style | str = "plain", **options: Any) -> Figure:
    """A figure with one sweep.

    Args:
        sweep: the losses.
        style: a `Style` or the name of one.
        options: those of `plot_sweep`, but ``ax``.
    """
    style = as_style(style)
    height = max(2.1, min(0.68 * style.inches, 3.4))
    return one_axes_figure(style, height, lambda axes: plot_sweep(sweep, axes, **options))


def _line_names(sweep: LossSweep) -> list[str]:
    baseline = [sweep.baseline_label] if np.isfinite(sweep.baseline_mean) else []
    return baseline + list(sweep.reference)


def _draw_lines(ax: Axes, sweep: LossSweep) -> list[Line2D]:
    """Baseline first where there is one, then the references.

    A band of one deviation around it, unless the points' bars are of the difference from it.
    """
    losses = dict(sweep.reference)
    colours = [_REFERENCES[i % len(_REFERENCES)] for i in range(len(losses))]
    values = list(losses.values())
    if np.isfinite(sweep.baseline_mean):
        values, colours = [sweep.baseline_mean, *values], [_BASELINE, *colours]
        spread = float(deviation(sweep.baseline))
        if np.isfinite(spread) and spread > 0 and sweep.difference_high is None:
            ends = sweep.baseline_mean - spread, sweep.baseline_mean + spread
            ax.axhspan(*ends, facecolor=_BASELINE, alpha=0.15, linewidth=0.0, zorder=0)
    return [
        ax.axhline(value, color=colour, linestyle="--", linewidth=1.1, zorder=1)
        for value, colour in zip(values, colours, strict=True)
    ]


def _limit_y(
    ax: Axes, sweep: LossSweep, mean: Float, spread: Float, break_far: bool
) -> Break | None:
    """Limits and ticks of the y axis, broken where the baseline is far."""
    bars = np.nan_to_num(spread)
    near = np.concatenate(
        [sweep.loss.ravel(), mean - bars, mean + bars]
        + [np.array(list(m.values()), dtype=np.float64) for m in (sweep.reference, sweep.variants)]
    )
    near, far = near[np.isfinite(near)], sweep.baseline[np.isfinite(sweep.baseline)]
    if not len(near) and not len(far):
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no loss yet", transform=ax.transAxes, ha="center", va="center")
        return None
    found = find_break(near, far) if break_far and len(near) and len(far) else None
    if found is not None:
        break_axis(ax, found)
        return found
    values = np.concatenate([near, far])
    margin = 0.16 * span_of(values)
    limits = float(values.min()) - margin, float(values.max()) + margin
    ax.set_ylim(*limits)
    set_ticks(ax, (limits,))
    return None


def sweep_caption(sweep: LossSweep) -> str:
    """What the points, bars and lines are."""
    seeds = len(sweep.seeds)
    several = f"Points are means over {seeds} seeds (faint), bars"
    if sweep.difference_high is not None:
        what = f"the 95 % interval of the difference from {one_line(sweep.baseline_label)}, over"
        spread = (
            f"{several} {what} validation documents and seeds."
            if seeds > 1
            else f"Bars: {what} validation documents; the spread between seeds is unknown."
        )
    elif seeds > 1:
        spread = f"{several} one standard deviation."
    else:
        spread = "One seed: the spread between seeds is unknown."
    text = f"Validation loss ({one_line(sweep.unit)}) against the insertion layer. {spread}"
    lost = [f"{one_line(name)}{sweep.lost(name)}" for name in sweep.variant_differences]
    if not lost:
        return text
    return f"{text} Crosses, less {one_line(sweep.whole)}: {', '.join(lost)}."


def sweep_table(sweeps: Sequence[LossSweep], digits: int | None) -> Table:
    """A row a layer, then the baseline, references and ablations."""
    sweep = only(sweeps)
    digits, several = 4 if digits is None else digits, len(sweep.seeds) > 1
    low, high = sweep.difference_low, sweep.difference_high
    known = low is not None and high is not None
    apart = ["--"] if sweep.variant_differences else []
    rows = []
    for index, (layer, mean) in enumerate(zip(sweep.layers, sweep.mean, strict=True)):
        row = [str(layer), number(mean, digits), *deviations(sweep.loss[index], several, digits)]
        if low is not None and high is not None:
            ends = interval(low[index], high[index], digits)
            row.append(f"{number(sweep.difference[index], digits)} {ends}")
        rows.append([*row, *apart])
    none = ["--"] if known else []
    if np.isfinite(sweep.baseline_mean):
        spread = deviations(sweep.baseline, several, digits)
        mean = number(sweep.baseline_mean, digits)
        rows.append([escaped(sweep.baseline_label), mean, *spread, *none, *apart])
    no_spread = ["--"] if several else []
    for name, loss in sweep.reference.items():
        rows.append([escaped(name), number(loss, digits), *no_spread, *none, *apart])
    for name, loss in sweep.variants.items():
        lost = [_lost(sweep, name, digits)] if apart else []
        rows.append([escaped(name), number(loss, digits), *no_spread, *none, *lost])
    head = ["Insertion layer", f"Loss ({escaped(sweep.unit)})", *(["s.d."] if several else [])]
    head += ["Above the baseline [95\\,\\%]"] if known else []
    head += [f"Above {escaped(sweep.whole)} [95\\,\\%]"] if apart else []
    return head, rows


def _lost(sweep: LossSweep, name: str, digits: int) -> str:
    """An ablation's difference from the whole model, for a table."""
    if name not in sweep.variant_differences:
        return "--"
    difference, low, high = sweep.variant_differences[name]
    return f"{number(difference, digits)} {interval(low, high, digits)}"


@dataclass(frozen=True)
class Break:
    """What the axis shows: ``bottom`` to ``low``, then, past the break, ``high`` to ``top``."""

    bottom: float
    low: float
    high: float
    top: float
    gap: float  # how wide the stretch left out is drawn, in data units

    def forward(self, value: npt.ArrayLike) -> Float:
        """Data to position along the axis; increasing and piecewise linear."""
        v = np.asarray(value, dtype=np.float64)
        squeezed = self.low + (v - self.low) * (self.gap / (self.high - self.low))
        beyond = v - (self.high - self.low) + self.gap
        return np.where(v <= self.low, v, np.where(v < self.high, squeezed, beyond))

    def inverse(self, position: npt.ArrayLike) -> Float:
        """Position along the axis to data."""
        p = np.asarray(position, dtype=np.float64)
        stretched = self.low + (p - self.low) * ((self.high - self.low) / self.gap)
        beyond = p - self.gap + (self.high - self.low)
        return np.where(p <= self.low, p, np.where(p < self.low + self.gap, stretched, beyond))


def find_break(values: Float, far: Float) -> Break | None:
    """The break between ``values`` and ``far``, or None where they are near each other.

    Args:
        values: finite, at least one: what has to be told apart.
        far: finite, at least one: the ends of the line that may be far away.
    """
    span = span_of(values)
    margin = _MARGIN * span
    if far.min() - values.max() > FAR * span:
        lower, upper = values, far
    elif values.min() - far.max() > FAR * span:
        lower, upper = far, values
    else:
        return None
    return Break(
        float(lower.min()) - _UNDER * span,
        float(lower.max()) + margin,
        float(upper.min()) - margin,
        float(upper.max()) + margin,
        _GAP * span,
    )


def break_axis(ax: Axes, found: Break) -> list[Line2D]:
    """Give the y axis this break: scale, limits, ticks in both parts, strokes at both ends."""
    ax.set_yscale("function", functions=(found.forward, found.inverse))
    ax.set_ylim(found.bottom, found.top)
    parts = ((found.bottom, found.low), (found.high, found.top))
    set_ticks(ax, parts)
    return _strokes(ax, found)


def _strokes(ax: Axes, found: Break) -> list[Line2D]:
    """Blank the frame inside the break and end it with slanted strokes."""
    whole = found.forward(found.top) - found.forward(found.bottom)
    at = [float((found.forward(v) - found.bottom) / whole) for v in (found.low, found.high)]
    ground = ax.get_facecolor()
    edge = ax.spines["left"].get_edgecolor()
    drawn = []
    for x in (0.0, 1.0):
        (blank,) = ax.plot([x, x], at, color=ground, linewidth=2.0, solid_capstyle="butt")
        (ends,) = ax.plot([x, x], at, linestyle="none", marker=_STROKE, markersize=5.0)
        ends.set_markeredgecolor(edge)
        ends.set_markeredgewidth(0.6)
        drawn += [blank, ends]
    for line in drawn:
        line.set(transform=ax.transAxes, clip_on=False, zorder=5.0)
    return drawn


DRAWING = Drawing(sweep_figure, plot_sweep, sweep_caption, sweep_table)
