"""A widget drawn line by line, cut into narrow windows so that a small change costs few bytes.

Textual sends a changed line from the left edge of its widget to the right end of the change. With
the widget cut into windows a few characters wide, that is a few characters, wherever the change
is. The windows draw nothing of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

_NEAR = 4  # characters between two changes that are sent as one


class Window(Widget):
    """Shows the canvas from character ``start`` on."""

    DEFAULT_CSS = "Window { height: 1fr; }"

    def __init__(self, canvas: Canvas, start: int, width: int | None) -> None:
        super().__init__()
        self.styles.width = width if width is not None else "1fr"
        self._canvas, self.start = canvas, start

    def render_line(self, y: int) -> Strip:
        """The canvas's line, cut to this window."""
        return self._canvas.strip(y).crop(self.start, self.start + self.size.width)


class Canvas(Horizontal):
    """Base of widgets that are lines of segments: implement `draw_line`, call `change`."""

    DEFAULT_CSS = "Canvas { height: 1fr; overflow: hidden; }"

    WINDOW = 3  # characters

    def __init__(
        self,
        *,
        cuts: Sequence[int] | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """``cuts`` are the first characters of the windows after the first; None: every 3."""
        super().__init__(id=id, classes=classes)
        self._cuts = None if cuts is None else [0, *cuts]
        self._strips: dict[int, Strip] = {}

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
        return [Window(self, i * self.WINDOW, self.WINDOW) for i in range(there, needed)]

    def on_resize(self) -> None:
        """Everything is drawn anew, with more windows if the widget grew."""
        more = self._windows(len(self.children))
        if more:
            self.mount_all(more)
        self.change()

    def notify_style_update(self) -> None:
        """Colours of the theme are in the lines: draw them anew."""
        super().notify_style_update()
        self.change()

    def strip(self, y: int) -> Strip:
        """Line ``y`` of the whole canvas."""
        found = self._strips.get(y)
        if found is None:
            base = self.rich_style
            segments = [
                Segment(text, base if style is None else base + style)
                for text, style, _ in self.draw_line(y)
            ]
            width = max(self.size.width, 1)
            found = Strip(segments).adjust_cell_length(width, base).simplify()
            self._strips[y] = found
        return found

    def change(self) -> None:
        """Everything has changed."""
        self._strips.clear()
        for window in self.query_children(Window):
            window.refresh()

    def change_span(self, y: int, x: int, width: int) -> None:
        """Only these characters of line ``y`` have changed."""
        for window in self.query_children(Window):
            left, right = max(x, window.start), min(x + width, window.start + window.size.width)
            if left < right:
                window.refresh(Region(left - window.start, y, right - left, 1))

    def change_line(self, y: int) -> None:
        """Line ``y`` may have changed: find out where, and redraw only there."""
        before = self._strips.pop(y, None)
        after = self.strip(y)
        if before is None:
            self.change_span(y, 0, self.size.width)
            return
        for x, width in differing(before, after):
            self.change_span(y, x, width)


def differing(before: Strip, after: Strip) -> list[tuple[int, int]]:
    """(first character, number of characters) of every stretch in which two lines differ."""
    old, new = _characters(before), _characters(after)
    if len(old) != len(new):
        return [(0, after.cell_length)]
    spans: list[tuple[int, int]] = []
    for place, (a, b) in enumerate(zip(old, new, strict=True)):
        if a == b:
            continue
        if spans and place - sum(spans[-1]) < _NEAR:
            spans[-1] = (spans[-1][0], place + 1 - spans[-1][0])
        else:
            spans.append((place, 1))
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
