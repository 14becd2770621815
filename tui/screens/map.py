"""One similarity map: the heatmap, what is known about the cell under the cursor, and its keys."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from textual.app import ComposeResult

from engramcka import palettes
from engramcka.plain_text import clean
from engramcka.results.base import count
from engramcka.tui import readout
from engramcka.tui.screens.views import HeatmapsView, PanelView, usual_cell_style
from engramcka.tui.terminal import Capabilities
from engramcka.tui.widgets.canvas import Line
from engramcka.tui.widgets.heatmap import Heatmap, matrix_of
from engramcka.tui.widgets.key_bar import Shortcut
from engramcka.tui.widgets.panel import SPARK_WIDTH, DetailsPanel, whole

if TYPE_CHECKING:
    from engramcka.results import SimilarityMap


class MapView(PanelView, HeatmapsView):
    """The screen of one map."""

    BINDINGS = [
        Shortcut("enter", "screen.samples", "Samples", key_display="enter"),
        Shortcut("i", "about", "In words"),
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
        super().__init__(capabilities, id=id)
        self.map: SimilarityMap | None = None
        self.heatmap = Heatmap(
            profiles_wanted=True, id="heatmap"
        )  # asked for its cursor also before it is mounted
        self.heatmap.cell_style = usual_cell_style(capabilities, palettes.PALETTES[0])
        self.k = 5
        self._aligned: readout.Alignment | None = None

    def compose_result(self) -> ComposeResult:
        """The widget that draws the map."""
        yield self.heatmap

    def show(self, cka: SimilarityMap) -> None:
        """Show a map; the cursor stays on its cell if there is one."""
        self.map = cka
        self._align()
        self.refresh_panel()

    def _align(self) -> None:
        assert self.map is not None
        self._aligned = readout.alignment(self.map, self.k)
        curve = self._aligned.layers
        self.heatmap.show(
            matrix_of(self.map.similarity, self.map.y_layers, self.map.x_layers, curve)
        )

    def panel_lines(self, panel: DetailsPanel) -> list[Line]:
        """Everything that is known about the cell under the cursor."""
        if self.map is None or self._aligned is None:
            return []
        row, column = self.cursor
        cell = readout.cell(self.map, row, column, self._aligned)
        cell.append(("nearest", readout.shift(self._aligned.shift)))
        return cell_lines(panel, self.map, row, column, cell, self.capabilities.ascii)

    def short_line(self, width: int) -> Line:
        """The cell's value, and what else fits."""
        if self.map is None or self._aligned is None:
            return []
        row, column = self.cursor
        cell = readout.cell(self.map, row, column, self._aligned)
        return cell_line(self.map, row, column, cell, width)

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
        self.refresh_panel()

    def action_maximum(self) -> None:
        """Move the cursor to the highest similarity of its column."""
        if self.map is not None:
            best = readout.column_maximum(self.map, self.heatmap.cursor[1])
            if best is not None:
                self.put_cursor(best, self.heatmap.cursor[1])

    def use_palette(self, name: str) -> None:
        """Draw in this palette, if there is such a one."""
        if name in palettes.PALETTES:
            self.heatmap.set_cell_style(replace(self.heatmap.cell_style, palette=name))

    def action_palette(self) -> None:
        """Draw in the next palette; after the last one in shades without colour."""
        style = self.heatmap.cell_style
        usual = usual_cell_style(self.capabilities, style.palette)
        names = list(palettes.PALETTES)
        if style.mode == "shade" and usual.mode == "half":
            new = replace(usual, palette=names[0], low=style.low, high=style.high)
        elif style.palette == names[-1] and style.mode == "half":
            new = replace(style, mode="shade")
        else:
            new = replace(style, palette=names[(names.index(style.palette) + 1) % len(names)])
        self.heatmap.set_cell_style(new)

    def action_range(self) -> None:
        """Stretch the colours over the values there are, or over 0 to 1 again."""
        if self.map is None:
            return
        style, values = self.heatmap.cell_style, self.map.similarity
        finite = values[np.isfinite(values)]
        if (style.low, style.high) == (0.0, 1.0) and len(finite) and finite.max() > finite.min():
            style = replace(style, low=float(finite.min()), high=float(finite.max()))
        else:
            style = replace(style, low=0.0, high=1.0)
        self.heatmap.set_cell_style(style)

    async def action_range_dialog(self) -> None:
        """Ask for the values of the first and the last colour."""
        from engramcka.tui.screens.dialogs import RangeScreen

        style = self.heatmap.cell_style
        await self.app.push_screen(RangeScreen(style.low, style.high), self.use_range)

    def use_range(self, ends: tuple[float, float] | None) -> None:
        """Draw with colours from one value to another."""
        if ends is not None:
            self.heatmap.set_cell_style(replace(self.heatmap.cell_style, low=ends[0], high=ends[1]))

    async def action_about(self) -> None:
        """The map and the cell under the cursor in words."""
        from engramcka.tui.explained import about
        from engramcka.tui.screens.dialogs import AboutScreen

        if self.map is not None:
            page = about(self.map, *self.cursor)
            await self.app.push_screen(AboutScreen(readout.place(self.map, *self.cursor), page))

    def action_neighbours(self, more: int) -> None:
        """Average the alignment over one row more or fewer."""
        if self.map is not None:
            self.k = min(max(self.k + more, 1), self.map.similarity.shape[0])
            self._align()
            self.refresh_panel()

    def figure_options(self) -> dict[str, Any]:
        """How an exported figure is to be drawn, so that it looks like the screen."""
        style = self.heatmap.cell_style
        return {
            "palette": style.palette,
            "alignment": self.heatmap.curve_shown,
            "k": self.k,
            "low": style.low,
            "high": style.high,
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
        return repr(float(self.map.similarity[row, column])), readout.place(self.map, row, column)


def cell_lines(
    panel: DetailsPanel,
    cka: SimilarityMap,
    row: int,
    column: int,
    cell: list[tuple[str, str]],
    ascii_only: bool,
) -> list[Line]:
    """The panel's lines for one cell."""
    width = min(max(panel.size.width - readout.LABEL_WIDTH, 1), SPARK_WIDTH)
    across = readout.spark_levels(cka.similarity[row], width)
    down = readout.spark_levels(cka.similarity[:, column], width)
    extra = readout.diagnostics(cka, row, column)
    lines = [
        panel.heading(clean(cka.y_label)),
        panel.pair("  row", str(cka.y_layers[row])),
        panel.heading(clean(cka.x_label)),
        panel.pair("  column", str(cka.x_layers[column])),
        [],
        *panel.details((*cell, *extra)),
        [],
        panel.profile("row", across, ascii_only),
        panel.profile("column", down, ascii_only),
    ]
    if panel.is_wide:
        return [*lines, *in_words(panel, cka, panel.size.height - len(lines))]
    if cka.warnings:
        lines += [[], panel.pair("warnings", "")]
        lines += panel.sentences([clean(warning) for warning in cka.warnings])
    return lines


def in_words(panel: DetailsPanel, cka: SimilarityMap, room: int) -> list[Line]:
    """What the map is over, its warnings, and, where so many lines hold it, why they matter."""
    from engramcka.tui.explained import made_of, why

    over: list[Line] = [[], *panel.sentences([made_of(cka)], "label")]
    short, whole = list(over), list(over)
    for warning in cka.warnings:
        sentence: list[Line] = [[], *panel.sentences([clean(warning)])]
        short += sentence
        reason = why(warning)
        whole += [*sentence, *panel.sentences([reason] if reason else [], "label")]
    return whole if len(whole) <= room else short


def cell_line(
    cka: SimilarityMap, row: int, column: int, cell: list[tuple[str, str]], width: int
) -> Line:
    """The same in one line: layers, value, interval, then what else fits whole."""
    (_, value), *others = cell
    known = dict(others)
    layers = f"row {cka.y_layers[row]:>2} col {cka.x_layers[column]:>2}"
    interval = known.pop("95 %", "")
    aligned = next(text for label, text in known.items() if label.startswith("a_"))
    groups: list[Line] = [[(f"{layers}  ", "label"), (f"{value:<6} ", "value")]]
    if interval:
        groups.append([(f"{interval:<10}  ", "label")])
    layer, _, highest = aligned.partition("max")
    groups.append([(f"a {layer:<9}", "label")])
    if highest:
        groups.append([(f"max{highest:<3}", "label")])
    if "null" in known:
        groups.append([(f"  null {known['null']}", "label")])
    if cka.warnings:
        groups.append([(f"  {count(len(cka.warnings), 'warning')}", "warning")])
    return whole(groups, width)
