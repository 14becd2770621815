"""What is known about the cell under the cursor, beside the map or in one line below it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from rich.segment import Segment

from engramcka import palettes
from engramcka.results import CkaMap
from engramcka.tui import readout
from engramcka.tui.terminal import clean, fixed
from engramcka.tui.widgets.canvas import Canvas

_SPARKS = " ▁▂▃▄▅▆▇█"


Line = list[tuple[str, str]]
"""Texts with their parts: label, value, mark or warning."""


class Readout(Canvas):
    """Lines of text in a few colours."""

    COMPONENT_CLASSES = {"readout--label", "readout--value", "readout--mark", "readout--warning"}

    DEFAULT_CSS = """
    Readout > .readout--label { color: $foreground 60%; }
    Readout > .readout--value { color: $foreground; }
    Readout > .readout--mark { color: $accent; }
    Readout > .readout--warning { color: $warning; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: list[Line] = []

    def set_lines(self, lines: list[Line]) -> None:
        """Show these lines; only what differs is redrawn."""
        pairs = enumerate(zip_longest(self._lines, lines))
        changed = [y for y, (before, after) in pairs if before != after]
        first, self._lines = not self._lines, lines
        if first:
            self.change()
            return
        for y in changed:
            if y < self.size.height:
                self.change_line(y)

    def draw_line(self, y: int) -> list[Segment]:
        """Line ``y`` of those set."""
        if y >= len(self._lines):
            return []
        return [Segment(text, self.part_style(f"readout--{part}")) for text, part in self._lines[y]]


LABEL_WIDTH = 9
SPARK_WIDTH = 12


class CellPanel(Readout):
    """The panel beside the map."""

    PARTS = ((0, LABEL_WIDTH),)

    def pair(self, label: str, value: str) -> Line:
        """A label and its value."""
        room = max(0, self.size.width - LABEL_WIDTH)
        return [
            (fixed(label, LABEL_WIDTH), "label"),
            (fixed(value, room), "value"),
        ]

    def heading(self, text: str) -> Line:
        """A model's name, over the whole width."""
        return [(fixed(text, self.size.width), "label")]

    def details(self, details: Iterable[tuple[str, str | None]]) -> list[Line]:
        """(label, value) as lines; a heading where the value is None, blank without a label."""
        return [
            self.pair(label, value) if value is not None else self.heading(label) if label else []
            for label, value in details
        ]

    def profile(self, label: str, heights: Sequence[int], ascii_only: bool) -> Line:
        """A sparkline of a row or a column."""
        shades = palettes.ASCII_SHADES if ascii_only else _SPARKS
        return self.pair(label, "".join(shades[height] for height in heights))

    def sentences(self, sentences: Sequence[str]) -> list[Line]:
        """Warnings, wrapped to the panel."""
        width = max(8, self.size.width)
        lines = [
            line
            for sentence in sentences
            for line in textwrap.wrap(sentence, width, subsequent_indent=" ") or [""]
        ]
        return [[(line, "warning")] for line in lines]


def cell_lines(
    panel: CellPanel,
    cka: CkaMap,
    row: int,
    column: int,
    cell: list[tuple[str, str]],
    ascii_only: bool,
) -> list[Line]:
    """The panel's lines for one cell."""
    width = min(max(panel.size.width - LABEL_WIDTH, 1), SPARK_WIDTH)
    across = readout.spark_levels(cka.similarity[row], width)
    down = readout.spark_levels(cka.similarity[:, column], width)
    extra = readout.diagnostics(cka, row, column)
    lines = [
        panel.heading(clean(cka.y_label)),
        panel.pair("  row", str(cka.y_layers[row])),
        panel.heading(clean(cka.x_label)),
        panel.pair("  column", str(cka.x_layers[column])),
        [],
        *(panel.pair(label, value) for label, value in (*cell, *extra)),
        [],
        panel.profile("row", across, ascii_only),
        panel.profile("column", down, ascii_only),
    ]
    if cka.warnings:
        lines += [[], panel.pair("warnings", "")]
        lines += panel.sentences([clean(warning) for warning in cka.warnings])
    return lines


def cell_line(cka: CkaMap, row: int, column: int, cell: list[tuple[str, str]]) -> Line:
    """The same in one line: layers, value, interval, then what else fits."""
    known = dict(cell)
    layers = f"row {cka.y_layers[row]:>2} col {cka.x_layers[column]:>2}"
    value, interval = known.pop("CKA"), known.pop("95 %", "")
    aligned = next(text for label, text in known.items() if label.startswith("a_"))
    null = f"  null {known['null']}" if "null" in known else ""
    warned = f"  {len(cka.warnings)} warnings" if cka.warnings else ""
    return [
        (f"{layers}  ", "label"),
        (f"{value:<6} ", "value"),
        (f"{interval:<10}  " if interval else "", "label"),
        (f"a {aligned:<15}{null}", "label"),
        (warned, "warning"),
    ]
