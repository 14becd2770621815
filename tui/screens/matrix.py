"""A matrix of models: a cell a pair, whose map enter opens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from textual.app import ComposeResult

from engramcka import palettes
from engramcka.plain_text import clean
from engramcka.results import ModelMatrix
from engramcka.tui.charts import matrix
from engramcka.tui.screens.views import HeatmapsView, PanelView, usual_cell_style
from engramcka.tui.terminal import Capabilities, fitting
from engramcka.tui.widgets.canvas import Line
from engramcka.tui.widgets.heatmap import Heatmap, matrix_of
from engramcka.tui.widgets.key_bar import Shortcut
from engramcka.tui.widgets.panel import DetailsPanel


class MatrixView(PanelView, HeatmapsView):
    """The screen of one matrix; rows from the top down and columns are in the order of its tree."""

    BINDINGS = [
        Shortcut("enter", "screen.pair", "Map", key_display="enter"),
        Shortcut("m", "nearest", "Most alike"),
    ]

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(capabilities, id=id)
        self.found: ModelMatrix | None = None
        self.heatmap = Heatmap(id="matrix-cells")
        self.heatmap.cell_style = usual_cell_style(capabilities, palettes.PALETTES[0], "digits")

    def compose_result(self) -> ComposeResult:
        """The widget that draws the cells."""
        yield self.heatmap

    def show(self, found: ModelMatrix) -> None:
        """Show a matrix; the cursor stays where it is if there is such a cell."""
        first, self.found = self.found is None, found
        self.warnings = [clean(warning) for warning in found.warnings]
        numbers = range(1, len(found.labels) + 1)
        self.heatmap.show(matrix_of(matrix.ordered(found), numbers[::-1], numbers))
        if first:
            self.put_cursor(len(found.labels) - 1, 1)
        self.refresh_panel()

    @property
    def models(self) -> tuple[int, int]:
        """The two models under the cursor, as places in the result."""
        assert self.found is not None
        return matrix.models_at(self.found, *self.cursor)

    @property
    def map_shown(self) -> str:
        """KIND/NAME of the map of the pair under the cursor; "" where there is none."""
        return "" if self.found is None else matrix.map_of(self.found, self.models)

    def panel_lines(self, panel: DetailsPanel) -> list[Line]:
        """What is known of the pair under the cursor."""
        if self.found is None:
            return []
        return panel.details(matrix.pair_details(self.found, self.models))

    def short_line(self, width: int) -> Line:
        """As much of it as fits."""
        if self.found is None:
            return []
        return [(fitting(matrix.pair_summary(self.found, self.models), width), "value")]

    @property
    def shape(self) -> tuple[int, int]:
        """Models both ways."""
        return self.found.similarity.shape if self.found is not None else (1, 1)

    @property
    def cursor(self) -> tuple[int, int]:
        """The cell under the cursor."""
        return self.heatmap.cursor

    def move_cursor(self, row: int, column: int) -> None:
        """Put the cursor on a cell."""
        self.heatmap.move(row, column)
        self.refresh_panel()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A matrix has no alignment."""
        return action != "alignment"

    def action_nearest(self) -> None:
        """Move the cursor to the model that the column's is most alike to."""
        if self.found is None:
            return
        column = self.cursor[1]
        values = matrix.ordered(self.found)[:, column].copy()
        values[len(values) - 1 - column] = np.nan  # itself
        if np.isfinite(values).any():
            self.put_cursor(int(np.nanargmax(values)), column)

    def action_palette(self) -> None:
        """Draw in the next palette."""
        style, names = self.heatmap.cell_style, list(palettes.PALETTES)
        following = names[(names.index(style.palette) + 1) % len(names)]
        self.heatmap.set_cell_style(replace(style, palette=following))

    def figure_input(self) -> tuple[Any, dict[str, Any]]:
        """What an exported figure draws, and its options."""
        return self.found, {"palette": self.heatmap.cell_style.palette}

    def copied(self, what: str) -> tuple[str, str]:
        """(text, what it is) of the value, row or table to copy."""
        assert self.found is not None
        row, column = self.models
        if what == "table":
            return matrix.table(self.found), "all pairs as a table"
        if what == "row":
            return matrix.table(self.found, row), f"the pairs of {clean(self.found.labels[row])}"
        names = " and ".join(clean(self.found.labels[one]) for one in (row, column))
        return repr(float(self.found.similarity[row, column])), f"similarity of {names}"
