"""Curves with a cursor along their axis: lens and training curves, layer and allocation sweeps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from rich.segment import Segment
from textual import events
from textual.app import ComposeResult
from textual.message import Message

from engramcka.tui.charts import Plotted, plotted
from engramcka.tui.screens.views import PanelView
from engramcka.tui.terminal import Capabilities, fitting
from engramcka.tui.widgets.canvas import Canvas, Line
from engramcka.tui.widgets.chart_drawing import STYLES, Chart, chart_frame, draw_chart
from engramcka.tui.widgets.key_bar import STEP_KEYS, Shortcut
from engramcka.tui.widgets.panel import DetailsPanel

JUMP = 10  # a jump goes over this part of the places


class ChartPlot(Canvas):
    """A chart; the cursor is an index into its places."""

    COMPONENT_CLASSES = {
        "chart--axis", "chart--mark", "chart--baseline", "chart--reference",
        *(f"chart--curve-{style}" for style in range(STYLES)),
        *(f"chart--interval-{style}" for style in range(STYLES)),
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
        """Lay out and draw the chart again, after a change of size, data or mode."""
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


class ChartView(PanelView):
    """The screen of one kind of curves."""

    BINDINGS = [
        *STEP_KEYS,
        Shortcut("space", "move(1)", show=False),
        Shortcut("r", "reading(1)", "Reading"),
        Shortcut("R", "reading(-1)", "Reading before", show=False),
        Shortcut("m", "best", "Best"),
        Shortcut("z", "zoom", "Zoom"),
    ]

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(capabilities, id=id)
        self.plotted: Plotted | None = None
        self.reading = 0
        self.start: float | None = None  # what is left of it is not drawn
        self.near = True  # far levels are left out, in charts that have a choice

    def compose_result(self) -> ComposeResult:
        """The curves, above what is written below them."""
        yield ChartPlot(classes="chart")

    def on_mount(self) -> None:
        """What the terminal can show."""
        self.plot.ascii_only = self.capabilities.ascii

    @property
    def plot(self) -> ChartPlot:
        """The widget that draws the curves."""
        return self.query_one(ChartPlot)

    def show(self, value: object) -> None:
        """Show a result of the kind that is this view's id; the cursor stays where it was."""
        self.plotted = plotted(str(self.id), value)
        self.warnings = self.plotted.warnings
        self.screen.refresh_bindings()
        self._draw()

    def _draw(self) -> None:
        if self.plotted is None:
            return
        chart = self.plotted.chart(self.reading)
        places = chart.places
        if self.start not in places:  # of another result
            self.start = None
        if self.start is not None:
            chart = chart.beyond(self.start)
        self.plot.show(chart if self.near else replace(chart, near=False), places)
        self.refresh_panel()

    def panel_lines(self, panel: DetailsPanel) -> list[Line]:
        """What is known at the cursor's place."""
        if self.plotted is None or self.plot.x is None:
            return []
        return panel.details(self.plotted.details(self.reading, self.plot.x))

    def short_line(self, width: int) -> Line:
        """As much of the summary as fits."""
        if self.plotted is None or self.plot.x is None:
            return []
        return [(fitting(self.plotted.summary(self.reading, self.plot.x), width), "value")]

    def put_cursor(self, index: int) -> None:
        """Move the cursor to a place, or to the nearest there is."""
        if self.plot.places:
            first = 0 if self.start is None else self.plot.places.index(self.start)
            self.plot.move(min(max(index, first), len(self.plot.places) - 1))
            self.refresh_panel()

    def on_chart_plot_place_moved(self, message: ChartPlot.PlaceMoved) -> None:
        """The mouse chose a place."""
        self.focus()
        self.put_cursor(message.index)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel goes back."""
        event.stop()
        self.action_move(-1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel goes on."""
        event.stop()
        self.action_move(1)

    def action_move(self, places: int) -> None:
        """Move the cursor by so many places."""
        self.put_cursor(self.plot.cursor + places)

    def action_jump(self, jumps: int) -> None:
        """Move the cursor by a tenth of the places."""
        self.put_cursor(self.plot.cursor + jumps * max(2, len(self.plot.places) // JUMP))

    def action_place(self, index: int) -> None:
        """Move the cursor to the first (0) or last (-1) place."""
        if self.plot.places:
            self.put_cursor(index % len(self.plot.places))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No key for the next reading where there is one only."""
        return action != "reading" or self.plotted is None or len(self.plotted.readings) > 1

    def action_reading(self, step: int) -> None:
        """Draw the next of the result's readings."""
        if self.plotted is not None:
            self.reading = (self.reading + step) % len(self.plotted.readings)
            self._draw()

    def action_best(self) -> None:
        """Move the cursor to the lowest loss, or to the largest difference of two models."""
        best = self.plotted.best(self.reading) if self.plotted else None
        if best is not None and best in self.plot.places:
            self.put_cursor(self.plot.places.index(best))

    def action_zoom(self) -> None:
        """Draw from the cursor on, or everything again; in a sweep take far levels in, or not."""
        if self.plotted is not None and self.plotted.chart(self.reading).near:
            self.near = not self.near
        else:
            x = self.plot.x
            first = not self.plot.places or x == self.plot.places[0]
            self.start = x if self.start is None and not first else None
        self._draw()

    def figure_input(self) -> tuple[Any, dict[str, Any]]:
        """What an exported figure draws, and its options."""
        assert self.plotted is not None
        return self.plotted.figure_input(self.reading)

    def copied(self, what: str) -> tuple[str, str]:
        """(text, what it is) of the value or table to copy."""
        assert self.plotted is not None
        if what in ("table", "row"):
            return self.plotted.table(), self.plotted.table_name
        x = self.plot.x
        if x is None:
            return "", "nothing: there is no point"
        value = self.plotted.value(self.reading, x)
        return repr(value), self.plotted.value_name(self.reading, x)
