"""A y axis with a stretch left out, as one axes with one scale.

The scale is linear on both sides of the break and nearly flat inside it, so that every artist stays
in data coordinates and a caller can go on drawing on the same axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FormatStrFormatter, MaxNLocator

from engramcka.results.statistics import Float

FAR = 0.75  # of the others' span: a line farther away than this breaks the axis
_MARGIN = 0.13  # of the others' span, around each part
_UNDER = 0.2  # of it, at the bottom, where the name of the lowest line may have to stand
_GAP = 0.09  # of the others' span, drawn between the parts
_STROKE = ((-1.0, -0.5), (1.0, 0.5))  # a slanted line as a marker


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


def span_of(values: Float) -> float:
    """Largest less smallest value, or a small share of the value where all are equal."""
    span = float(np.ptp(values))
    return span if span > 0 else max(abs(float(values[0])) * 1e-3, 1e-9)


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


def set_ticks(ax: Axes, parts: Sequence[tuple[float, float]], most: int = 5) -> None:
    """Ticks at multiples of one round step in each part of the axis, all with the same decimals.

    A part too short for any gets one at its middle, where a lone line is. ``most`` is how many
    steps there are at most.
    """
    step = _step(*max(parts, key=lambda part: part[1] - part[0]), most)
    places = decimals(step)
    ticks: list[float] = []
    for bottom, top in parts:
        inside = _multiples(bottom, top, step)
        if not inside:
            middle = (bottom + top) / 2
            while not bottom <= round(middle, places) <= top:
                places += 1
            inside = [round(middle, places)]
        ticks += inside
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(FixedLocator([]))
    ax.yaxis.set_major_formatter(FormatStrFormatter(f"%.{places}f"))


def decimals(step: float) -> int:
    """Decimals that tell multiples of ``step`` (1, 2 or 5 times a power of ten) apart."""
    return max(0, -int(np.floor(np.log10(step) + 1e-9)))


def _step(bottom: float, top: float, most: int) -> float:
    ticks = MaxNLocator(nbins=most, steps=[1, 2, 5, 10]).tick_values(bottom, top)
    return float(f"{ticks[1] - ticks[0]:.1g}")


def _multiples(bottom: float, top: float, step: float) -> list[float]:
    first, last = np.ceil(bottom / step - 1e-9), np.floor(top / step + 1e-9)
    return [round(count * step, decimals(step)) + 0.0 for count in np.arange(first, last + 1)]


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
