"""What is known about the cell under the cursor, beside the map or in one line below it.

Labels and values are cut apart, so that a move of the cursor sends the values only.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.segment import Segment

from engramcka import palettes
from engramcka.tui.terminal import fixed
from engramcka.tui.widgets.canvas import Canvas

_SPARKS = " ▁▂▃▄▅▆▇█"


class Readout(Canvas):
    """Lines of text whose changed characters alone are sent."""

    COMPONENT_CLASSES = {"readout--label", "readout--value", "readout--mark", "readout--warning"}

    DEFAULT_CSS = """
    Readout > .readout--label { color: $foreground 60%; }
    Readout > .readout--value { color: $foreground; }
    Readout > .readout--mark { color: $accent; }
    Readout > .readout--warning { color: $warning; }
    """

    def __init__(self, *, cuts: Sequence[int], id: str | None = None) -> None:
        super().__init__(cuts=cuts, id=id)
        self._lines: list[list[Segment]] = []

    def styled(self, text: str, part: str) -> Segment:
        """A text in the style of a part: label, value, mark or warning."""
        return Segment(text, self.get_component_rich_style(f"readout--{part}"))

    def set_lines(self, lines: list[list[Segment]]) -> None:
        """Show these lines; only what differs is redrawn."""
        longest = max(len(lines), len(self._lines))
        self._lines = lines
        for y in range(min(longest, self.size.height)):
            self.change_line(y)

    def draw_line(self, y: int) -> list[Segment]:
        """Line ``y`` of those set."""
        return self._lines[y] if y < len(self._lines) else []


LABEL_WIDTH = 8


class CellPanel(Readout):
    """The panel beside the map."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(cuts=[LABEL_WIDTH], id=id)

    def pair(self, label: str, value: str) -> list[Segment]:
        """A label and its value."""
        room = max(0, self.size.width - LABEL_WIDTH)
        return [
            self.styled(fixed(label, LABEL_WIDTH), "label"),
            self.styled(fixed(value, room), "value"),
        ]

    def heading(self, text: str) -> list[Segment]:
        """A model's name, over the whole width."""
        return [self.styled(fixed(text, self.size.width), "label")]

    def profile(self, heights: Sequence[int], at: int, ascii_only: bool) -> list[Segment]:
        """A sparkline with the cursor's place in it marked."""
        shades = palettes.ASCII_SHADES
        marks = [shades[h] for h in heights] if ascii_only else [_SPARKS[h] for h in heights]
        if ascii_only:
            marks[at] = "|"
        elif marks[at] == " ":
            marks[at] = "▁"
        return [
            self.styled("".join(marks[:at]), "label"),
            self.styled(marks[at], "mark"),
            self.styled("".join(marks[at + 1 :]), "label"),
        ]

    def sentences(self, sentences: Sequence[str]) -> list[list[Segment]]:
        """Warnings, wrapped to the panel."""
        width = max(8, self.size.width)
        lines = [
            line
            for sentence in sentences
            for line in textwrap.wrap(sentence, width, subsequent_indent=" ") or [""]
        ]
        return [[self.styled(line, "warning")] for line in lines]
