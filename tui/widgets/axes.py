"""Numbers along axes as text: layers beside a map, its colour bar, round values of a chart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.segment import Segment
from rich.style import Style

from engramcka.tui.terminal import with_minus
from engramcka.tui.widgets.cells import CellStyle, levels, pair_style, shade
from engramcka.tui.widgets.geometry import Geometry

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
    ticks = tick_indices(shown, geometry.cell_height / geometry.sub, 2 if geometry.sub == 2 else 1)
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


def colour_bar(style: CellStyle, ground: str, width: int, base: Style) -> list[Segment]:
    """The colour bar with the values of its ends, at most ``width`` characters."""
    low, high = number(style.low), number(style.high)
    length = min(24, width - len(low) - len(high) - 2)
    if length < 4:
        return [Segment(f"{low} .. {high}"[:width], base)]
    bar = [Segment(f"{low} ", base)]
    for index in levels([i / (length - 1) for i in range(length)], 0.0, 1.0).tolist():
        if style.mode == "half" or (style.mode == "digits" and style.coloured):
            bar.append(Segment(" ", pair_style(style.palette, ground, index, index)))
        else:
            bar.append(Segment(shade(index, 1, style.shades), base))
    return [*bar, Segment(f" {high}", base)]


def number(value: float) -> str:
    """A value of the colour bar with as many decimals as it needs, two at most."""
    text = f"{round(value, 2) + 0.0:.2f}"
    return with_minus(text[:-1] if text.endswith("0") else text)


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
