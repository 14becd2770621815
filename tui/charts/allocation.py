"""Allocation sweeps of a run: loss against rho, the share of the sparse parameters of experts."""

from __future__ import annotations

from typing import Any

import numpy as np

from engramcka.results import AllocationSweep
from engramcka.tui.charts import Detail
from engramcka.tui.loading import Several
from engramcka.tui.readout import seed_range, signed
from engramcka.tui.terminal import clean
from engramcka.tui.widgets.chart_drawing import Chart, Curve, Level


class AllocationPlot:
    """`Plotted` of allocation sweeps; the details are of the one that was chosen."""

    value_name = "the mean loss"
    table_name = "the sweep as a table"

    def __init__(self, several: Several) -> None:
        self.sweeps: dict[str, AllocationSweep] = several.values
        sweep = self.sweep = several.values.get(several.chosen) or next(iter(self.sweeps.values()))
        self.readings = (f"loss in {clean(sweep.unit)}",)
        missing = int((~np.isfinite(sweep.loss)).sum())
        self.warnings = [clean(warning) for warning in sweep.warnings]
        self.warnings += [f"{missing} of {sweep.loss.size} trainings not there yet"] * bool(missing)
        self.warnings += several.unread

    def chart(self, reading: int) -> Chart:
        """The mean with the spread of the seeds, and the loss of the experts alone across."""
        curves = []
        for index, sweep in enumerate(self.sweeps.values()):
            order = np.argsort(sweep.rho, kind="stable")
            low, high = (ends[order] for ends in seed_range(sweep.loss))
            mean = sweep.mean[order]
            curves.append(Curve(clean(sweep.label), sweep.rho[order], mean, low, high, style=index))
        alone = self.sweep.experts_alone
        levels = (Level("experts alone", alone),) if np.isfinite(alone) else ()
        axis = f"rho, share left to experts; {self.readings[0]}"
        return Chart(tuple(curves), axis, levels=levels)

    def _at(self, x: float) -> int:
        return int(np.argmin(np.abs(self.sweep.rho - x)))

    def details(self, reading: int, x: float) -> list[Detail]:
        """One point."""
        sweep, at = self.sweep, self._at(x)
        lines: list[Detail] = [("rho", f"{sweep.rho[at]:.3g}")]
        if sweep.experts:
            lines.append(("experts", str(sweep.experts[at])))
        if sweep.parameters:
            lines.append(("params", f"{sweep.parameters[at] / 1e6:.4g} M"))
        mean, alone = float(sweep.mean[at]), self.sweep.experts_alone
        if not np.isfinite(mean):
            return [*lines, ("loss", "not there yet")]
        lines.append(("loss", f"{mean:.4f}"))
        there = sweep.loss[at][np.isfinite(sweep.loss[at])]
        if len(there) > 1:
            lines.append(("seeds", f"{there.min():.4f}–{there.max():.4f}"))
        if np.isfinite(alone):
            lines.append(("to rho 1", signed(mean - alone)))
        best = sweep.best
        if best is not None:
            lines.append(("best", f"rho {best[0]:.3g}"))
        return lines

    def summary(self, reading: int, x: float) -> list[str]:
        """One point."""
        return [f"{label} {value}" for label, value in self.details(reading, x)]

    def best(self, reading: int) -> float | None:
        """The rho of the lowest mean loss."""
        return self.sweep.best[0] if self.sweep.best else None

    def value(self, reading: int, x: float) -> float:
        """The mean loss."""
        return float(self.sweep.mean[self._at(x)])

    def figure_input(self, reading: int) -> tuple[Any, dict[str, Any]]:
        """The sweeps of the run, or the one there is."""
        several = list(self.sweeps.values())
        return (several if len(several) > 1 else several[0]), {}

    def table(self) -> str:
        """A row for each point, a column for each seed."""
        lines = ["\t".join(["rho", *(f"seed {seed}" for seed in self.sweep.seeds)])]
        for rho, losses in zip(self.sweep.rho, self.sweep.loss, strict=True):
            lines.append("\t".join([repr(float(rho)), *(repr(float(loss)) for loss in losses)]))
        return "\n".join(lines) + "\n"
