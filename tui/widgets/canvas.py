"""A widget drawn line by line, that keeps its lines and draws anew only those that changed."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget


class Canvas(Widget):
    """Base of widgets that are lines of segments: implement `draw_line`, call `change`."""

    DEFAULT_CSS = "Canvas { width: 1fr; height: 1fr; }"

    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._part_styles: dict[str, Style] = {}
        self._strips: dict[int, Strip] = {}

    def draw_line(self, y: int) -> list[Segment]:
        """The segments of line ``y``; the rest of the line is filled with the ground."""
        raise NotImplementedError

    def on_resize(self) -> None:
        """Everything is drawn anew."""
        self.change()

    def notify_style_update(self) -> None:
        """Colours of the theme are in the lines: draw them anew."""
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
        """Everything has changed."""
        self._strips.clear()
        self.refresh()

    def change_line(self, y: int) -> None:
        """Line ``y`` may have changed."""
        self._strips.pop(y, None)
        self.refresh(Region(0, y, self.size.width, 1))
