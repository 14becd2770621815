"""The row and the column under the cursor as bars along the map's edges, where there is room.

Bars go from the first value of the colour bar to the last. Pure functions from values and a
geometry to lines of (text, whether it is the cursor's).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from engramcka.tui.widgets.cells import ABOVE, BELOW, BEYOND, NAN, levels
from engramcka.tui.widgets.geometry import Geometry

HEIGHT = 4  # lines of the row's bars
WIDTH = 16  # characters of the column's bars
ABOVE_LINES = HEIGHT + 1  # with the line that says which row it is
BESIDE_WIDTH = WIDTH + 2  # with a gap on either side
LEAST = (90, 34)  # characters and lines of a heatmap that has room for them

Marked = list[tuple[str, bool]]
"""A line as texts, and whether each belongs to the cursor."""

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_HALVES = {  # left and right half of the upper row, then of the lower
    (0, 0): " ", (1, 0): "▘", (2, 0): "▀", (0, 1): "▖", (1, 1): "▌", (2, 1): "▛",
    (0, 2): "▄", (1, 2): "▙", (2, 2): "█",
}  # fmt: skip


def fits(width: int, height: int) -> bool:
    """Whether a heatmap of so many characters and lines has room for the bars."""
    return width >= LEAST[0] and height >= LEAST[1]


def row_lines(
    values: npt.NDArray[np.float64], geometry: Geometry, low: float, high: float, column: int
) -> list[Marked]:
    """A row's values over their columns, as `HEIGHT` lines from the top.

    Args:
        values: (columns,) of the row.
        geometry: of the map.
        low: value of a bar of no height.
        high: value of the highest bar.
        column: the cursor's.
    """
    shown = range(geometry.first_column, geometry.first_column + geometry.shown_columns)
    found = levels(values, low, high)
    lines: list[Marked] = []
    for line in range(HEIGHT):
        lowest = line == HEIGHT - 1
        cells = []
        for index in shown:
            full = _steps(int(found[index]), 8 * HEIGHT)
            text = _EIGHTHS[min(max(full - 8 * (HEIGHT - 1 - line), 0), 8)]
            if lowest and full == 0:
                text = _mark(int(found[index]))
            width = min(geometry.cell_width, geometry.used_width - geometry.x_of(index))
            gap = " " if width > 2 and text != " " else ""  # bars stand apart where they can
            cells.append((text * (width - len(gap)) + gap, index == column))
        lines.append(_joined(cells))
    return lines


def column_line(
    values: npt.NDArray[np.float64],
    geometry: Geometry,
    low: float,
    high: float,
    row: int,
    line: int,
) -> Marked:
    """A column's values beside one line of the map: the upper and the lower of its rows.

    Args:
        values: (rows,) of the column.
        geometry: of the map.
        low: value of a bar of no length.
        high: value of the longest bar.
        row: the cursor's.
        line: of the map, from the top.
    """
    rows = [geometry.row_at(line, part) for part in range(geometry.sub)]
    upper, lower = rows[0], rows[-1]
    found = levels(values, low, high)
    lengths = [0 if at is None else _steps(int(found[at]), 2 * WIDTH) for at in (upper, lower)]
    there = [at for at in (upper, lower) if at is not None]
    halves = ((_half(lengths[0] - 2 * x), _half(lengths[1] - 2 * x)) for x in range(WIDTH))
    text = "".join(_HALVES[pair] for pair in halves)
    if there and not any(lengths):
        text = _mark(int(found[there[0]])) + text[1:]
    return [(text, row in there)]


def _half(length: int) -> int:
    return min(max(length, 0), 2)


def _steps(level: int, most: int) -> int:
    """A level as so many steps of a bar; the whole of it for what is above the scale."""
    if level in (NAN, BELOW):
        return 0
    return most if level == ABOVE else round(level / 255 * most)


def _mark(level: int) -> str:
    """What stands for a bar where there is none: that the value is missing, or below the scale."""
    return "?" if level == NAN else BEYOND.get(level, " ")


def _joined(cells: Sequence[tuple[str, bool]]) -> Marked:
    runs = groupby(cells, key=lambda cell: cell[1])
    return [("".join(text for text, _ in run), mine) for mine, run in runs]
