"""Curves with a cursor on their places."""

from __future__ import annotations

from dataclasses import dataclass

from rich.segment import Segment
from textual import events
from textual.message import Message

from engramcka.tui.widgets.canvas import Canvas, Line
from engramcka.tui.widgets.chart_drawing import Chart, chart_frame, draw_chart


class ChartPlot(Canvas):
    """A chart; the cursor is an index into its places."""

    COMPONENT_CLASSES = {
        "chart--axis", "chart--mark", "chart--baseline", "chart--reference",
        *(f"chart--curve-{style}" for style in range(6)),
        *(f"chart--interval-{style}" for style in range(6)),
    }  # fmt: skip

    DEFAULT_CSS = """
    ChartPlot > .chart--axis { color: $foreground 60%; }
    ChartPlot > .chart--mark { color: $accent; text-style: bold; }
    ChartPlot > .chart--baseline { color: $warning; }
    ChartPlot > .chart--reference { color: $success; }
    ChartPlot > .chart--curve-0 { color: $primary; }
    ChartPlot > .chart--curve-1 { color: $warning; }
    ChartPlot > .chart--curve-2 { color: $success; }
    ChartPlot > .chart--curve-3 { color: $secondary; }
    ChartPlot > .chart--curve-4 { color: $error; }
    ChartPlot > .chart--curve-5 { color: $foreground; }
    ChartPlot > .chart--interval-0 { color: $primary 60%; }
    ChartPlot > .chart--interval-1 { color: $warning 60%; }
    ChartPlot > .chart--interval-2 { color: $success 60%; }
    ChartPlot > .chart--interval-3 { color: $secondary 60%; }
    ChartPlot > .chart--interval-4 { color: $error 60%; }
    ChartPlot > .chart--interval-5 { color: $foreground 60%; }
    """

    @dataclass
    class PlaceMoved(Message):
        """The cursor was put on a place with the mouse."""

        index: int

    def __init__(self, *, classes: str | None = None) -> None:
        super().__init__(classes=classes)
        self.chart: Chart | None = None
        self.places: list[float] = []
        self.cursor = 0
        self.ascii_only = False
        self._drawn: list[Line] = []

    def show(self, chart: Chart, places: list[float]) -> None:
        """Draw this chart; the cursor stays at its place if there is one."""
        self.chart, self.places = chart, places
        self.cursor = max(0, min(self.cursor, len(places) - 1))
        self.change()

    @property
    def x(self) -> float | None:
        """The place under the cursor."""
        return self.places[self.cursor] if self.places else None

    def change(self) -> None:
        """Draw everything again."""
        self._redraw()
        super().change()

    def move(self, index: int) -> None:
        """Put the cursor on a place; only what differs is redrawn."""
        self.cursor = index
        before = self._drawn
        self._redraw()
        for y in range(self.size.height):
            if y >= len(before) or before[y] != self._drawn[y]:
                self.change_line(y)

    def _redraw(self) -> None:
        self._drawn = []
        if self.chart is not None and self.size.width:
            self._drawn = draw_chart(
                self.chart, self.size.width, self.size.height, self.x, ascii_only=self.ascii_only
            )

    def draw_line(self, y: int) -> list[Segment]:
        """Line ``y`` of the drawing."""
        if y >= len(self._drawn):
            return []
        return self.part_segments(self._drawn[y], "chart")

    def on_click(self, event: events.Click) -> None:
        """A click puts the cursor on the nearest place."""
        if self.chart is None or not self.places:
            return
        frame = chart_frame(self.chart, self.size.width, self.size.height)
        if frame is not None:
            x = int(event.screen_x) - self.region.x
            self.post_message(self.PlaceMoved(frame.nearest(self.places, x)))
