"""A field of characters to draw curves on: braille dots, lines, points and labels.

Pure; each character has a part ("curve", "axis", ..) that says how it is coloured.
"""

from __future__ import annotations

from itertools import groupby

from rich.cells import cell_len

_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # braille dots by column, then row


class CharacterGrid:
    """width x height characters; dots are 2 x 4 a character, counted from the upper left."""

    def __init__(self, width: int, height: int, ascii_only: bool = False) -> None:
        self.width, self.height, self.ascii_only = width, height, ascii_only
        self._cells: list[list[tuple[str, str]]] = [[(" ", "")] * width for _ in range(height)]
        self._dots: dict[tuple[int, int], tuple[int, str]] = {}

    def text(self, x: int, y: int, text: str, part: str, *, under: bool = False) -> None:
        """Write a text, cut off at the edges; ``under`` what is there already.

        A wide character takes two places.
        """
        if not 0 <= y < self.height:
            return
        for character in text:
            width = cell_len(character)
            inside = x >= 0 and x + width <= self.width
            if width and inside and not (under and not self.free(x, y, width)):
                self._cells[y][x] = (character, part)
                for more in range(1, width):
                    self._cells[y][x + more] = ("", part)
            x += width

    def free(self, x: int, y: int, width: int) -> bool:
        """Whether these characters are inside and blank."""
        inside = 0 <= y < self.height and x >= 0 and x + width <= self.width
        return inside and all(
            cell[0] == " " and (at, y) not in self._dots
            for at, cell in enumerate(self._cells[y][x : x + width], x)
        )

    def dot(self, x: int, y: int, part: str) -> None:
        """Set one dot; a later part takes the whole character's colour."""
        if 0 <= x < 2 * self.width and 0 <= y < 4 * self.height:
            key = (x // 2, y // 4)
            bits = self._dots.get(key, (0, ""))[0]
            self._dots[key] = (bits | _BITS[x % 2][y % 4], part)

    def line(self, x0: float, y0: float, x1: float, y1: float, part: str) -> None:
        """A straight line between two places in dots."""
        steps = max(1, int(max(abs(x1 - x0), abs(y1 - y0)) + 0.5))
        for i in range(steps + 1):
            t = i / steps
            self.dot(round(x0 + (x1 - x0) * t), round(y0 + (y1 - y0) * t), part)

    def lines(self) -> list[list[tuple[str, str]]]:
        """Every line as runs of (text, part); dots show where no text stands."""
        merged = []
        for y, row in enumerate(self._cells):
            cells = [self._shown(x, y, cell) for x, cell in enumerate(row)]
            runs = groupby(cells, key=lambda cell: cell[1])
            merged.append([("".join(text for text, _ in run), part) for part, run in runs])
        return merged

    def _shown(self, x: int, y: int, cell: tuple[str, str]) -> tuple[str, str]:
        if cell[0] != " " or (x, y) not in self._dots:
            return cell
        bits, part = self._dots[x, y]
        return ("." if self.ascii_only else chr(0x2800 + bits)), part
