"""Slot sweeps of a run: loss against the number of memory slots, on a logarithmic axis."""

from __future__ import annotations

import numpy as np

from engramcka.plain_text import clean
from engramcka.results import Float, SlotSweep
from engramcka.tui.charts import Detail
from engramcka.tui.charts.points import PointsPlot
from engramcka.tui.readout import signed
from engramcka.tui.widgets.chart_drawing import Level


class SlotsPlot(PointsPlot[SlotSweep]):
    """`Plotted` of slot sweeps, with the loss without memory across."""

    axis = "memory slots, log10"
    column = "slots"
    to_level = "to none"

    def numbers(self, sweep: SlotSweep) -> Float:
        """(points,) rows of all memory tables."""
        return sweep.slots

    def x(self, sweep: SlotSweep) -> Float:
        """(points,) log10 of the slots."""
        return np.log10(sweep.slots)

    @property
    def level(self) -> Level:
        """The loss without memory."""
        return Level(clean(self.sweep.baseline_label), self.sweep.baseline_mean)

    def number_text(self, at: int) -> str:
        """A number of slots, in full."""
        return f"{self.sweep.slots[at]:,.0f}"

    def of_point(self, at: int) -> list[Detail]:
        """Parameters of the model, where known, and what ten times the slots change."""
        sweep = self.sweep
        lines: list[Detail] = []
        if sweep.parameters:
            lines.append(("params", f"{sweep.parameters[at] / 1e6:.4g} M"))
        if sweep.line is not None:
            lines.append(("x 10", signed(sweep.line.slope)))
        return lines


PLOT = SlotsPlot
