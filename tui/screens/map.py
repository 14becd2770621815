"""One similarity map: the heatmap, what is known about the cell under the cursor, and its keys."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from engramcka import palettes
from engramcka.tui import readout
from engramcka.tui.keys import Shortcut
from engramcka.tui.messages import CellMoved
from engramcka.tui.screens.cursor import CursorView
from engramcka.tui.terminal import Capabilities
from engramcka.tui.widgets.cell_panel import CellPanel, Readout, cell_line, cell_lines
from engramcka.tui.widgets.cells import Look
from engramcka.tui.widgets.heatmap import Heatmap, matrix_of

if TYPE_CHECKING:
    from engramcka.results import CkaMap


def look_for(capabilities: Capabilities, palette: str, mode: str = "") -> Look:
    """How cells are drawn on this terminal."""
    usual = "half" if capabilities.half_blocks else "shade"
    return Look(
        palette=palette,
        mode=mode or usual,
        coloured=capabilities.colours in ("true", "256"),
        ascii=capabilities.ascii,
    )


class MapView(CursorView):
    """The screen of one map."""

    DEFAULT_CSS = """
    MapView { layout: vertical; }
    MapView #map-row { height: 1fr; }
    """

    BINDINGS = [
        Shortcut("a", "alignment", "Alignment"),
        Shortcut("c", "palette", "Colours"),
        Shortcut("v", "numbers", "Values"),
        Shortcut("z,plus,equals_sign", "zoom(1)", "Zoom"),
        Shortcut("Z,minus", "zoom(-1)", "Zoom out", show=False),
        Shortcut("d", "screen.compare", "Compare"),
        Shortcut("m", "maximum", "Column max", show=False),
        Shortcut("right_square_bracket", "screen.series(1)", "Later", show=False),
        Shortcut("left_square_bracket", "screen.series(-1)", "Earlier", show=False),
        Shortcut("r", "range", "Range", show=False),
        Shortcut("R", "range_dialog", "Range ..", show=False),
        Shortcut("comma", "neighbours(-1)", "Fewer rows in the alignment", show=False),
        Shortcut("full_stop", "neighbours(1)", "More rows in the alignment", show=False),
    ]

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.capabilities = capabilities
        self.map: CkaMap | None = None
        self.k = 5
        self._aligned: readout.Alignment | None = None

    def compose(self) -> ComposeResult:
        """Heatmap and panel, and the line that stands in for the panel."""
        with Horizontal(id="map-row"):
            heatmap = Heatmap(id="heatmap")
            heatmap.look = look_for(self.capabilities, palettes.PALETTES[0])
            yield heatmap
            with Vertical(id="cell", classes="panel"):
                yield CellPanel(id="cell-panel")
        yield Readout(id="cell-line", classes="line")

    def on_mount(self) -> None:
        """Name the panel."""
        self.query_one("#cell").border_title = "cell"

    @property
    def heatmap(self) -> Heatmap:
        """The heatmap."""
        return self.query_one(Heatmap)

    def show(self, cka: CkaMap) -> None:
        """Show a map; the cursor stays on its cell if there is one."""
        self.map = cka
        self._align()
        self._tell()

    def _align(self) -> None:
        assert self.map is not None
        self._aligned = readout.alignment(self.map, self.k)
        curve = self._aligned.layers
        self.heatmap.show(
            matrix_of(self.map.similarity, self.map.y_layers, self.map.x_layers, curve)
        )

    def on_resize(self) -> None:
        """The panel's texts depend on its width."""
        self.call_after_refresh(self._tell)

    def _tell(self) -> None:
        """Say what is known about the cell under the cursor."""
        if self.map is None or self._aligned is None:
            return
        row, column = self.heatmap.cursor
        cell = readout.cell(self.map, row, column, self._aligned)
        if self.query_one("#cell").display:
            panel = self.query_one(CellPanel)
            cell_and_map = [*cell, ("nearest", readout.shift(self._aligned.shift))]
            panel.set_lines(
                cell_lines(panel, self.map, row, column, cell_and_map, self.capabilities.ascii)
            )
        line = self.query_one("#cell-line", Readout)
        if line.display:
            line.set_lines([cell_line(self.map, row, column, cell)])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        return self.map.similarity.shape if self.map is not None else (1, 1)

    @property
    def cursor(self) -> tuple[int, int]:
        """The cell under the cursor."""
        return self.heatmap.cursor

    def move_cursor(self, row: int, column: int) -> None:
        """Put the cursor on a cell of the map."""
        self.heatmap.move(row, column)
        self._tell()

    def on_cell_moved(self, message: CellMoved) -> None:
        """The mouse chose a cell."""
        message.stop()
        self.focus()
        self.put_cursor(message.row, message.column)

    def action_maximum(self) -> None:
        """Move the cursor to the highest similarity of its column."""
        if self.map is not None:
            best = readout.column_maximum(self.map, self.heatmap.cursor[1])
            if best is not None:
                self.put_cursor(best, self.heatmap.cursor[1])

    def action_alignment(self) -> None:
        """Show or hide the soft alignment curve."""
        self.heatmap.curve_shown = not self.heatmap.curve_shown
        self.heatmap.change()

    def use_palette(self, name: str) -> None:
        """Draw in this palette, if there is such a one."""
        if name in palettes.PALETTES:
            self.heatmap.set_look(replace(self.heatmap.look, palette=name))

    def action_palette(self) -> None:
        """Draw in the next palette; after the last one in shades without colour."""
        look = self.heatmap.look
        usual = look_for(self.capabilities, look.palette)
        names = list(palettes.PALETTES)
        if look.mode == "shade" and usual.mode == "half":
            new = replace(usual, palette=names[0], low=look.low, high=look.high)
        elif look.palette == names[-1] and look.mode == "half":
            new = replace(look, mode="shade")
        else:
            new = replace(look, palette=names[(names.index(look.palette) + 1) % len(names)])
        self.heatmap.set_look(new)

    def action_numbers(self) -> None:
        """Show cells as numbers, or as colours again."""
        look = self.heatmap.look
        usual = look_for(self.capabilities, look.palette).mode
        self.heatmap.set_look(replace(look, mode=usual if look.mode == "digits" else "digits"))

    def action_zoom(self, steps: int) -> None:
        """Make cells larger or smaller; the smallest are means over blocks."""
        self.heatmap.zoom_by(steps)

    def action_range(self) -> None:
        """Stretch the colours over the values there are, or over 0 to 1 again."""
        if self.map is None:
            return
        look, values = self.heatmap.look, self.map.similarity
        finite = values[np.isfinite(values)]
        if (look.low, look.high) == (0.0, 1.0) and len(finite) and finite.max() > finite.min():
            look = replace(look, low=float(finite.min()), high=float(finite.max()))
        else:
            look = replace(look, low=0.0, high=1.0)
        self.heatmap.set_look(look)

    async def action_range_dialog(self) -> None:
        """Ask for the values of the first and the last colour."""
        from engramcka.tui.screens.dialogs import RangeScreen

        look = self.heatmap.look
        await self.app.push_screen(RangeScreen(look.low, look.high), self.use_range)

    def use_range(self, ends: tuple[float, float] | None) -> None:
        """Draw with colours from one value to another."""
        if ends is not None:
            self.heatmap.set_look(replace(self.heatmap.look, low=ends[0], high=ends[1]))

    def action_neighbours(self, more: int) -> None:
        """Average the alignment over one row more or fewer."""
        if self.map is not None:
            self.k = min(max(self.k + more, 1), self.map.similarity.shape[0])
            self._align()
            self._tell()

    def figure_options(self) -> dict[str, Any]:
        """How an exported figure is to be drawn, so that it looks like the screen."""
        look = self.heatmap.look
        return {
            "palette": look.palette,
            "alignment": self.heatmap.curve_shown,
            "k": self.k,
            "low": look.low,
            "high": look.high,
        }

    def figure_input(self) -> tuple[Any, dict[str, Any]]:
        """What an exported figure draws, and its options."""
        return self.map, self.figure_options()

    def copied(self, what: str) -> tuple[str, str]:
        """(text, what it is) of the value, row or table to copy."""
        assert self.map is not None
        row, column = self.heatmap.cursor
        if what == "table":
            return readout.table(self.map), "the map as a table"
        if what == "row":
            return readout.row_table(self.map, row), f"row {self.map.y_layers[row]}"
        return repr(float(self.map.similarity[row, column])), "the value"
