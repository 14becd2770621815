"""The U-curve: validation loss against the share of sparse parameters that experts keep.

The Engram paper's Figure 3 (left): rho = 1 is the mixture of experts alone, a smaller rho gives
more to memory. The lowest mean is ringed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from engramcka.figures.draw import Drawing, Table, deviations, escaped, number, only
from engramcka.figures.labels import as_plain, size_in_points, text_width
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
from engramcka.results import AllocationSweep

_X_LABELS = (
    "allocation ρ: share of sparse parameters in experts",
    "share of sparse parameters in experts, ρ",
    "allocation ratio ρ",
    "ρ",
)


@on_own_axes(height=POINTS_HIGH)
def plot_allocation(
    sweeps: AllocationSweep | Sequence[AllocationSweep],
    ax: Axes | None = None,
    *,
    title: str | None = None,
    legend: bool = True,
) -> PointArtists:
    """Draw one or several allocation sweeps on these axes, or on new ones.

    Args:
        sweeps: one, or several of one unit; points that are not there (NaN) leave a gap.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).
        title: plain text above.
        legend: name the sweeps, where there are several.

    Returns:
        The artists; levels are the losses of experts alone, marks the rings around the lowest.

    Raises:
        ConfigError: there is no sweep.
        ComparisonError: the units differ.
    """
    assert ax is not None
    sweeps = [sweeps] if isinstance(sweeps, AllocationSweep) else list(sweeps)
    return plot_points(ax, sweeps, _ALLOCATION, title=title, legend=legend)


def allocation_figure(
    sweeps: AllocationSweep | Sequence[AllocationSweep],
    style: Style | str = "plain",
    **options: Any,
) -> Figure:
    """A figure with one or several sweeps; ``options`` are `plot_allocation`'s, but ``ax``."""
    return points_figure(plot_allocation, sweeps, style, **options)


def _ring(ax: Axes, sweep: AllocationSweep, colour: str) -> Line2D | None:
    """Around the lowest mean, where there are two."""
    if sweep.best is None or np.isfinite(sweep.mean).sum() < 2:
        return None
    (ring,) = ax.plot(
        *([value] for value in sweep.best), linestyle="none", marker="o", markersize=7.5,
        markerfacecolor="none", markeredgecolor=colour, markeredgewidth=0.9, zorder=3,
    )  # fmt: skip
    return ring


def _name_rho(ax: Axes, sweeps: Sequence[AllocationSweep]) -> None:
    """Room around the points, fixed ticks, and the longest name that fits."""
    rho = np.concatenate([sweep.rho for sweep in sweeps])
    margin = 0.05 * max(float(np.ptp(rho)), 0.2)
    left, right = float(rho.min()) - margin, float(rho.max()) + margin
    ax.set_xlim(left, right)
    step = 0.1 if right - left < 0.65 else 0.2
    ticks = [round(step * count, 1) for count in range(round(1 / step) + 1)]
    inside = [tick for tick in ticks if left <= tick <= right] or sorted(set(rho.tolist()))
    ax.set_xticks(inside, [f"{tick:.2g}" for tick in inside])
    ax.set_xlabel(_X_LABELS[-1])
    font, room = ax.xaxis.label.get_fontproperties(), size_in_points(ax)[0]
    fitting = (text for text in _X_LABELS if text_width(text, font) <= room)
    ax.set_xlabel(next(fitting, _X_LABELS[-1]))
    as_plain((ax.xaxis.label,))


_ALLOCATION = PointDrawing[AllocationSweep](
    "allocation sweeps",
    x=lambda sweep: sweep.rho,
    level=lambda sweep: sweep.experts_alone if len(sweep.rho) > 1 else float("nan"),
    mark=_ring,
    name_x=_name_rho,
)


def allocation_caption(sweeps: Sequence[AllocationSweep]) -> str:
    """What rho is, the ring and the dashed line."""
    alone = any(np.isfinite(sweep.experts_alone) and len(sweep.rho) > 1 for sweep in sweeps)
    return (
        f"Validation loss ({one_line(sweeps[0].unit)}) against rho, the share of the sparse "
        f"parameters that experts keep. {spread_sentence(sweeps)} Ringed: the lowest mean."
        + (" Dashed: experts alone." if alone else "")
    )


def allocation_table(sweeps: Sequence[AllocationSweep], digits: int | None) -> Table:
    """A row a rho: experts kept, mean loss, and its deviation over several seeds."""
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
