"""Moving a cursor over a map with the keys that people know: arrows, vim, less."""

from __future__ import annotations

from textual.widget import Widget

from engramcka.tui.keys import Shortcut

JUMP = 5  # layers that a jump moves the cursor


class CursorView(Widget, can_focus=True):
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
    ]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        raise NotImplementedError

    @property
    def cursor(self) -> tuple[int, int]:
        """The cell under the cursor."""
        raise NotImplementedError

    def move_cursor(self, row: int, column: int) -> None:
        """Put the cursor on a cell that there is."""
        raise NotImplementedError

    def put_cursor(self, row: int, column: int) -> None:
        """Put the cursor on a cell, or on the nearest that there is."""
        rows, columns = self.shape
        self.move_cursor(min(max(row, 0), rows - 1), min(max(column, 0), columns - 1))

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
