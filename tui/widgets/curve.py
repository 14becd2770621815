"""A loss sweep as a curve with a cursor on its points."""

from __future__ import annotations

from dataclasses import dataclass

from rich.segment import Segment
from textual import events
from textual.message import Message

from engramcka.results import LossSweep
from engramcka.tui.widgets.canvas import Canvas
from engramcka.tui.widgets.sweep_drawing import draw_sweep, sweep_frame


class SweepPlot(Canvas):
    """The curve with a cursor on its points."""

    COMPONENT_CLASSES = {
        "sweep--axis", "sweep--curve", "sweep--seeds", "sweep--baseline", "sweep--reference",
        "sweep--variant", "sweep--mark",
    }  # fmt: skip

    DEFAULT_CSS = """
    SweepPlot > .sweep--axis { color: $foreground 60%; }
    SweepPlot > .sweep--curve { color: $primary; }
    SweepPlot > .sweep--seeds { color: $primary 60%; }
    SweepPlot > .sweep--baseline { color: $warning; }
    SweepPlot > .sweep--reference { color: $success; }
    SweepPlot > .sweep--variant { color: $secondary; }
    SweepPlot > .sweep--mark { color: $accent; text-style: bold; }
    """

    @dataclass
    class PointMoved(Message):
        """The cursor was put on a point with the mouse."""

        index: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.sweep: LossSweep | None = None
        self.cursor = 0
        self.close = True  # leave far lines out, as arrows
        self.ascii_only = False
        self._drawn: list[list[tuple[str, str]]] = []

    def show(self, sweep: LossSweep) -> None:
        """Draw this sweep; the cursor stays on its layer's place."""
        self.sweep = sweep
        self.cursor = min(self.cursor, len(sweep.layers) - 1)
        self.change()

    def change(self) -> None:
        """Draw everything anew."""
        self._redraw()
        super().change()

    def move(self, index: int) -> None:
        """Put the cursor on a point; only what differs is redrawn."""
        self.cursor = index
        self._redraw()
        for y in range(self.size.height):
            self.change_line(y)

    def _redraw(self) -> None:
        self._drawn = []
        if self.sweep is not None:
            self._drawn = draw_sweep(
                self.sweep, self.size.width, self.size.height, self.cursor,
                close=self.close, ascii_only=self.ascii_only,
            )  # fmt: skip

    def draw_line(self, y: int) -> list[Segment]:
        """Line ``y`` of the drawing."""
        if y >= len(self._drawn):
            return []
        return [
            Segment(text, self.part_style(f"sweep--{part}")) if part else Segment(text)
            for text, part in self._drawn[y]
        ]

    def on_click(self, event: events.Click) -> None:
        """A click puts the cursor on the nearest point."""
        if self.sweep is None:
            return
        frame = sweep_frame(self.sweep, self.size.width, self.size.height, self.close)
        if frame is not None:
            x = int(event.screen_x) - self.region.x
            nearest = min(range(frame.points), key=lambda index: abs(frame.x(index) - x))
            self.post_message(self.PointMoved(nearest))
