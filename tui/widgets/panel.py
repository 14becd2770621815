"""Lines of text in a few colours, and the panel with the details of what is under the cursor."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.segment import Segment

from engramcka import palettes
from engramcka.tui import readout
from engramcka.tui.readout import LABEL_WIDTH
from engramcka.tui.terminal import fixed
from engramcka.tui.widgets.canvas import Canvas, Line

SPARKS = " ▁▂▃▄▅▆▇█"

SPARK_WIDTH = 12
WIDE = 36  # characters of a panel that has room for whole sentences
_BELOW = "  "  # before a value that stands below its label


def whole(groups: Iterable[Line], width: int) -> Line:
    """Of groups of texts those that fit into so many characters: a number cut off would be read as
    another."""
    line: Line = []
    used = 0
    for group in groups:
        text = "".join(part for part, _ in group)
        if used + cell_len(text.rstrip()) <= width:
            line += group
            used += cell_len(text)
    return line


class TextLines(Canvas):
    """Lines of text whose parts are label, value, mark or warning."""

    COMPONENT_CLASSES = {"text--label", "text--value", "text--mark", "text--warning"}

    DEFAULT_CSS = """
    TextLines > .text--label { color: $foreground 60%; }
    TextLines > .text--value { color: $foreground; }
    TextLines > .text--mark { color: $accent; }
    TextLines > .text--warning { color: $warning; }
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
        return self.part_segments(self._lines[y], "text")


class DetailsPanel(TextLines):
    """The panel beside a result: labels with values, headings, sentences."""

    PARTS = ((0, LABEL_WIDTH),)

    def pair(self, label: str, value: str) -> Line:
        """A label and its value; a value too long for its column begins right after the label."""
        width = self.size.width
        column = max(min(LABEL_WIDTH, width - cell_len(value)), cell_len(label) + 1)
        column = min(column, LABEL_WIDTH)
        return [
            (fixed(label, column), "label"),
            (fixed(value, max(0, width - column)), "value"),
        ]

    def heading(self, text: str) -> Line:
        """A model's name, over the whole width."""
        return [(fixed(text, self.size.width), "label")]

    def details(self, details: Iterable[tuple[str, str | None]]) -> list[Line]:
        """(label, value) as lines; a heading where the value is None, blank without a label.

        A value that has no room beside its label stands below it, so that no number is cut.
        """
        lines: list[Line] = []
        for label, value in details:
            if value is None:
                lines.append(self.heading(label) if label else [])
            elif cell_len(value) <= max(0, self.size.width - LABEL_WIDTH):
                lines.append(self.pair(label, value))
            else:
                below = fixed(value, max(0, self.size.width - len(_BELOW)))
                lines += [self.pair(label, ""), [(_BELOW, "label"), (below, "value")]]
        return lines

    def profile(self, label: str, heights: Sequence[int], ascii_only: bool) -> Line:
        """A sparkline of a row or a column."""
        shades = palettes.ASCII_SHADES if ascii_only else SPARKS
        marks = {readout.NEGATIVE: "\N{MINUS SIGN}", readout.MISSING: "?"}
        return self.pair(label, "".join(marks.get(h) or shades[h] for h in heights))

    @property
    def is_wide(self) -> bool:
        """Whether there is room for whole sentences."""
        return self.size.width >= WIDE

    def sentences(self, sentences: Iterable[str], part: str = "warning") -> list[Line]:
        """Warnings or other sentences, wrapped to the panel."""
        width = max(8, self.size.width)
        lines = [
            line
            for sentence in sentences
            for line in textwrap.wrap(sentence, width, subsequent_indent=" ") or [""]
        ]
        return [[(line, part)] for line in lines]
