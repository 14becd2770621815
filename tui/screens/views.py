"""Bases of the views: a result with a panel beside it, and one or two maps with a cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from engramcka.tui.messages import CellMoved
from engramcka.tui.terminal import Capabilities
from engramcka.tui.widgets.canvas import Line
from engramcka.tui.widgets.cells import CellStyle
from engramcka.tui.widgets.heatmap import Heatmap
from engramcka.tui.widgets.key_bar import Shortcut
from engramcka.tui.widgets.panel import DetailsPanel, TextLines

JUMP = 5  # layers that a jump moves the cursor


class PanelView(Widget, can_focus=True):
    """A result with a panel beside it; on small screens one line below it instead.

    A subclass yields the result's widgets in `compose_result` and says what the panel and the line
    tell; it calls `refresh_panel` when that changes.
    """

    DEFAULT_CSS = """
    PanelView { layout: vertical; }
    PanelView .result { height: 1fr; }
    """

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.capabilities = capabilities
        self.warnings: Sequence[str] = ()  # of the result, below what the panel tells

    def compose(self) -> ComposeResult:
        """Result and panel, and the line that stands in for the panel."""
        with Horizontal(classes="result"):
            yield from self.compose_result()
            with Vertical(classes="panel"):
                yield DetailsPanel()
        yield TextLines(classes="line")

    def compose_result(self) -> ComposeResult:
        """The widgets that show the result, side by side."""
        raise NotImplementedError

    def panel_lines(self, panel: DetailsPanel) -> list[Line]:
        """What the panel tells about the place under the cursor."""
        raise NotImplementedError

    def short_line(self, width: int) -> Line:
        """The same in one line of so many characters."""
        raise NotImplementedError

    def on_resize(self) -> None:
        """The texts depend on the width."""
        self.call_after_refresh(self.refresh_panel)

    def refresh_panel(self) -> None:
        """Tell what is known about the place under the cursor, in the panel or the line."""
        if self.query_one(".panel").display:
            panel = self.query_one(DetailsPanel)
            lines = self.panel_lines(panel)
            if lines and self.warnings:
                lines = [*lines, [], *panel.sentences(self.warnings)]
            panel.set_lines(lines)
        line = self.query_one(".line", TextLines)
        if line.display:
            line.set_lines([self.short_line(line.size.width)])


def usual_cell_style(capabilities: Capabilities, palette: str, mode: str = "") -> CellStyle:
    """How cells are drawn on this terminal, unless the user asks for something else."""
    return CellStyle(
        palette=palette,
        mode=mode or ("half" if capabilities.half_blocks else "shade"),
        coloured=capabilities.colours in ("true", "256"),
        ascii=capabilities.ascii,
    )


class HeatmapsView(Widget, can_focus=True):
    """A view with a cursor on cells; rows and columns count from 0 at the lower left."""

    BINDINGS = [
        Shortcut("left,h", "move(0,-1)", "Left", show=False),
        Shortcut("right,l", "move(0,1)", "Right", show=False),
        Shortcut("up,k", "move(1,0)", "Up", show=False),
        Shortcut("down,j", "move(-1,0)", "Down", show=False),
        Shortcut("shift+left,H,b", f"move(0,-{JUMP})", "5 left", show=False),
        Shortcut("shift+right,L,w", f"move(0,{JUMP})", "5 right", show=False),
        Shortcut("shift+up,K,pageup,ctrl+u", f"move({JUMP},0)", "5 up", show=False),
        Shortcut("shift+down,J,pagedown,ctrl+d,space", f"move(-{JUMP},0)", "5 down", show=False),
        Shortcut("home,0", "column(0)", "First column", show=False),
        Shortcut("end,dollar_sign", "column(-1)", "Last column", show=False),
        Shortcut("g", "row(-1)", "Top row", show=False),
        Shortcut("G", "row(0)", "Bottom row", show=False),
        Shortcut("a", "alignment", "Alignment"),
        Shortcut("c", "palette", "Colours"),
        Shortcut("v", "numbers", "Values", show=False),
        Shortcut("z,plus,equals_sign", "zoom(1)", "Zoom"),
        Shortcut("Z,minus", "zoom(-1)", "Zoom out", show=False),
    ]

    capabilities: Capabilities

    @property
    def heatmaps(self) -> Sequence[Heatmap]:
        """The heatmaps, shown or hidden."""
        return list(self.query(Heatmap))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that the cursor can be on."""
        raise NotImplementedError

    @property
    def cursor(self) -> tuple[int, int]:
        """(row, column) under the cursor."""
        raise NotImplementedError

    def move_cursor(self, row: int, column: int) -> None:
        """Put the cursor on a cell inside `shape`."""
        raise NotImplementedError

    def put_cursor(self, row: int, column: int) -> None:
        """Put the cursor on a cell, or on the nearest that there is."""
        rows, columns = self.shape
        self.move_cursor(min(max(row, 0), rows - 1), min(max(column, 0), columns - 1))

    def on_cell_moved(self, message: CellMoved) -> None:
        """The mouse chose a cell."""
        message.stop()
        self.focus()
        self.put_cursor(message.row, message.column)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel makes cells larger."""
        event.stop()
        self.action_zoom(1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel makes cells smaller."""
        event.stop()
        self.action_zoom(-1)

    def action_move(self, rows: int, columns: int) -> None:
        """Move the cursor by so many layers."""
        row, column = self.cursor
        self.put_cursor(row + rows, column + columns)

    def action_column(self, column: int) -> None:
        """Move the cursor to the first (0) or last (-1) column."""
        self.put_cursor(self.cursor[0], column % self.shape[1])

    def action_row(self, row: int) -> None:
        """Move the cursor to the lowest (0) or highest (-1) row."""
        self.put_cursor(row % self.shape[0], self.cursor[1])

    def action_alignment(self) -> None:
        """Show or hide the soft alignment curves."""
        for heatmap in self.heatmaps:
            heatmap.curve_shown = not heatmap.curve_shown
            heatmap.change()

    def action_numbers(self) -> None:
        """Show cells as numbers, or as colours again."""
        for heatmap in self.heatmaps:
            style = heatmap.cell_style
            usual = usual_cell_style(self.capabilities, style.palette).mode
            mode = usual if style.mode == "digits" else "digits"
            heatmap.set_cell_style(replace(style, mode=mode))

    def action_zoom(self, steps: int) -> None:
        """Make cells larger or smaller; the smallest are means over blocks."""
        for heatmap in self.heatmaps:
            heatmap.zoom_by(steps)
