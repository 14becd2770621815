"""Rows with a bar each and a cursor on them; they scroll where there are more than fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment

from engramcka.tui.terminal import cut, fixed
from engramcka.tui.widgets.canvas import Canvas, Line

BAR = "█"
_LABEL = 28  # characters of a label at most


@dataclass(frozen=True)
class BarRow:
    """One bar, or a heading (``length`` is None)."""

    label: str
    length: float | None = None  # of the bar, 0 to 1; NaN for none
    text: str = ""  # the number beside it
    details: tuple[tuple[str, str | None], ...] = ()  # what is known of it, for the panel
    value: float = float("nan")  # what is copied
    negative: bool = False


def draw_rows(rows: Sequence[BarRow], width: int, cursor: int | None) -> list[Line]:
    """The rows as lines of (text, part): label, bar, number."""
    longest = max((len(row.label) for row in rows if row.length is not None), default=0)
    label_width = min(longest, _LABEL, width // 2)
    text_width = max((len(row.text) for row in rows), default=0)
    room = width - label_width - 4
    if room - text_width < 6:  # no room for the interval
        text_width = min(max((len(row.text.split(" ")[0]) for row in rows), default=0), room)
    return [
        _row_line(row, label_width, max(0, room - text_width), text_width, width, index == cursor)
        for index, row in enumerate(rows)
    ]


def _row_line(
    row: BarRow, label_width: int, bar_width: int, text_width: int, width: int, chosen: bool
) -> Line:
    if row.length is None:
        return [(cut(row.label, width), "label")]
    here = "mark" if chosen else "value"
    share = row.length if row.length == row.length else 0.0
    full = round(min(max(share, 0.0), 1.0) * bar_width)
    bar = (("░" if row.negative else BAR) * full).ljust(bar_width)
    text = row.text if len(row.text) <= text_width else row.text.split(" ")[0]
    return [
        ("▸" if chosen else " ", "mark"),
        (f"{fixed(row.label, label_width)} ", here),
        (bar, "mark" if chosen else "bar"),
        (f" {text}", here),
    ]


def rows_table(rows: Sequence[BarRow]) -> str:
    """The rows as tab-separated text."""
    return "".join(
        f"{row.label}\n" if row.length is None else f"{row.label}\t{row.value!r}\t{row.text}\n"
        for row in rows
    )


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
        self.rows: list[BarRow] = []
        self.cursor = 0
        self._top = 0
        self._drawn: list[Line] = []

    def show(self, rows: Sequence[BarRow]) -> None:
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
    def row(self) -> BarRow | None:
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
        """Draw all rows again, after a change of size or data."""
        self._drawn = draw_rows(self.rows, max(20, self.size.width - 2), self.cursor)
        height = max(1, self.size.height)
        self._top = min(max(self._top, self.cursor - height + 1), max(0, self.cursor - 1))
        self._top = max(0, min(self._top, len(self.rows) - height))
        super().change()

    def draw_line(self, y: int) -> list[Segment]:
        """One row as text: label, bar, value."""
        if y + self._top >= len(self._drawn):
            return []
        return self.part_segments(self._drawn[y + self._top], "bars")
