"""A text token by token on grounds coloured by a value a token.

`lay_out` and `token_line` are pure; without colours a line of shades stands below the text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message

from engramcka import palettes
from engramcka.tui.widgets.canvas import Canvas
from engramcka.tui.widgets.cells import ink_on, key_colours, levels, shade


@dataclass(frozen=True)
class PlacedToken:
    """One token on its line."""

    index: int
    x: int
    text: str
    width: int  # terminal cells


def visible(token: str) -> str:
    """A token as it is shown: no control characters, never empty."""
    shown = []
    for character in token:
        category = unicodedata.category(character)
        if character == "\n":
            shown.append("⏎")
        elif character == "\t":
            shown.append("→")
        else:
            hidden = category[0] == "C" or category in ("Zl", "Zp")
            shown.append("�" if hidden else " " if category == "Zs" else character)
    text = "".join(shown)
    return text if cell_len(text) else "·"


def lay_out(tokens: Sequence[str], width: int) -> list[list[PlacedToken]]:
    """The tokens on lines of ``width`` cells; a line ends with a token that holds a new line."""
    lines: list[list[PlacedToken]] = [[]]
    x = 0
    for index, token in enumerate(tokens):
        text = visible(token)
        if cell_len(text) > width:
            text = set_cell_size(text, max(1, width - 1)) + "…"
        if x and x + cell_len(text) > width:
            lines.append([])
            x = 0
        lines[-1].append(PlacedToken(index, x, text, cell_len(text)))
        x += cell_len(text)
        if "\n" in token:
            lines.append([])
            x = 0
    return lines if lines[-1] else lines[:-1]


def token_line(
    line: Sequence[PlacedToken], keys: Sequence[int], palette: str, cursor: int
) -> list[Segment]:
    """A line of tokens on their colours; the one under the cursor underlined and reversed."""
    colours = key_colours(palette, "default")
    segments = []
    for placed in line:
        colour = colours[keys[placed.index]]
        style = Style(color=ink_on(colour), bgcolor=colour)
        if placed.index == cursor:
            style += Style(bold=True, underline=True, reverse=True)
        segments.append(Segment(placed.text, style))
    return segments


def plain_line(line: Sequence[PlacedToken], cursor: int) -> list[Segment]:
    """A line of tokens without colours, for terminals that have none."""
    reverse = Style(reverse=True)
    return [Segment(p.text, reverse if p.index == cursor else None) for p in line]


def shade_line(line: Sequence[PlacedToken], keys: Sequence[int], shades: str) -> list[Segment]:
    """Shades under the tokens of a line."""
    return [Segment(shade(keys[p.index], p.width, shades)) for p in line]


class TokenView(Canvas):
    """The text with a cursor on its tokens; it scrolls so that the cursor is seen."""

    @dataclass
    class TokenMoved(Message):
        """The cursor was put on a token with the mouse."""

        index: int

    def __init__(self, *, coloured: bool, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self.coloured, self.ascii_only = coloured, ascii_only
        self.palette = palettes.PALETTES[0]
        self.cursor = 0
        self._tokens: tuple[str, ...] = ()
        self._keys: list[int] = []
        self._lines: list[list[PlacedToken]] = []
        self._top = 0  # line at the top

    def show(self, tokens: tuple[str, ...], values: npt.NDArray[np.float64]) -> None:
        """Show these tokens, coloured by their values from 0 to 1."""
        self._tokens = tokens
        self._keys = levels(values, 0.0, 1.0).tolist()
        self.cursor = max(0, min(self.cursor, len(tokens) - 1))
        self.change()

    @property
    def _tall(self) -> int:
        """Lines of the screen that a line of text takes."""
        return 1 if self.coloured else 2

    def change(self) -> None:
        """Break the tokens into lines again, after a change of width or text."""
        self._lines = lay_out(self._tokens, max(8, self.size.width - 1))
        self._reveal()
        super().change()

    def line_of(self, index: int) -> int:
        """The line that a token is on."""
        return next((y for y, line in enumerate(self._lines) if index <= line[-1].index), 0)

    def _reveal(self) -> bool:
        """Scroll to the cursor; whether anything moved."""
        shown, at = max(1, self.size.height // self._tall), self.line_of(self.cursor)
        first = min(max(self._top, at - shown + 1), at)
        first = max(0, min(first, len(self._lines) - shown))
        moved, self._top = first != self._top, first
        return moved

    def move(self, index: int) -> None:
        """Put the cursor on a token."""
        lines = {self.line_of(self.cursor), self.line_of(index)}
        self.cursor = index
        if self._reveal():
            super().change()
            return
        for line in lines:
            self.change_line((line - self._top) * self._tall)

    def beside(self, lines: int) -> int:
        """The token that many lines below the cursor's, at about the same place."""
        at = self.line_of(self.cursor)
        x = next((p.x for p in self._lines[at] if p.index == self.cursor), 0) if self._lines else 0
        target = max(0, min(at + lines, len(self._lines) - 1))
        return min(self._lines[target], key=lambda p: abs(p.x - x)).index if self._lines else 0

    def draw_line(self, y: int) -> list[Segment]:
        """One line of text, or the shades below one."""
        line, part = divmod(y, self._tall)
        line += self._top
        if line >= len(self._lines):
            return []
        placed = self._lines[line]
        if self.coloured:
            return token_line(placed, self._keys, self.palette, self.cursor)
        if part:
            shades = palettes.ASCII_SHADES if self.ascii_only else palettes.SHADES
            return shade_line(placed, self._keys, shades)
        return plain_line(placed, self.cursor)

    def on_click(self, event: events.Click) -> None:
        """A click puts the cursor on the token under it."""
        x = int(event.screen_x) - self.region.x
        line = (int(event.screen_y) - self.region.y) // self._tall + self._top
        if 0 <= line < len(self._lines):
            found = [p for p in self._lines[line] if p.x <= x < p.x + p.width]
            if found:
                self.post_message(self.TokenMoved(found[0].index))
