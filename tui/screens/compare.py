"""Two maps with one cursor: side by side, or their difference cell by cell."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from engramcka import palettes
from engramcka.plain_text import clean
from engramcka.results import SimilarityMap
from engramcka.tui import readout
from engramcka.tui.exporting import ExportPart
from engramcka.tui.screens.views import HeatmapsView, usual_cell_style
from engramcka.tui.terminal import Capabilities
from engramcka.tui.titles import APART
from engramcka.tui.widgets.cells import CellStyle
from engramcka.tui.widgets.heatmap import Heatmap, matrix_of
from engramcka.tui.widgets.key_bar import Shortcut
from engramcka.tui.widgets.panel import TextLines, whole

_NARROW = 44  # characters below which the line has single blanks


@dataclass(frozen=True)
class MapPair:
    """Two maps and what they are called."""

    first: SimilarityMap
    second: SimilarityMap
    first_name: str
    second_name: str

    @property
    def obstacle(self) -> str:
        """Why the two cannot be subtracted; "" where they can."""
        for side in ("y", "x"):
            one, other = (getattr(m, f"{side}_layers") for m in (self.first, self.second))
            if one != other:
                return (
                    f"The difference needs maps of the same layers: on the {side} axis one has "
                    f"{one[0]} to {one[-1]} ({len(one)}), the other {other[0]} to {other[-1]} "
                    f"({len(other)})."
                )
        return ""

    @property
    def difference(self) -> SimilarityMap:
        """The first minus the second, cell by cell; only where there is no `obstacle`."""
        first = self.first
        return SimilarityMap(
            first.similarity - self.second.similarity,
            measure=first.measure if first.measure == self.second.measure else "unknown",
            y_layers=first.y_layers,
            x_layers=first.x_layers,
            y_label=first.y_label,
            x_label=first.x_label,
        )


def colour_limit(difference: np.ndarray) -> float:
    """End of the colour range: the largest difference, up to its first digit; 1 where none is."""
    finite = np.abs(difference[np.isfinite(difference)])
    largest = float(finite.max()) if len(finite) else 0.0
    if largest < 1e-12:
        return 1.0
    power = 10.0 ** np.floor(np.log10(largest))
    return float(f"{np.ceil(largest / power - 1e-9) * power:.1g}")


class CompareView(HeatmapsView):
    """The screen of two maps."""

    DEFAULT_CSS = """
    CompareView { layout: vertical; }
    CompareView #pair { height: 1fr; }
    CompareView Vertical { width: 1fr; }
    CompareView .name { height: 1; padding: 0 1; color: $foreground 60%; text-wrap: nowrap;
        text-overflow: ellipsis; }
    CompareView #pair-line { height: 1; }
    """

    BINDINGS = [
        Shortcut("enter", "screen.samples", "Samples", key_display="enter"),
        Shortcut("d", "difference", "Difference"),
        Shortcut("escape", "screen.leave_compare", "One map"),
    ]

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.capabilities = capabilities
        self.pair: MapPair | None = None
        self.subtracted = False

    def compose(self) -> ComposeResult:
        """Three heatmaps, of which one or two are shown, and the readout."""
        with Horizontal(id="pair"):
            for part in ("first", "second", "apart"):
                with Vertical(id=f"{part}-side"):
                    yield Static("", id=f"{part}-name", classes="name", markup=False)
                    heatmap = Heatmap(id=part)
                    heatmap.cell_style = usual_cell_style(self.capabilities, palettes.PALETTES[0])
                    yield heatmap
        yield TextLines(id="pair-line")

    def heatmap(self, part: str) -> Heatmap:
        """The heatmap of the "first" map, the "second" or their difference, "apart"."""
        return self.query_one(f"#{part}", Heatmap)

    def show(self, pair: MapPair, style: CellStyle, cursor: tuple[int, int]) -> None:
        """Show two maps side by side, drawn like the single one, the cursor on its cell."""
        self.pair = pair
        for part, cka, name in (
            ("first", pair.first, f"A  {pair.first_name}"),
            ("second", pair.second, f"B  {pair.second_name}"),
        ):
            self.query_one(f"#{part}-name", Static).update(clean(name))
            self.heatmap(part).cell_style = style
            aligned = cka.soft_alignment()
            self.heatmap(part).show(matrix_of(cka.similarity, cka.y_layers, cka.x_layers, aligned))
        if pair.obstacle:
            self.subtracted = False
        else:
            self._subtract(pair)
        self._arrange_sides()
        self.put_cursor(*cursor)
        self.refresh_panel()

    def _subtract(self, pair: MapPair) -> None:
        apart = pair.difference.similarity
        end = colour_limit(apart)
        heatmap = self.heatmap("apart")
        usual = usual_cell_style(self.capabilities, "diverging")
        mode = usual.mode if usual.mode == "half" else "digits"
        heatmap.cell_style = replace(usual, low=-end, high=end, mode=mode, signed=True)
        heatmap.show(matrix_of(apart, pair.first.y_layers, pair.first.x_layers))
        self.query_one("#apart-name", Static).update("A − B")

    def _arrange_sides(self) -> None:
        self.query_one("#first-side").display = not self.subtracted
        self.query_one("#second-side").display = not self.subtracted
        self.query_one("#apart-side").display = self.subtracted

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the first map."""
        return self.pair.first.similarity.shape if self.pair else (1, 1)

    @property
    def cursor(self) -> tuple[int, int]:
        """The cell of the first map."""
        return self.heatmap("first").cursor

    def move_cursor(self, row: int, column: int) -> None:
        """Put the cursor on a cell of the first map, and on the same layers of the second."""
        if self.pair is None:
            return
        self.heatmap("first").move(row, column)
        self.heatmap("second").move(*self._in_second(row, column)[:2])
        if not self.pair.obstacle:
            self.heatmap("apart").move(row, column)
        self.refresh_panel()

    @property
    def cells(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """(row, column) of the cell in either map; None where the second has no such layers."""
        second_row, second_column, there = self._in_second(*self.cursor)
        return (self.cursor, (second_row, second_column)) if there else None

    def _in_second(self, row: int, column: int) -> tuple[int, int, bool]:
        """(row, column, whether it has these layers) of the second map."""
        assert self.pair is not None
        places, there = [], True
        for side, index in (("y", row), ("x", column)):
            layer = getattr(self.pair.first, f"{side}_layers")[index]
            layers = getattr(self.pair.second, f"{side}_layers")
            there = there and layer in layers
            places.append(min(range(len(layers)), key=lambda i: abs(layers[i] - layer)))
        return places[0], places[1], there

    def refresh_panel(self) -> None:
        """Tell the two values under the cursor and their difference."""
        if self.pair is None:
            return
        line = self.query_one("#pair-line", TextLines)
        row, column = self.cursor
        second_row, second_column, there = self._in_second(row, column)
        one = self.pair.first.similarity[row, column]
        other = self.pair.second.similarity[second_row, second_column] if there else np.nan
        first, second = self.pair.first, self.pair.second
        intervals = [readout.interval(first, row, column) or ""]
        intervals.append(readout.interval(second, second_row, second_column) or "" if there else "")
        layers = f"row {first.y_layers[row]:>2} col {first.x_layers[column]:>2}"
        apart = readout.signed(float(one - other), 3)
        width = line.size.width or self.app.size.width
        gap = " " if width < _NARROW else "  "
        groups = [
            [(f"{layers}{gap}", "label")],
            [("A ", "label"), (f"{readout.decimals(float(one)):<5}{gap}", "value")],
            [("B ", "label"), (f"{readout.decimals(float(other)):<5}{gap}", "value")],
            [(f"{APART} ", "label"), (f"{apart:<8}", "mark")],
            *([(f"{interval}  ", "label")] for interval in intervals),
        ]
        line.set_lines([whole(groups, width)])

    def on_resize(self) -> None:
        """The line depends on the width."""
        self.call_after_refresh(self.refresh_panel)

    def copied(self, what: str) -> tuple[str, str]:
        """(text, what it is) of the difference, or of both maps side by side."""
        assert self.pair is not None
        row, column = self.cursor
        if self.subtracted:
            apart = self.pair.difference
            if what == "table":
                return readout.table(apart), f"{APART} as a table"
            if what == "row":
                return readout.row_table(apart, row), f"{APART} row {apart.y_layers[row]}"
            value = repr(float(apart.similarity[row, column]))
            return value, f"{APART} {readout.place(apart, row, column)}"
        first, second = self.pair.first, self.pair.second
        if what == "table":
            return f"{readout.table(first)}\n{readout.table(second)}", "A and B as tables"
        second_row, second_column, there = self._in_second(row, column)
        name = readout.place(first, row, column)
        if what == "row":
            one = readout.row_table(first, row)
            layer = first.y_layers[row]
            if layer not in second.y_layers:
                return one, f"A row {layer}; B has no such layer"
            return f"{one}\n{readout.row_table(second, second_row)}", f"A and B row {layer}"
        value = repr(float(first.similarity[row, column]))
        if not there:
            return value, f"A {name}; B has no such layers"
        other = float(second.similarity[second_row, second_column])
        return f"{value}\t{other!r}", f"A and B {name}"

    def parts(self, options: dict[str, Any]) -> tuple[ExportPart, ...]:
        """Both maps, and the difference where there is one; the one on the screen first."""
        assert self.pair is not None
        maps = (self.pair.first, self.pair.second)
        shared = {name: options[name] for name in ("palette", "alignment", "low", "high")}
        names = (self.pair.first_name, self.pair.second_name)
        one, other = (re.sub(r"[\s/]+", "-", name).strip("-") for name in names)
        beside = ExportPart(
            "side by side", f"cka-{one}-and-{other}", maps, {**shared, "titles": names}, "panels"
        )
        if self.pair.obstacle:
            return (beside,)
        apart = ExportPart("difference", f"cka-{one}-minus-{other}", maps, {}, "difference")
        return (apart, beside) if self.subtracted else (beside, apart)

    def action_difference(self) -> None:
        """Side by side, or the difference."""
        if self.pair is None:
            return
        if self.pair.obstacle:
            self.app.notify(self.pair.obstacle, severity="warning", markup=False)
            return
        self.subtracted = not self.subtracted
        self._arrange_sides()

    def action_palette(self) -> None:
        """The next palette, in both maps."""
        names = palettes.PALETTES
        for part in ("first", "second"):
            style = self.heatmap(part).cell_style
            following = names[(names.index(style.palette) + 1) % len(names)]
            self.heatmap(part).set_cell_style(replace(style, palette=following))
