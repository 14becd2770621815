"""One loss sweep: the curve, what is known about the point under the cursor, and its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from engramcka.tui import readout
from engramcka.tui.capabilities import Capabilities
from engramcka.tui.keys import Shortcut
from engramcka.tui.terminal import clean, fitting
from engramcka.tui.widgets.cell_panel import CellPanel, Line, Readout
from engramcka.tui.widgets.curve import SweepPlot

if TYPE_CHECKING:
    from engramcka.results import LossSweep


class SweepView(Widget, can_focus=True):
    """The screen of one sweep."""

    DEFAULT_CSS = """
    SweepView { layout: vertical; }
    SweepView #sweep-row { height: 1fr; }
    """

    BINDINGS = [
        Shortcut("left,h,up,k,b", "move(-1)", "Left", show=False),
        Shortcut("right,l,down,j,w,space", "move(1)", "Right", show=False),
        Shortcut("home,0,g", "point(0)", "First", show=False),
        Shortcut("end,dollar_sign,G", "point(-1)", "Last", show=False),
        Shortcut("m", "best", "Best layer"),
        Shortcut("z", "close", "Axis"),
    ]

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.capabilities = capabilities
        self.sweep: LossSweep | None = None

    def compose(self) -> ComposeResult:
        """Curve and panel, and the line that stands in for the panel."""
        with Horizontal(id="sweep-row"):
            yield SweepPlot(id="sweep-plot")
            with Vertical(id="point", classes="panel"):
                yield CellPanel(id="point-panel")
        yield Readout(id="point-line", classes="line")

    def on_mount(self) -> None:
        """Name the panel."""
        self.query_one("#point").border_title = "point"
        self.plot.ascii_only = self.capabilities.ascii

    @property
    def plot(self) -> SweepPlot:
        """The curve."""
        return self.query_one(SweepPlot)

    def show(self, sweep: LossSweep) -> None:
        """Show a sweep; the cursor stays on its point if there is one."""
        self.sweep = sweep
        self.plot.show(sweep)
        self._tell()

    def on_resize(self) -> None:
        """The panel's texts depend on its width."""
        self.call_after_refresh(self._tell)

    def _tell(self) -> None:
        if self.sweep is None:
            return
        pairs = readout.point(self.sweep, self.plot.cursor)
        if self.query_one("#point").display:
            panel = self.query_one(CellPanel)
            panel.set_lines(point_lines(panel, self.sweep, self.plot.cursor, pairs))
        line = self.query_one("#point-line", Readout)
        if line.display:
            text = fitting((f"{label} {value}" for label, value in pairs), line.size.width)
            line.set_lines([[(text, "value")]])

    def put_cursor(self, index: int) -> None:
        """Move the cursor to a point, or to the nearest there is."""
        if self.sweep is not None:
            self.plot.move(min(max(index, 0), len(self.sweep.layers) - 1))
            self._tell()

    def on_sweep_plot_point_moved(self, message: SweepPlot.PointMoved) -> None:
        """The mouse chose a point."""
        self.focus()
        self.put_cursor(message.index)

    def action_move(self, points: int) -> None:
        """Move the cursor by so many points."""
        self.put_cursor(self.plot.cursor + points)

    def action_point(self, index: int) -> None:
        """Move the cursor to the first (0) or last (-1) point."""
        if self.sweep is not None:
            self.put_cursor(index % len(self.sweep.layers))

    def action_best(self) -> None:
        """Move the cursor to the lowest loss."""
        best = self.sweep.best if self.sweep is not None else None
        if best is not None and self.sweep is not None:
            self.put_cursor(self.sweep.layers.index(best[0]))

    def action_close(self) -> None:
        """Leave far lines out of the axis, or take everything in."""
        self.plot.close = not self.plot.close
        self.plot.change()

    def copied(self, what: str) -> tuple[str, str]:
        """(text, what it is) of the loss or table to copy."""
        assert self.sweep is not None
        if what in ("table", "row"):
            return readout.sweep_table(self.sweep), "the sweep as a table"
        return repr(float(self.sweep.mean[self.plot.cursor])), "the mean loss"


def point_lines(
    panel: CellPanel, sweep: LossSweep, index: int, pairs: list[tuple[str, str]]
) -> list[Line]:
    """The panel's lines for one point."""
    lines = [panel.heading(clean(sweep.label)), *(panel.pair(*pair) for pair in pairs), []]
    if len(sweep.seeds) > 1:
        for seed, loss in zip(sweep.seeds, sweep.loss[index].tolist(), strict=True):
            shown = f"{loss:.4f}" if np.isfinite(loss) else readout.NONE
            lines.append(panel.pair(f"seed {seed}", shown))
        lines.append([])
    if np.isfinite(sweep.baseline_mean):
        lines += [
            panel.heading(clean(sweep.baseline_label)),
            panel.pair("", f"{sweep.baseline_mean:.4f}"),
        ]
    for name, loss in {**sweep.reference, **sweep.variants}.items():
        lines += [panel.heading(clean(name)), panel.pair("", f"{loss:.4f}")]
    if sweep.warnings:
        lines += [[], *panel.sentences([clean(warning) for warning in sweep.warnings])]
    return lines
