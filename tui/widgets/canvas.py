"""A widget drawn line by line, that keeps its lines and sends only the cells that changed.

And a field of characters that curves are drawn on: braille dots, lines, points and labels.
"""

from __future__ import annotations

from itertools import groupby
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

Line = list[tuple[str, str]]
"""A line as texts with their parts; a part names a component class, "" the ground."""

_GAP = 6  # characters that stay are sent again where fewer lie between two that change
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # braille dots by column, then row


class Canvas(Widget):
    """Base of widgets that are lines of segments: implement `draw_line`, call `change`."""

    DEFAULT_CSS = "Canvas { width: 1fr; height: 1fr; layout: horizontal; }"

    ALLOW_SELECT = False

    PARTS: ClassVar[tuple[tuple[int, int], ...]] = ()
    """(characters to the left, width) of the parts of a line, see `CanvasPart`."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._part_styles: dict[str, Style] = {}
        self._strips: dict[int, Strip] = {}

    def draw_line(self, y: int) -> list[Segment]:
        """The segments of line ``y``; the rest of the line is filled with the ground."""
        raise NotImplementedError

    def on_resize(self) -> None:
        """Draw all lines again at the new size."""
        self.change()

    def notify_style_update(self) -> None:
        """Colours of the theme are in the lines: draw them again."""
        super().notify_style_update()
        self._part_styles.clear()
        self.change()

    @property
    def base_style(self) -> Style:
        """The style of characters that have none of their own."""
        return self.part_style("")

    def part_style(self, name: str) -> Style:
        """The style of a component class; asking the style sheet is slow, so only once."""
        found = self._part_styles.get(name)
        if found is None:
            found = self.get_component_rich_style(name) if name else self.rich_style
            self._part_styles[name] = found
        return found

    def part_segments(self, line: Line, prefix: str) -> list[Segment]:
        """A line's texts in the colours of the component classes PREFIX--PART."""
        return [
            Segment(text, self.part_style(f"{prefix}--{part}")) if part else Segment(text)
            for text, part in line
        ]

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines in the region: nothing is around them, and they are kept already."""
        lines = (self.strip(y) for y in range(crop.y, crop.bottom))
        return [line.crop(crop.x, crop.right).adjust_cell_length(crop.width) for line in lines]

    def strip(self, y: int) -> Strip:
        """Line ``y`` of the whole canvas; one object while nothing changes."""
        found = self._strips.get(y)
        if found is None:
            base = self.base_style
            segments = [
                Segment(text, base if style is None else base + style)
                for text, style, _ in self.draw_line(y)
            ]
            width = max(self.size.width, 1)
            found = Strip(segments).adjust_cell_length(width, base).simplify()
            for line_filter in self.app.get_line_filters():
                found = found.apply_filter(line_filter, self.background_colors[1])
            self._strips[y] = found
        return found

    def change(self) -> None:
        """Draw all lines again: what they show has changed."""
        self._strips.clear()
        self.refresh()

    def change_line(self, y: int) -> None:
        """Line ``y`` may have changed: send the cells that did."""
        before = self._strips.pop(y, None)
        if before is None:
            self.refresh(Region(0, y, self.size.width, 1))
            return
        for first, last in differing(before, self.strip(y)):
            self.refresh(Region(first, y, last + 1 - first, 1))
            if self.PARTS and not self.children:  # not for the first frame, which they would delay
                self.mount(*(CanvasPart(self, gap, width) for gap, width in self.PARTS))


class CanvasPart(Widget):
    """Some characters of every line of a canvas, drawn as the canvas draws them.

    Of a line, Textual sends all from where a widget begins to the last cell that changed. With
    parts in a canvas that is not the whole line.
    """

    DEFAULT_CSS = "CanvasPart { height: 1fr; }"

    ALLOW_SELECT = False

    def __init__(self, canvas: Canvas, gap: int, width: int) -> None:
        super().__init__()
        self._canvas = canvas
        self.styles.width, self.styles.margin = width, (0, 0, 0, gap)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The canvas's lines where this part is."""
        return self._canvas.render_lines(crop.translate(self.virtual_region.offset))


def differing(before: Strip, after: Strip) -> list[tuple[int, int]]:
    """(first, last) of the cells that differ, with those that lie close together in one."""
    old, new = (_cells(strip) for strip in (before, after))
    width = max(before.cell_length, after.cell_length)
    if len(old) != width or len(new) != width:  # a character of two cells, or of none
        return [] if before == after else [(0, width - 1)]
    found: list[tuple[int, int]] = []
    for x in (x for x in range(width) if old[x] != new[x]):
        if found and x - found[-1][1] <= _GAP:
            found[-1] = (found[-1][0], x)
        else:
            found.append((x, x))
    return found


def _cells(strip: Strip) -> list[tuple[str, Style | None]]:
    return [(character, style) for text, style, _ in strip for character in text]


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
