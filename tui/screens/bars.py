"""Rows with a bar each; so the memory ablations of a run are shown, and gates by entity type."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.app import ComposeResult

from engramcka.plain_text import clean
from engramcka.tui.charts.memory import memory_rows
from engramcka.tui.loading import Several
from engramcka.tui.screens.views import PanelView
from engramcka.tui.terminal import Capabilities, fitting
from engramcka.tui.widgets.bar_list import BarList, rows_table
from engramcka.tui.widgets.canvas import Line
from engramcka.tui.widgets.key_bar import STEP_KEYS, Shortcut
from engramcka.tui.widgets.panel import DetailsPanel

JUMP = 10  # rows that a jump moves the cursor


class BarsView(PanelView):
    """A view with a cursor on the rows of a `BarList`."""

    BINDINGS = [
        *STEP_KEYS,
        Shortcut("space", "jump(1)", show=False),
    ]

    def compose_result(self) -> ComposeResult:
        """The list of bars."""
        yield BarList()

    @property
    def bars(self) -> BarList:
        """The list of bars."""
        return self.query_one(BarList)

    def panel_lines(self, panel: DetailsPanel) -> list[Line]:
        """What is known about the row under the cursor."""
        row = self.bars.row
        return [] if row is None else panel.details(row.details)

    def short_line(self, width: int) -> Line:
        """As much of it as fits."""
        row = self.bars.row
        if row is None:
            return []
        parts = (label if value is None else f"{label} {value}" for label, value in row.details)
        return [(fitting(parts, width), "value")]

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel goes back."""
        event.stop()
        self.action_move(-1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel goes on."""
        event.stop()
        self.action_move(1)

    def action_move(self, rows: int) -> None:
        """Move the cursor by so many rows."""
        self.bars.step(rows)
        self.refresh_panel()

    def action_jump(self, jumps: int) -> None:
        """Move the cursor by ten rows."""
        self.action_move(JUMP * jumps)

    def action_place(self, index: int) -> None:
        """Move the cursor to the first (0) or last (-1) row."""
        self.action_move(len(self.bars.rows) * (-1 if index == 0 else 1))

    def copied(self, what: str) -> tuple[str, str]:
        """(text, what it is) of the value or table to copy."""
        row = self.bars.row
        if what in ("table", "row") or row is None:
            return rows_table(self.bars.rows), "the rows as a table"
        return repr(row.value), clean(row.label)


class MemoryView(BarsView):
    """The memory ablations of a run."""

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(capabilities, id=id)
        self._ablations: list[Any] = []

    def figure_input(self) -> tuple[Any, dict[str, Any]]:
        """What an exported figure draws, and its options."""
        return self._ablations, {}

    def show(self, several: Several) -> None:
        """Show the ablations of all models of a run."""
        self._ablations = list(several.values.values())
        texts = (clean(w) for ablation in self._ablations for w in ablation.warnings)
        self.warnings = [*dict.fromkeys(texts), *several.unread]
        self.bars.show(memory_rows(several.values))
        self.refresh_panel()
