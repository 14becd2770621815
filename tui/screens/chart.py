"""Curves with a cursor along their axis: lens and training curves, layer and allocation sweeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from engramcka.tui.charts import Plotted, plotted
from engramcka.tui.keys import Shortcut
from engramcka.tui.terminal import Capabilities, fitting
from engramcka.tui.widgets.cell_panel import CellPanel, Line, Readout
from engramcka.tui.widgets.chart_plot import ChartPlot

JUMP = 10  # a jump goes over this part of the places


class ChartView(Widget, can_focus=True):
    """The screen of one kind of curves."""

    DEFAULT_CSS = """
    ChartView { layout: vertical; }
    ChartView .chart-row { height: 1fr; }
    """

    BINDINGS = [
        Shortcut("left,h,up,k", "move(-1)", "Left", show=False),
        Shortcut("right,l,down,j,space", "move(1)", "Right", show=False),
        Shortcut("shift+left,H,b,pageup", "jump(-1)", "Far left", show=False),
        Shortcut("shift+right,L,w,pagedown", "jump(1)", "Far right", show=False),
        Shortcut("home,0,g", "place(0)", "First", show=False),
        Shortcut("end,dollar_sign,G", "place(-1)", "Last", show=False),
        Shortcut("r", "reading(1)", "Reading"),
        Shortcut("R", "reading(-1)", "Reading before", show=False),
        Shortcut("m", "best", "Best"),
        Shortcut("z", "zoom", "Zoom"),
    ]

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.capabilities = capabilities
        self.plotted: Plotted | None = None
        self.reading = 0
        self.start: float | None = None  # what is left of it is not drawn
        self.near = True  # far levels are left out, in charts that have a choice

    def compose(self) -> ComposeResult:
        """Plot and panel, and the line that stands in for the panel."""
        with Horizontal(classes="chart-row"):
            yield ChartPlot(classes="chart")
            with Vertical(classes="panel"):
                yield CellPanel()
        yield Readout(classes="line")

    def on_mount(self) -> None:
        """What the terminal can show."""
        self.plot.ascii_only = self.capabilities.ascii

    @property
    def plot(self) -> ChartPlot:
        """The curves."""
        return self.query_one(ChartPlot)

    def show(self, value: object) -> None:
        """Show a result of the kind that is this view's id; the cursor stays where it was."""
        self.plotted = plotted(str(self.id), value)
        self.screen.refresh_bindings()
        self._draw()

    def _draw(self) -> None:
        if self.plotted is None:
            return
        chart = self.plotted.chart(self.reading)
        places = chart.places
        if self.start is not None and self.start in places:
            chart = chart.beyond(self.start)
        self.plot.show(chart if self.near else replace(chart, near=False), places)
        self._tell()

    def on_resize(self) -> None:
        """The panel's texts depend on its width."""
        self.call_after_refresh(self._tell)

    def _tell(self) -> None:
        x = self.plot.x
        if self.plotted is None or x is None:
            return
        panel = self.query_one(CellPanel)
        if panel.is_on_screen and panel.size.width:
            panel.set_lines(panel_lines(panel, self.plotted, self.reading, x))
        line = self.query_one(".line", Readout)
        if line.display:
            text = fitting(self.plotted.summary(self.reading, x), line.size.width)
            line.set_lines([[(text, "value")]])

    def put_cursor(self, index: int) -> None:
        """Move the cursor to a place, or to the nearest there is."""
        if self.plot.places:
            first = 0 if self.start is None else self.plot.places.index(self.start)
            self.plot.move(min(max(index, first), len(self.plot.places) - 1))
            self._tell()

    def on_chart_plot_place_moved(self, message: ChartPlot.PlaceMoved) -> None:
        """The mouse chose a place."""
        self.focus()
        self.put_cursor(message.index)

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
        value = self.plotted.value(self.reading, x if x is not None else 0.0)
        return repr(value), self.plotted.value_name


def panel_lines(panel: CellPanel, shown: Plotted, reading: int, x: float) -> list[Line]:
    """The panel's lines at one place, then the warnings."""
    lines = panel.details(shown.details(reading, x))
    if shown.warnings:
        lines += [[], *panel.sentences(shown.warnings)]
    return lines
