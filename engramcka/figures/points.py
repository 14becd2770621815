"""Losses of several seeds as points: means with one standard deviation, each seed a faint dot.

Knows axes and values, no results.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D

from engramcka.figures.curves import Look
from engramcka.figures.labels import size_in_points, text_width
from engramcka.figures.plain import plain

Float = npt.NDArray[np.float64]


def draw_points(
    ax: Axes, x: Float, loss: Float, look: Look, half: Float | None = None
) -> tuple[ErrorbarContainer, Line2D | None]:
    """Means of (points, seeds) losses at ``x``, joined by a line; gaps where there is none.

    Args:
        ax: where.
        x: (points,).
        loss: (points, seeds).
        look: colour and marker.
        half: (points,) half the length of each bar; one standard deviation where it is left out.

    Returns:
        The means with their bars, where there are any, and the faint dots of several seeds.
    """
    there = np.isfinite(loss)
    mean = np.where(there, loss, 0.0).sum(axis=1) / np.where(
        there.any(axis=1), there.sum(axis=1), np.nan
    )
    seeded = loss.shape[1] > 1
    dots = None
    if seeded:
        (dots,) = ax.plot(
            np.repeat(x, loss.shape[1]), loss.ravel(), linestyle="none", marker="o",
            markersize=2.0, color=look.colour, alpha=0.4, markeredgewidth=0.0, zorder=2,
        )  # fmt: skip
    if half is None and seeded:
        half = deviation(loss)
    points = ax.errorbar(
        x, mean, half, color=look.colour, marker=look.marker,
        linestyle=look.dashes, markersize=min(3.5, 0.75 * size_in_points(ax)[0] / len(x)),
        linewidth=1.1, elinewidth=0.8, capsize=1.6, zorder=3,
    )  # fmt: skip
    return points, dots


def deviation(loss: Float) -> Float:
    """(points, seeds) -> (points,) sample standard deviation; NaN with fewer than two seeds."""
    there = np.isfinite(loss)
    count = there.sum(axis=1)
    mean = np.where(there, loss, 0.0).sum(axis=1) / np.maximum(count, 1)
    squares = (np.where(there, loss - mean[:, None], 0.0) ** 2).sum(axis=1)
    return np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)


def loss_label(ax: Axes, unit: str, room: float, what: str = "validation loss") -> str:
    """What is measured, with its unit where that fits in ``room`` points."""
    full = f"{what} ({plain(unit)})"
    return full if text_width(full, ax.yaxis.label.get_fontproperties()) <= room else what
