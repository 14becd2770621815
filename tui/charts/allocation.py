"""Allocation sweeps of a run: loss against rho, the share of the sparse parameters of experts.

Engram paper, Figure 3 (left): at a fixed total of sparse parameters, the rest of them go to memory
tables.
"""

from __future__ import annotations

from engramcka.results import AllocationSweep, Float
from engramcka.tui.charts import Detail
from engramcka.tui.charts.points import PointsPlot
from engramcka.tui.widgets.chart_drawing import Level


class AllocationPlot(PointsPlot[AllocationSweep]):
    """`Plotted` of allocation sweeps, with the loss of the experts alone across."""

    axis = "rho, share left to experts"
    column = "rho"
    to_level = "to rho 1"

    def numbers(self, sweep: AllocationSweep) -> Float:
        """(points,) rho."""
        return sweep.rho

    @property
    def level(self) -> Level:
        """The loss of the experts alone."""
        return Level("experts alone", self.sweep.experts_alone)

    def number_text(self, at: int) -> str:
        """Rho with three digits at most."""
        return f"{self.sweep.rho[at]:.3g}"

    def of_point(self, at: int) -> list[Detail]:
        """Experts a block and parameters of the model, where known."""
        sweep = self.sweep
        lines: list[Detail] = [("experts", str(sweep.experts[at]))] if sweep.experts else []
        if sweep.parameters:
            lines.append(("params", f"{sweep.parameters[at] / 1e6:.4g} M"))
        return lines


PLOT = AllocationPlot
