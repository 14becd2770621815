"""Where each cell of a map lies in characters, which cells fit, and means where not all do.

Rows and columns are indices from 0 at the bottom left, as in the paper's figure.
A line of text holds ``sub`` sub-rows: 2 with half blocks, which are then square, else 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from engramcka.results import Float


@dataclass(frozen=True)
class Geometry:
    """A map of rows x columns cells in a field of width x lines characters."""

    rows: int
    columns: int
    width: int  # characters of the field
    lines: int  # lines of the field
    sub: int  # sub-rows a line
    cell_width: int  # characters
    cell_height: int  # sub-rows
    first_row: int = 0  # lowest row that is shown
    first_column: int = 0  # leftmost column that is shown

    @property
    def shown_rows(self) -> int:
        """Rows that fit."""
        return min(self.rows, max(1, self.lines * self.sub // self.cell_height))

    @property
    def shown_columns(self) -> int:
        """Columns that fit."""
        return min(self.columns, max(1, self.width // self.cell_width))

    @property
    def used_lines(self) -> int:
        """Lines that the shown rows take."""
        return min(self.lines, -(-self.shown_rows * self.cell_height // self.sub))

    @property
    def used_width(self) -> int:
        """Characters that the shown columns take."""
        return min(self.width, self.shown_columns * self.cell_width)

    @property
    def whole(self) -> bool:
        """Whether every cell is shown."""
        return self.shown_rows == self.rows and self.shown_columns == self.columns

    def row_at(self, line: int, part: int = 0) -> int | None:
        """Row at sub-row ``part`` (0 the upper) of a line counted from the top, or None."""
        from_bottom = self.used_lines * self.sub - 1 - (line * self.sub + part)
        row = self.first_row + from_bottom // self.cell_height
        inside = from_bottom >= 0 and row < self.first_row + self.shown_rows
        return row if inside else None

    def column_at(self, x: int) -> int | None:
        """Column at a character, or None."""
        column = self.first_column + x // self.cell_width
        return column if x >= 0 and column < self.first_column + self.shown_columns else None

    def lines_of(self, row: int) -> range:
        """Lines that show a part of the row; empty if it is not shown."""
        below = (row - self.first_row) * self.cell_height
        if not 0 <= row - self.first_row < self.shown_rows:
            return range(0)
        last = self.used_lines - 1 - below // self.sub
        first = self.used_lines - 1 - (below + self.cell_height - 1) // self.sub
        return range(max(0, first), last + 1)

    def middle_line(self, row: int) -> int:
        """The line in the middle of a row, for its label."""
        middle = (row - self.first_row) * self.cell_height + (self.cell_height - 1) // 2
        return self.used_lines - 1 - middle // self.sub

    def sub_row_of(self, height: float) -> int:
        """Sub-row, from the top, at a height in rows (0.0 is the middle of row 0)."""
        from_bottom = int((height - self.first_row + 0.5) * self.cell_height)
        return self.used_lines * self.sub - 1 - from_bottom

    def x_of(self, column: int) -> int:
        """First character of a column."""
        return (column - self.first_column) * self.cell_width

    def reveal(self, row: int, column: int) -> Geometry:
        """The same map, moved as little as needed to show this cell."""
        first_row = _revealed(self.first_row, self.shown_rows, self.rows, row)
        first_column = _revealed(self.first_column, self.shown_columns, self.columns, column)
        if (first_row, first_column) == (self.first_row, self.first_column):
            return self
        return replace(self, first_row=first_row, first_column=first_column)


def _revealed(first: int, shown: int, count: int, index: int) -> int:
    first = min(first, max(0, count - shown))
    if index < first:
        return index
    return max(first, index - shown + 1)


def fit(
    rows: int,
    columns: int,
    width: int,
    lines: int,
    *,
    sub: int,
    zoom: int = 0,
    digits: int = 0,
) -> Geometry:
    """The geometry with cells as large as fits and about square; ``zoom`` makes them larger.

    Args:
        rows, columns: of the map.
        width, lines: of the field, in characters.
        sub: sub-rows a line: 2 for half blocks, 1 for whole characters.
        zoom: 0 fits the map; each step adds a sub-row to a cell's height.
        digits: characters that a cell needs for its number; 0 for none. It is a line high.
    """
    square = 1 if sub == 2 else 2  # characters across that are as long as one sub-row is high
    least = digits or 1
    fit_width = max(least, width // columns)
    fit_height = max(1, lines * sub // rows)
    height = min(fit_height, max(1, int(1.5 * fit_width / square)))
    across = min(fit_width, max(least, 2, int(1.5 * height * square)))
    if zoom:
        height += zoom
        across = max(across, height * square)
    if digits:
        across = max(least, min(across, 7))
    return Geometry(
        rows, columns, max(1, width), max(1, lines), sub, min(across, max(1, width)),
        min(height, max(1, lines * sub)),
    )  # fmt: skip


def block_means(values: Float, factor: int) -> Float:
    """(rows, columns) as means over factor x factor blocks, from row 0 on.

    The last blocks are smaller where the sides are no multiples. A block in which a cell is missing
    is NaN: a mean over the others would hide it.
    """
    sums, counts = _block_sums(values, factor)
    whole = _block_sums(np.ones_like(values), factor)[1]
    return np.where(counts == whole, sums / whole, np.nan)


def _block_sums(values: Float, factor: int) -> tuple[Float, Float]:
    """Sums and counts over the finite cells of blocks."""
    there = np.isfinite(values)
    sums, counts = np.where(there, values, 0.0), there.astype(np.float64)
    for axis in (0, 1):
        starts = np.arange(0, values.shape[axis], factor)
        sums = np.add.reduceat(sums, starts, axis=axis)
        counts = np.add.reduceat(counts, starts, axis=axis)
    return sums, counts


def block_curve(heights: list[float], factor: int) -> list[float]:
    """A curve over columns in rows, as one over blocks of columns in blocks of rows; where it is
    known in part of a block, the mean of that part."""
    rows = (np.array([heights], dtype=np.float64) + 0.5) / factor - 0.5
    sums, counts = _block_sums(np.repeat(rows, factor, axis=0), factor)
    means: list[float] = np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)[0].tolist()
    return means


def factor_that_fits(rows: int, columns: int, fit: Callable[[int, int], Geometry]) -> int:
    """The smallest side of blocks with which the whole map is shown."""
    factor = 1
    while factor < max(rows, columns):
        if fit(-(-rows // factor), -(-columns // factor)).whole:
            break
        factor += 1
    return factor
