"""Rows with a bar each and a cursor on them; scrolls where they are more than fit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment

from engramcka.tui.bars import Row, draw_rows
from engramcka.tui.widgets.canvas import Canvas


class BarList(Canvas):
    """The rows; headings are passed over by the cursor."""

    COMPONENT_CLASSES = {"bars--label", "bars--value", "bars--mark", "bars--bar"}

    DEFAULT_CSS = """
    BarList { margin: 0 1; }
    BarList > .bars--label { color: $foreground 60%; }
    BarList > .bars--value { color: $foreground; }
    BarList > .bars--mark { color: $accent; text-style: bold; }
    BarList > .bars--bar { color: $primary; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: list[Row] = []
        self.cursor = 0
        self._top = 0
        self._drawn: list[list[tuple[str, str]]] = []

    def show(self, rows: Sequence[Row]) -> None:
        """Show these rows; the cursor stays if it can."""
        self.rows = list(rows)
        places = self.places
        if self.cursor not in places and places:
            self.cursor = min(places, key=lambda place: abs(place - self.cursor))
        self.change()

    @property
    def places(self) -> list[int]:
        """Rows that the cursor can be on."""
        return [index for index, row in enumerate(self.rows) if row.length is not None]

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if self.places else None

    def step(self, rows: int) -> None:
        """Move the cursor by so many rows."""
        places = self.places
        if places:
            at = places.index(self.cursor) + rows
            self.cursor = places[min(max(at, 0), len(places) - 1)]
            self.change()

    def change(self) -> None:
        """Draw everything anew."""
        self._drawn = draw_rows(self.rows, max(20, self.size.width - 2), self.cursor)
        height = max(1, self.size.height)
        self._top = min(max(self._top, self.cursor - height + 1), max(0, self.cursor - 1))
        self._top = max(0, min(self._top, len(self.rows) - height))
        super().change()

    def draw_line(self, y: int) -> list[Segment]:
        """One row."""
        if y + self._top >= len(self._drawn):
            return []
        line = self._drawn[y + self._top]
        return [Segment(text, self.part_style(f"bars--{part}")) for text, part in line]
