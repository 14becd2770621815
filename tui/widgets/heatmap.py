"""A map as a coloured text heatmap with its axes, cursor and colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from rich.style import Style
from textual import events

from engramcka.tui.messages import CellMoved
from engramcka.tui.terminal import with_minus
from engramcka.tui.widgets import axes, profiles
from engramcka.tui.widgets.canvas import Canvas
from engramcka.tui.widgets.cells import CellStyle, Field, curve_heights, digits_width, levels
from engramcka.tui.widgets.geometry import Geometry, block_curve, block_means, factor_that_fits, fit

_AXIS_LINES = 2  # the cursor's mark and the layer numbers


@dataclass(frozen=True)
class Matrix:
    """What a heatmap shows: values with the layer numbers of both sides."""

    values: npt.NDArray[np.float64]  # (rows, columns), row 0 at the bottom
    y_numbers: Sequence[int]
    x_numbers: Sequence[int]
    curve: Sequence[float] | None = None  # for each column a height in rows

    def blocks(self, factor: int) -> Matrix:
        """Means over blocks, numbered by their first layers."""
        if factor == 1:
            return self
        curve = None if self.curve is None else block_curve(list(self.curve), factor)
        numbers = self.y_numbers[::factor], self.x_numbers[::factor]
        return Matrix(block_means(self.values, factor), *numbers, curve)


class Heatmap(Canvas):
    """A matrix as colours; `cell_style` says how to draw it, `cursor` is a cell of it."""

    COMPONENT_CLASSES = {"heatmap--axis", "heatmap--cursor", "heatmap--bar"}

    PARTS = ((6, 6),) * 4

    DEFAULT_CSS = """
    Heatmap > .heatmap--axis { color: $foreground 60%; }
    Heatmap > .heatmap--cursor { color: $accent; }
    Heatmap > .heatmap--bar { color: $foreground 45%; }
    """

    def __init__(self, *, profiles_wanted: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.profiles_wanted = profiles_wanted
        self.matrix: Matrix | None = None
        self.cell_style = CellStyle()
        self.curve_shown = True
        self.zoom = 0  # steps that cells are larger than what fits; -1 for the overview
        self.cursor = (0, 0)
        self.pointed: tuple[int, int] | None = None  # the cell under the mouse
        self.factor = 1  # cells of the matrix along a side of what is drawn as one
        self.shown: Matrix | None = None  # what is drawn: the matrix, or its overview
        self._field: Field | None = None
        self._left = self._top = self._gutter = 0
        self._labels: dict[int, str] = {}
        self._numbers_line = ""
        self._beyond = (0, 0)  # cells below and above the scale

    @property
    def geometry(self) -> Geometry | None:
        """Where the cells are; None before the first `show`."""
        return self._field.geometry if self._field else None

    @property
    def origin(self) -> tuple[int, int]:
        """(x, y) of the upper left character of the cells, in the widget."""
        return self._left + self._gutter, self._top

    def show(self, matrix: Matrix) -> None:
        """Draw this matrix; the cursor stays where it is if there is such a cell."""
        self.matrix = matrix
        rows, columns = matrix.values.shape
        self.cursor = (min(self.cursor[0], rows - 1), min(self.cursor[1], columns - 1))
        self.change()

    def set_cell_style(self, style: CellStyle) -> None:
        """Draw the cells in another way."""
        self.cell_style = style
        self.change()

    def zoom_by(self, steps: int) -> None:
        """Larger or smaller cells; below what fits an overview, where not everything does."""
        whole = self._field is not None and self._field.geometry.whole
        least = 0 if whole and self.zoom >= 0 else -1
        self.zoom = min(max(self.zoom + steps, least), 12)
        self.change()

    def change(self) -> None:
        """The size or the theme changed: lay everything out again."""
        self._lay_out()
        super().change()

    def _lay_out(self) -> None:
        if self.matrix is None or self.size.width < 8 or self.size.height < 4:
            self._field = None
            return
        rows, columns = self.matrix.values.shape
        longest = max(len(str(number)) for number in self.matrix.y_numbers)
        self._gutter = longest + 1
        needed = digits_width(self.matrix.values, self.cell_style.signed)

        def fitted(rows: int, columns: int) -> Geometry:
            return fit(
                rows, columns, self.size.width - self._gutter - 1 - self._beside,
                self.size.height - _AXIS_LINES - self._bar_lines - self._above,
                sub=self.cell_style.sub, zoom=max(0, self.zoom),
                digits=needed if self.cell_style.mode == "digits" else 0,
            )  # fmt: skip

        before, self.factor = self.factor, 1
        if self.zoom < 0:
            self.factor = factor_that_fits(rows, columns, fitted)
        self.shown = self.matrix.blocks(self.factor)
        geometry = fitted(*self.shown.values.shape)
        if before == self.factor:
            geometry = self._kept(geometry)
        self._place(geometry.reveal(*self._block(self.cursor)))

    def _block(self, cell: tuple[int, int]) -> tuple[int, int]:
        """Where a cell of the matrix is in what is drawn."""
        return cell[0] // self.factor, cell[1] // self.factor

    def _kept(self, geometry: Geometry) -> Geometry:
        """The geometry, from the same lower left cell as before, so that a redraw does not jump."""
        if self._field is None:
            return geometry
        old = self._field.geometry
        return replace(geometry, first_row=old.first_row, first_column=old.first_column)

    def _place(self, geometry: Geometry) -> None:
        assert self.shown is not None
        used = geometry.used_width + self._gutter + self._beside
        self._left = max(0, (self.size.width - used) // 2)
        around = self._above + _AXIS_LINES + self._bar_lines
        self._top = self._above + max(0, (self.size.height - geometry.used_lines - around) // 2)
        self._labels = axes.y_labels(self.shown.y_numbers, geometry)
        self._numbers_line = axes.x_labels(self.shown.x_numbers, geometry)
        found = levels(self.shown.values, self.cell_style.low, self.cell_style.high)
        self._beyond = axes.beyond(found)
        self._field = Field(
            geometry,
            self.cell_style,
            found,
            self.shown.values,
            self.shown.curve if self.curve_shown else None,
            self._ground(),
        )

    @property
    def _bar_lines(self) -> int:
        return 2 if self.size.height > 13 else 0

    @property
    def _has_profiles(self) -> bool:
        return self.profiles_wanted and profiles.fits(self.size.width, self.size.height)

    @property
    def _above(self) -> int:
        """Lines above the map."""
        return profiles.ABOVE_LINES if self._has_profiles else 0

    @property
    def _beside(self) -> int:
        """Characters right of the map."""
        return profiles.BESIDE_WIDTH if self._has_profiles else 0

    def _ground(self) -> str:
        colour = self.base_style.bgcolor
        return "default" if colour is None else colour.name

    def move(self, row: int, column: int) -> None:
        """Put the cursor on a cell, and send only what that changes."""
        before, self.cursor = self.cursor, (row, column)
        if self._field is None or before == self.cursor:
            return
        geometry = self._field.geometry
        old, new = self._block(before), self._block(self.cursor)
        moved = geometry.reveal(*new)
        if moved is not geometry:
            self._place(moved)
            super().change()
            return
        lines = {*geometry.lines_of(old[0]), *geometry.lines_of(new[0])}
        if self._has_profiles:
            lines = set(range(-self._above, geometry.used_lines))
        for line in sorted(lines):
            self.change_line(self._top + line)
        self.change_line(self._top + geometry.used_lines)

    def draw_line(self, y: int) -> list[Segment]:
        """One line of map, axis or colour bar."""
        if self._field is None or self.matrix is None:
            return []
        geometry = self._field.geometry
        line = y - self._top
        if self._has_profiles and -self._above <= line < 0:
            return self._row_profile(line + self._above)
        if 0 <= line < geometry.used_lines:
            cells = self._field.line(line, self._block(self.cursor))
            return [*self._y_axis(line), *cells, *self._column_profile(line)]
        below = line - geometry.used_lines
        if below == 0:
            return [self._x_mark(geometry)]
        axis = self.part_style("heatmap--axis")
        indent = Segment(" " * (self._left + self._gutter))
        if below == 1:
            return [indent, Segment(self._numbers_line, axis)]
        if below == 2 and self._bar_lines:
            return [indent, Segment(self._zoom_text(), axis)]
        if below == 3 and self._bar_lines:
            ground = self._ground()
            room = self.size.width - self._left - self._gutter
            return [indent, *axes.colour_bar(self.cell_style, ground, room, axis, self._beyond)]
        return []

    def _row_profile(self, line: int) -> list[Segment]:
        """A line above the map: which row and column the bars are of, then the row's bars."""
        assert self._field is not None
        assert self.matrix is not None
        geometry, style = self._field.geometry, self.part_style("heatmap--cursor")
        indent = Segment(" " * (self._left + self._gutter))
        if line == 0:
            row, column = self.cursor
            width = geometry.used_width + 1
            text = f"row {self.matrix.y_numbers[row]}"
            beside = f"column {self.matrix.x_numbers[column]}"
            return [indent, Segment(f"{text:<{width}}{beside}", style)]
        row, column = self._block(self.cursor)
        values = self._field.values[row]
        low, high = self.cell_style.low, self.cell_style.high
        bars = profiles.row_lines(values, geometry, low, high, column)[line - 1]
        return [indent, *self._marked(bars)]

    def _column_profile(self, line: int) -> list[Segment]:
        """The bars right of a line of the map; none where there is no room."""
        if not self._has_profiles:
            return []
        assert self._field is not None
        row, column = self._block(self.cursor)
        values, style = self._field.values[:, column], self.cell_style
        geometry = self._field.geometry
        bars = profiles.column_line(values, geometry, style.low, style.high, row, line)
        return [Segment(" "), *self._marked(bars)]

    def _marked(self, line: profiles.Marked) -> list[Segment]:
        return [
            Segment(text, self.part_style("heatmap--cursor" if mine else "heatmap--bar"))
            for text, mine in line
        ]

    def _zoom_text(self) -> str:
        """What part of the map is shown and how large; "" for the whole map as it fits."""
        assert self._field is not None
        g = self._field.geometry
        if pointed := self._pointed_text():
            return pointed
        parts = [f"zoom {self.zoom:+d}"] if self.zoom > 0 else []
        if self.factor > 1:
            parts = [f"overview, {self._note()}"]
        elif not g.whole:
            parts.append(f"{g.shown_rows} x {g.shown_columns} of {g.rows} x {g.columns}")
        return "  ".join(parts)

    def _y_axis(self, line: int) -> list[Segment]:
        assert self._field is not None
        assert self.matrix is not None
        geometry = self._field.geometry
        pad, room = " " * self._left, self._gutter - 1
        if geometry.middle_line(self._block(self.cursor)[0]) == line:
            style = self.part_style("heatmap--cursor")
            number = str(self.matrix.y_numbers[self.cursor[0]])
            return [Segment(pad), Segment(f"{number:>{room}}▸", style)]
        style = self.part_style("heatmap--axis")
        return [
            Segment(pad),
            Segment(f"{self._labels.get(line, ''):>{room}}{self._more(line)}", style),
        ]

    def _x_mark(self, geometry: Geometry) -> Segment:
        style: Style = self.part_style("heatmap--cursor")
        line = [" "] * geometry.used_width
        if geometry.first_column > 0:
            line[0] = "←"
        if geometry.first_column + geometry.shown_columns < geometry.columns:
            line[-1] = "→"
        at = axes.x_mark(geometry, self._block(self.cursor)[1])
        note = self._note()
        start = 0 if at > len(note) + 1 else len(line) - len(note)
        if note and (at > len(note) + 1 or at < start - 1):
            line[start : start + len(note)] = note
        line[at] = "▲"
        return Segment(" " * (self._left + self._gutter) + "".join(line), style)

    def _note(self) -> str:
        """That what is drawn are no single cells."""
        return f"means of {self.factor} x {self.factor}" if self.factor > 1 else ""

    def _more(self, line: int) -> str:
        """An arrow at the edge of the rows shown, where there are more beyond it."""
        assert self._field is not None
        g = self._field.geometry
        if line == 0 and g.first_row + g.shown_rows < g.rows:
            return "↑"
        return "↓" if line == g.used_lines - 1 and g.first_row > 0 else " "

    def on_click(self, event: events.Click) -> None:
        """A click puts the cursor there; a second one on the lower of the line's two rows."""
        if found := self._cells_at(event):
            upper = found[0]
            lower = found[-1]
            self.post_message(CellMoved(*(lower if self.cursor == upper else upper)))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Read the cell under the mouse."""
        found = self._cells_at(event)
        self._point_at(found[0] if found else None)

    def on_leave(self) -> None:
        """The mouse is elsewhere."""
        self._point_at(None)

    def _point_at(self, cell: tuple[int, int] | None) -> None:
        if cell != self.pointed and self._field is not None:
            self.pointed = cell
            self.change_line(self._top + self._field.geometry.used_lines + _AXIS_LINES)

    def _pointed_text(self) -> str:
        """The cell under the mouse and its value; "" where the mouse is elsewhere."""
        if self.pointed is None or self.matrix is None:
            return ""
        row, column = self.pointed
        if row >= self.matrix.values.shape[0] or column >= self.matrix.values.shape[1]:
            return ""
        value = float(self.matrix.values[row, column])
        shown = "no value" if value != value else with_minus(f"{round(value, 3) + 0.0:.3f}")
        place = f"row {self.matrix.y_numbers[row]} column {self.matrix.x_numbers[column]}"
        return f"{place}: {shown}"

    def _cells_at(self, event: events.MouseEvent) -> list[tuple[int, int]]:
        """The one or two cells of the matrix at the mouse, the upper one first; that in the exact
        half of the line where the terminal says it."""
        if self._field is None:
            return []
        x = int(event.screen_x) - self.region.x - self.origin[0]
        exact = event.pointer_screen_y - self.region.y - self.origin[1]
        y, geometry = int(exact // 1), self._field.geometry
        column = geometry.column_at(x)
        if column is None or not 0 <= y < geometry.used_lines:
            return []
        half = [int(exact % 1 * geometry.sub)] if exact % 1 else range(geometry.sub)
        rows = (geometry.row_at(y, part) for part in half)
        return list(dict.fromkeys(self._cell(row, column) for row in rows if row is not None))

    def _cell(self, row: int, column: int) -> tuple[int, int]:
        """The cell in the middle of what is drawn as one."""
        assert self.matrix is not None
        rows, columns = self.matrix.values.shape
        half = self.factor // 2
        place = row * self.factor + half, column * self.factor + half
        return min(place[0], rows - 1), min(place[1], columns - 1)


def matrix_of(
    values: npt.NDArray[np.float64],
    y_numbers: Sequence[int],
    x_numbers: Sequence[int],
    aligned: npt.NDArray[np.float64] | None = None,
) -> Matrix:
    """A matrix with its alignment curve turned from layer numbers into heights in rows."""
    curve = None if aligned is None else curve_heights(y_numbers, aligned)
    return Matrix(values, tuple(y_numbers), tuple(x_numbers), curve)
