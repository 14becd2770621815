"""A widget drawn line by line, cut into narrow windows so that a small change costs few bytes.

Textual sends a changed line from the left edge of its widget to the right end of the change. With
the widget cut into windows a few characters wide, that is a few characters, wherever the change
is. The windows draw nothing of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget


class Window(Widget):
    """Shows the canvas from character ``start`` on."""

    DEFAULT_CSS = "Window { height: 1fr; }"

    def __init__(self, canvas: Canvas, start: int, width: int | None) -> None:
        super().__init__()
        self.styles.width = width if width is not None else "1fr"
        self._canvas, self.start = canvas, start

    def render_lines(self, crop: Region) -> list[Strip]:
        """The canvas's lines, cut to this window: no styles of its own, so nothing to cache."""
        x, width = self.start + crop.x, crop.width
        return [self._canvas.piece(y, x, width) for y in range(crop.y, crop.bottom)]


class Canvas(Horizontal):
    """Base of widgets that are lines of segments: implement `draw_line`, call `change`."""

    DEFAULT_CSS = "Canvas { height: 1fr; overflow: hidden; }"

    WINDOW = 2  # characters

    def __init__(
        self,
        *,
        cuts: Sequence[int] | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """``cuts`` are the first characters of the windows after the first; None: every 2."""
        super().__init__(id=id, classes=classes)
        self._cuts = None if cuts is None else [0, *cuts]
        self._part_styles: dict[str, Style] = {}
        self._strips: dict[int, Strip] = {}
        self._pieces: dict[int, dict[tuple[int, int], Strip]] = {}
        self._first = self.WINDOW  # width of the first window

    def draw_line(self, y: int) -> list[Segment]:
        """The segments of line ``y``; the rest of the line is filled with the ground."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """The windows."""
        yield from self._windows(0)

    def _windows(self, there: int) -> list[Window]:
        if self._cuts is not None:
            stops = [*self._cuts[1:], None]
            return [
                Window(self, start, None if stop is None else stop - start)
                for start, stop in zip(self._cuts, stops, strict=True)
            ][there:]
        guess = self.app.size.width // 2  # before the first layout; more come with the size
        needed = -(-max(self.size.width or guess, 12) // self.WINDOW)
        starts = [self._start(index) for index in range(there, needed)]
        widths = [self._first if start == 0 else self.WINDOW for start in starts]
        return [Window(self, *place) for place in zip(starts, widths, strict=True)]

    def _start(self, index: int) -> int:
        return self._first + (index - 1) * self.WINDOW if index else 0

    def first_window(self, width: int) -> None:
        """Make the first window this wide, so that the ones after it begin where that is useful."""
        if width == self._first:
            return
        self._first = width
        for index, window in enumerate(self.windows):
            window.start = self._start(index)
            if index == 0:
                window.styles.width = width

    def on_resize(self) -> None:
        """Everything is drawn anew, with more windows if the widget grew."""
        more = self._windows(len(self.children))
        if more:
            self.mount_all(more)
        self.change()

    def notify_style_update(self) -> None:
        """Colours of the theme are in the lines: draw them anew."""
        super().notify_style_update()
        self._part_styles.clear()
        self.change()

    @property
    def windows(self) -> list[Window]:
        """The windows, from the left."""
        return [child for child in self.children if isinstance(child, Window)]

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

    def strip(self, y: int) -> Strip:
        """Line ``y`` of the whole canvas."""
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

    def piece(self, y: int, x: int, width: int) -> Strip:
        """``width`` characters of line ``y`` from ``x`` on; one object while nothing changes."""
        pieces = self._pieces.setdefault(y, {})
        found = pieces.get((x, width))
        if found is None:
            found = pieces[x, width] = self.strip(y).crop(x, x + width).adjust_cell_length(width)
        return found

    def change(self) -> None:
        """Everything has changed."""
        self._strips.clear()
        self._pieces.clear()
        for window in self.windows:
            window.refresh()

    def change_line(self, y: int) -> None:
        """Line ``y`` may have changed: find out where, and redraw only there."""
        before = self._strips.pop(y, None)
        self._pieces.pop(y, None)
        after = self.strip(y)
        spans = [(0, after.cell_length)] if before is None else differing(before, after)
        for window in self.windows:
            start, stop = window.start, window.start + window.size.width
            touched = [(max(a, start), min(b, stop)) for a, b in spans if a < stop and b > start]
            if touched:
                first, last = touched[0][0], touched[-1][1]
                window.refresh(Region(first - start, y, last - first, 1))


def differing(before: Strip, after: Strip) -> list[tuple[int, int]]:
    """(first character, one past the last) of every stretch in which two lines differ."""
    old, new = _characters(before), _characters(after)
    if len(old) != len(new):
        return [(0, after.cell_length)]
    spans: list[tuple[int, int]] = []
    for place, (a, b) in enumerate(zip(old, new, strict=True)):
        if a == b:
            continue
        if spans and spans[-1][1] == place:
            spans[-1] = (spans[-1][0], place + 1)
        else:
            spans.append((place, place + 1))
    return spans


def _characters(strip: Strip) -> list[tuple[str, object]]:
    """(character, style) of every cell; a wide character stands in both of its cells."""
    found: list[tuple[str, object]] = []
    for text, style, _ in strip:
        if text.isascii() or len(text) == Strip([Segment(text)]).cell_length:
            found.extend((character, style) for character in text)
        else:
            for character in text:
                width = Strip([Segment(character)]).cell_length
                found.extend([(character, style)] * width)
    return found
