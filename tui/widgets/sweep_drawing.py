"""A loss sweep drawn in characters: points, seeds' spread, baseline and reference lines, ablations.

Pure functions; knows no widgets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engramcka.results import LossSweep
from engramcka.tui.terminal import clean, shorten
from engramcka.tui.widgets.axes import tick_indices
from engramcka.tui.widgets.grid import Grid
from engramcka.tui.widgets.plot_axes import round_values, value_text

_NAMES_WIDTH = 28  # characters for the ablations' names on the right
_BELOW = 3  # lines under the plot: cursor's mark, layer numbers, caption


@dataclass(frozen=True)
class Frame:
    """The plot's field in characters and its range of losses."""

    left: int
    width: int
    height: int
    low: float
    high: float
    points: int

    def x(self, index: int) -> int:
        """Character under a point."""
        return self.left + int((index + 0.5) * self.width / self.points)

    def y(self, loss: float) -> float:
        """Height of a loss in lines from the top, as a fraction."""
        return (self.high - loss) / (self.high - self.low) * (self.height - 1)

    def inside(self, loss: float) -> bool:
        """Whether the loss is in the range."""
        return self.low <= loss <= self.high


def loss_range(sweep: LossSweep, close: bool) -> tuple[float, float]:
    """Lowest and highest loss to show, with a margin.

    ``close`` leaves out the baseline and other lines that are farther from the points than the
    points are from each other.
    """
    points = [float(v) for v in sweep.loss.ravel() if np.isfinite(v)]
    others = [sweep.baseline_mean, *sweep.reference.values(), *sweep.variants.values()]
    others = [float(v) for v in others if np.isfinite(v)]
    if not points and not others:
        return 0.0, 1.0
    if close and len(points) > 1 and max(points) > min(points):
        low, high = min(points), max(points)
        others = [v for v in others if low - (high - low) <= v <= high + (high - low)]
    low, high = min(points + others), max(points + others)
    margin = (high - low) * 0.06 or abs(low) * 0.01 or 1.0
    return low - margin, high + margin


def draw_sweep(
    sweep: LossSweep,
    width: int,
    height: int,
    cursor: int | None = 0,
    *,
    close: bool = False,
    ascii_only: bool = False,
) -> list[list[tuple[str, str]]]:
    """The sweep as lines of (text, part), ``width`` x ``height`` characters."""
    grid = Grid(width, height, ascii_only)
    frame = sweep_frame(sweep, width, height, close)
    if frame is None:
        grid.text(0, 0, "too small for the curve", "axis")
        return grid.lines()
    _axes(grid, frame, sweep, cursor)
    for _, loss, part in _levels(sweep):
        _level(grid, frame, loss, part)
    _curve(grid, frame, sweep, cursor)
    for name, loss, part in _levels(sweep):
        _level_name(grid, frame, name, loss, part)
    if sweep.variants:
        _variants(grid, frame, sweep)
    return grid.lines()


def sweep_frame(sweep: LossSweep, width: int, height: int, close: bool) -> Frame | None:
    """Where the curve lies; None where there is no room for one."""
    low, high = loss_range(sweep, close)
    gutter = max(len(value_text(low, low, high)), len(value_text(high, low, high))) + 2
    plot_width = width - gutter - 1
    if sweep.variants:
        plot_width -= _NAMES_WIDTH + 2 if width - gutter > 2 * _NAMES_WIDTH else 3
    if plot_width < 8 or height < _BELOW + 4:
        return None
    return Frame(gutter, plot_width, height - _BELOW, low, high, len(sweep.layers))


def _levels(sweep: LossSweep) -> list[tuple[str, float, str]]:
    levels = [(sweep.baseline_label, sweep.baseline_mean, "baseline")]
    levels += [(name, float(loss), "reference") for name, loss in sweep.reference.items()]
    return [level for level in levels if np.isfinite(level[1])]


