"""Numbers along axes as text: layers beside a map, its colour bar, round values of a chart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from rich.style import Style

from engramcka.tui.terminal import with_minus
from engramcka.tui.widgets.cells import (
    ABOVE,
    BELOW,
    BEYOND,
    CellStyle,
    levels,
    pair_style,
    shade,
)
from engramcka.tui.widgets.geometry import Geometry

_LARGE = 30  # lines of a map on a large terminal, where every row has its number
_STEPS = (1, 2, 5, 10, 20, 25, 50, 100)


def tick_indices(numbers: Sequence[int], spacing: float, least: int) -> list[int]:
    """Which of the layers get a label: the first and round numbers, ``least`` characters apart.

    Args:
        numbers: layer numbers in order.
        spacing: characters from one layer to the next.
        least: characters a label needs.
    """
    step = next((s for s in _STEPS if s * spacing >= least), _STEPS[-1])
    chosen: list[int] = []
    for index, number in enumerate(numbers):
        if step == 1 or number % step == 0 or index == 0:
            if len(chosen) == 1 and (index - chosen[0]) * spacing < least:
                continue
            chosen.append(index)
    return chosen


def y_labels(numbers: Sequence[int], geometry: Geometry) -> dict[int, str]:
    """Line -> layer number, for the rows shown."""
    shown = numbers[geometry.first_row : geometry.first_row + geometry.shown_rows]
    spacing = geometry.cell_height / geometry.sub
    dense = geometry.sub == 1 or (spacing >= 1 and geometry.lines >= _LARGE)
    ticks = tick_indices(shown, spacing, 1 if dense else 2)
    return {geometry.middle_line(geometry.first_row + i): str(shown[i]) for i in ticks}


def x_labels(numbers: Sequence[int], geometry: Geometry) -> str:
    """One line with the layer numbers under the middle of their columns."""
    shown = numbers[geometry.first_column : geometry.first_column + geometry.shown_columns]
    longest = max(len(str(number)) for number in shown)
    line = [" "] * (geometry.used_width + longest)
    for index in tick_indices(shown, geometry.cell_width, longest + 1):
        text = str(shown[index])
        start = index * geometry.cell_width + (geometry.cell_width - len(text) + 1) // 2
        start = max(0, start)
        if start + len(text) <= len(line):
            line[start : start + len(text)] = text
    return "".join(line)


def x_mark(geometry: Geometry, column: int) -> int:
    """The character under the middle of a column."""
    middle = geometry.x_of(column) + (geometry.cell_width - 1) // 2
    return min(max(0, middle), geometry.used_width - 1)


def colour_bar(
    style: CellStyle, ground: str, width: int, base: Style, beyond: tuple[int, int] = (0, 0)
) -> list[Segment]:
    """The colour bar with the values of its ends, at most ``width`` characters.

    Args:
        style: palette and range.
        ground: behind the cells.
        width: characters.
        base: of the numbers.
        beyond: how many cells are below the first value and above the last; each end that has
            some gets its colour and their number.
    """
    low, high = (number(end, style.high - style.low) for end in (style.low, style.high))
    room = width - len(low) - len(high) - 2
    before, after = (
        _beyond_end(style, ground, base, key, n)
        for key, n in zip((BELOW, ABOVE), beyond, strict=True)
    )
    room -= sum(len(text) for text, *_ in (*before, *after))
    length = min(24, room)
    if length < 4:
        return [Segment(f"{low} .. {high}"[:width], base)]
    bar = [Segment(f"{low} ", base)]
    for index in levels([i / (length - 1) for i in range(length)], 0.0, 1.0).tolist():
        if style.mode == "half" or (style.mode == "digits" and style.coloured):
            bar.append(Segment(" ", pair_style(style.palette, ground, index, index)))
        else:
            bar.append(Segment(shade(index, 1, style.shades), base))
    return [*before, *bar, Segment(f" {high}", base), *after]


def _beyond_end(style: CellStyle, ground: str, base: Style, key: int, count: int) -> list[Segment]:
    """What stands beyond an end of the bar: how many cells are there, and their colour."""
    if not count:
        return []
    cell = []
    if style.mode != "shade" and style.coloured:
        cell = [Segment(" ", pair_style(style.palette, ground, key, key))]
    if key == BELOW:
        return [Segment(f"{count} {BEYOND[key]}", base), *cell, Segment(" ", base)]
    return [Segment(" ", base), *cell, Segment(f"{BEYOND[key]} {count}", base)]


def beyond(found: npt.NDArray[np.int16]) -> tuple[int, int]:
    """How many of the levels are below the scale, and how many above."""
    return int((found == BELOW).sum()), int((found == ABOVE).sum())


def number(value: float, span: float) -> str:
    """An end of a colour bar, right to a thousandth of what the bar spans, and never 0 for what
    is not."""
    for places in range(1, 7):
        shown = round(value, places)
        if abs(shown - value) <= span / 1000 and abs(shown - value) <= abs(value) / 50:
            return with_minus(f"{shown + 0.0:.{places}f}")
    return with_minus(f"{value:.2e}")


def value_text(value: float, low: float, high: float) -> str:
    """A number with as many decimals as the numbers of a range need to differ."""
    places = int(np.clip(np.ceil(-np.log10(max(high - low, 1e-9))) + 1, 0, 5))
    return with_minus(f"{round(value, places) + 0.0:.{places}f}")


def round_values(low: float, high: float, most: int) -> list[float]:
    """At most about ``most`` multiples of 1, 2 or 5 times a power of ten in a range."""
    rough = (high - low) / most
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = int(np.ceil(low / step))
    return [i * step for i in range(first, int(np.floor(high / step)) + 1)]
