"""The U-curve: validation loss against the share of sparse parameters that experts keep.

The Engram paper's Figure 3 (left): rho = 1 is the mixture of experts alone, a smaller rho gives
more to memory. The lowest mean is ringed.
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

from engramcka.figures.draw import Drawing
from engramcka.figures.labels import as_plain, size_in_points, text_width
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
from engramcka.results import AllocationSweep

_HIGH = 0.68  # height over width
_X_LABELS = (
    "allocation ρ: share of sparse parameters in experts",
    "share of sparse parameters in experts, ρ",
    "allocation ratio ρ",
    "ρ",
)


@dataclass(frozen=True)
class AllocationArtists:
    """What was drawn, to be changed at will; in the order of the sweeps."""

    axes: Axes
    points: list[ErrorbarContainer]  # means over seeds, one standard deviation where there are two
    seeds: list[Line2D | None]  # every seed's loss, faint
    alone: list[Line2D]  # the loss at rho = 1, experts alone, where that was measured
    best: list[Line2D]  # rings around the lowest means
    legend: Legend | None


@on_own_axes(height=_HIGH)
def plot_allocation(
    sweeps: AllocationSweep | Sequence[AllocationSweep],
    ax: Axes | None = None,
    *,
    title: str | None = None,
    legend: bool = True,
) -> AllocationArtists:
    """Draw one or several allocation sweeps on these axes, or on new ones.

    Args:
        sweeps: one, or several of one unit; points that are not there (NaN) leave a gap.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).
        title: plain text above.
        legend: name the sweeps, where there are several.

    Returns:
        The artists.

    Raises:
        ConfigError: there is no sweep.
        ComparisonError: the units differ.
    """
    assert ax is not None
    sweeps = [sweeps] if isinstance(sweeps, AllocationSweep) else list(sweeps)
    unit = common_unit(sweeps, "allocation sweeps")
    drawn = [_draw(ax, sweep, LineStyle.of(index)) for index, sweep in enumerate(sweeps)]
    points, seeds = [one[0] for one in drawn], [one[1] for one in drawn]
    alone, best = [one[2] for one in drawn if one[2]], [one[3] for one in drawn if one[3]]
    _limits(ax, sweeps)
    ax.set_xlabel(_X_LABELS[-1])
    _longest_that_fits(ax, size_in_points(ax)[0])
    finish_losses(ax, unit, title)
    lines = [container.lines[0] for container in points]
    names = draw_legend(ax, lines, [(sweep.label, "") for sweep in sweeps]) if legend else None
    return AllocationArtists(ax, points, seeds, alone, best, names)


def allocation_figure(
    sweeps: AllocationSweep | Sequence[AllocationSweep],
    style: Style | str = "plain",
    **options: Any,
) -> Figure:
    """A figure with one or several sweeps; ``options`` are `plot_allocation`'s, but ``ax``."""
    style = as_style(style)
    with style.context():
        figure = new_figure(style, max(1.9, min(_HIGH * style.inches, 3.4)))
        axes = figure.subplots()
        compose(figure, lambda: plot_allocation(sweeps, axes, **options))
    return figure


def _draw(
    ax: Axes, sweep: AllocationSweep, line_style: LineStyle
) -> tuple[ErrorbarContainer, Line2D | None, Line2D | None, Line2D | None]:
    """Points, seeds, the level of the experts alone, and a ring around the best."""
    order = np.argsort(sweep.rho, kind="stable")
    points, seeds = draw_points(
        ax, sweep.rho[order], sweep.loss[order], line_style, sweep.bars[order]
    )
    alone = best = None
    last = sweep.mean[order[-1]]
    if sweep.rho[order[-1]] >= 1.0 and np.isfinite(last) and len(order) > 1:
        alone = ax.axhline(last, color=line_style.colour, linestyle="--", linewidth=0.8, zorder=1)
    if sweep.best is not None and np.isfinite(sweep.mean).sum() > 1:
        (best,) = ax.plot(
            *([value] for value in sweep.best), linestyle="none", marker="o", markersize=7.5,
            markerfacecolor="none", markeredgecolor=line_style.colour, markeredgewidth=0.9,
            zorder=3,
        )  # fmt: skip
    return points, seeds, alone, best


def _limits(ax: Axes, sweeps: Sequence[AllocationSweep]) -> None:
    """Both axes with room around the points, and fixed ticks."""
    rho = np.concatenate([sweep.rho for sweep in sweeps])
    margin = 0.05 * max(float(np.ptp(rho)), 0.2)
    left, right = float(rho.min()) - margin, float(rho.max()) + margin
    ax.set_xlim(left, right)
    step = 0.1 if right - left < 0.65 else 0.2
    ticks = [round(step * count, 1) for count in range(round(1 / step) + 1)]
    inside = [tick for tick in ticks if left <= tick <= right] or sorted(set(rho.tolist()))
    ax.set_xticks(inside, [f"{tick:.2g}" for tick in inside])
    limit_losses(ax, sweeps)


def _longest_that_fits(ax: Axes, room: float) -> None:
    font = ax.xaxis.label.get_fontproperties()
    text = next((text for text in _X_LABELS if text_width(text, font) <= room), _X_LABELS[-1])
    ax.set_xlabel(text)
    as_plain((ax.xaxis.label,))


def allocation_caption(sweeps: Sequence[AllocationSweep]) -> str:
    """What rho is, the ring and the dashed line."""
    alone = any(np.isfinite(sweep.experts_alone) and len(sweep.rho) > 1 for sweep in sweeps)
    return (
        f"Validation loss ({one_line(sweeps[0].unit)}) against rho, the share of the sparse "
        f"parameters that experts keep. {spread_sentence(sweeps)} Ringed: the lowest mean."
        + (" Dashed: experts alone." if alone else "")
    )


def allocation_table(sweeps: Sequence[AllocationSweep], digits: int | None) -> Table:
    """A row a rho."""
    sweep = only(sweeps)
    digits, several = 4 if digits is None else digits, len(sweep.seeds) > 1
    rows = []
    for index in np.argsort(sweep.rho, kind="stable"):
        experts = [str(sweep.experts[index])] if sweep.experts else []
        spread = deviations(sweep.loss[index], several, digits)
        rows.append(
            [number(sweep.rho[index], 2), *experts, number(sweep.mean[index], digits), *spread]
        )
    head = [r"$\rho$", *(["Experts"] if sweep.experts else []), f"Loss ({escaped(sweep.unit)})",
            *(["s.d."] if several else [])]  # fmt: skip
    return head, rows


DRAWING = Drawing(allocation_figure, plot_allocation, allocation_caption, allocation_table)