def _axes(grid: Grid, frame: Frame, sweep: LossSweep, cursor: int | None) -> None:
    for y in range(frame.height):
        grid.text(frame.left - 1, y, "│", "axis")
    for value in round_values(frame.low, frame.high, max(2, frame.height // 4)):
        text, y = value_text(value, frame.low, frame.high), round(frame.y(value))
        grid.text(frame.left - 2 - len(text), y, text, "axis")
        grid.text(frame.left - 1, y, "┤", "axis")
    longest = max(len(str(layer)) for layer in sweep.layers)
    if cursor is not None:
        grid.text(frame.x(cursor), frame.height, "▲", "mark")
    for index in tick_indices(sweep.layers, frame.width / frame.points, longest + 1):
        text = str(sweep.layers[index])
        grid.text(frame.x(index) - (len(text) - 1) // 2, frame.height + 1, text, "axis")
    caption = f"insertion layer; loss in {clean(sweep.unit)}"
    grid.text(frame.left, frame.height + 2, shorten(caption, frame.width), "axis")


def _level(grid: Grid, frame: Frame, loss: float, part: str) -> None:
    """A line across the plot; dashed for the baseline."""
    if frame.inside(loss):
        dash = "╌" if part == "baseline" else "─"
        grid.text(frame.left, round(frame.y(loss)), dash * frame.width, part)


def _level_name(grid: Grid, frame: Frame, name: str, loss: float, part: str) -> None:
    """A line's name on the free place nearest to it, or to the edge that it is beyond."""
    text = f"{clean(name)} {loss:.4g}"
    y = round(frame.y(loss))
    if loss > frame.high:
        y, text = -1, f"↑ {text}"
    elif loss < frame.low:
        y, text = frame.height, f"↓ {text}"
    label = shorten(text, frame.width)
    right = frame.left + frame.width - len(label)
    rows = sorted((row for row in range(frame.height) if row != y), key=lambda row: abs(row - y))
    for row in rows:
        for x in (right, *range(frame.left + 1, right)):
            if grid.free(x, row, len(label)):
                grid.text(x, row, label, part)
                return


def _curve(grid: Grid, frame: Frame, sweep: LossSweep, cursor: int | None) -> None:
    mean = sweep.mean
    previous: tuple[float, float] | None = None
    for index, loss in enumerate(mean.tolist()):
        if loss != loss:
            previous = None
            continue
        x = frame.x(index)
        at = (2.0 * x + 0.5, 4 * frame.y(loss) + 1.5)
        if previous is not None:
            grid.line(*previous, *at, "curve")
        previous = at
    for index, loss in enumerate(mean.tolist()):
        if loss != loss:
            continue
        _spread(grid, frame, sweep, index)
        mark, part = ("●", "mark") if index == cursor else ("•", "curve")
        grid.text(frame.x(index), round(frame.y(loss)), mark, part)


def _spread(grid: Grid, frame: Frame, sweep: LossSweep, index: int) -> None:
    """A bar from the lowest to the highest seed."""
    there = sweep.loss[index][np.isfinite(sweep.loss[index])]
    if len(there) < 2:
        return
    top, bottom = round(frame.y(float(there.max()))), round(frame.y(float(there.min())))
    for y in range(top, bottom + 1):
        grid.text(frame.x(index), y, "│", "seeds")


def _variants(grid: Grid, frame: Frame, sweep: LossSweep) -> None:
    """A cross for each ablation right of the curve, its name on the nearest free line."""
    x = frame.left + frame.width + 1
    taken: set[int] = set()
    for name, loss in sorted(sweep.variants.items(), key=lambda item: -item[1]):
        if not (np.isfinite(loss) and frame.inside(loss)):
            continue
        y = round(frame.y(loss))
        row = next((r for r in range(y, frame.height) if r not in taken), None)
        grid.text(x, y, "×", "variant")
        if row is None or grid.width - x < _NAMES_WIDTH // 2:
            continue
        taken.add(row)
        label = f"{loss:.4g} {clean(name)}"
        grid.text(x + 2, row, shorten(label, grid.width - x - 2), "variant")
