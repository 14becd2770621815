"""What the memory is worth: the loss without it minus the loss with it, by class of token."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from engramcka.tui.bars import memory_rows, rows_table
from engramcka.tui.keys import Shortcut
from engramcka.tui.loading import Several
from engramcka.tui.terminal import Capabilities, clean, fitting
from engramcka.tui.widgets.bar_list import BarList
from engramcka.tui.widgets.cell_panel import CellPanel, Readout


class RowsView(Widget, can_focus=True):
    """A view with a cursor on rows; `BarList` and a panel in it."""

    DEFAULT_CSS = """
    RowsView { layout: vertical; }
    RowsView .rows { height: 1fr; }
    """

    BINDINGS = [
        Shortcut("up,k,left,h", "move(-1)", "Up", show=False),
        Shortcut("down,j,right,l", "move(1)", "Down", show=False),
        Shortcut("pageup,b,ctrl+u", "move(-10)", "Up", show=False),
        Shortcut("pagedown,space,ctrl+d", "move(10)", "Down", show=False),
        Shortcut("home,g", "move(-9999)", "Top", show=False),
        Shortcut("end,G", "move(9999)", "Bottom", show=False),
    ]

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.capabilities = capabilities
        self.warnings: list[str] = []

    def compose(self) -> ComposeResult:
        """Rows and panel, and the line that stands in for the panel."""
        with Horizontal(classes="rows"):
            yield BarList()
            with Vertical(classes="panel"):
                yield CellPanel()
        yield Readout(classes="line")

    @property
    def bars(self) -> BarList:
        """The rows."""
        return self.query_one(BarList)

    def on_resize(self) -> None:
        """The panel's texts depend on its width."""
        self.call_after_refresh(self.tell)

    def tell(self) -> None:
        """Say what is known about the row under the cursor."""
        row = self.bars.row
        if row is None:
            return
        panel = self.query_one(CellPanel)
        lines = panel.details(row.details)
        if self.warnings:
            lines += [[], *panel.sentences(self.warnings)]
        panel.set_lines(lines)
        parts = (label if value is None else f"{label} {value}" for label, value in row.details)
        line = self.query_one(".line", Readout)
        line.set_lines([[(fitting(parts, line.size.width), "value")]])

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        self.bars.step(rows)
        self.tell()

    def copied(self, what: str) -> tuple[str, str]:
        """(text, what it is) of the value or table to copy."""
        row = self.bars.row
        if what in ("table", "row") or row is None:
            return rows_table(self.bars.rows), "the rows as a table"
        return repr(row.value), "the value"


class MemoryView(RowsView):
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
        self.warnings = list(dict.fromkeys(texts))
        self.warnings += several.unread
        self.bars.show(memory_rows(several.values))
        self.tell()
