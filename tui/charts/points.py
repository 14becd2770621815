"""What charts of sweeps over a number have in common: losses of points, each of some seeds."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from engramcka.plain_text import clean
from engramcka.results import Float
from engramcka.results.losses import SeedSweep
from engramcka.tui.charts import Detail
from engramcka.tui.loading import Several
from engramcka.tui.readout import seeds_deviation, signed
from engramcka.tui.widgets.chart_drawing import Chart, Curve, Level

S = TypeVar("S", bound=SeedSweep)


class PointsPlot(Generic[S]):
    """`Plotted` of the sweeps of a run; the details are of the one that was chosen."""

    table_name = "the sweep as a table"
    axis: ClassVar[str]  # what the axis is
    column: ClassVar[str]  # the number's name in a table
    to_level: ClassVar[str]  # label of the difference from the level

    def __init__(self, several: Several) -> None:
        self.sweeps: dict[str, S] = several.values
        sweep: S = several.values.get(several.chosen) or next(iter(self.sweeps.values()))
        self.sweep = sweep
        self.readings = (f"loss in {clean(sweep.unit)}",)
        missing = int((~np.isfinite(sweep.loss)).sum())
        self.warnings = [clean(warning) for warning in sweep.warnings]
        self.warnings += [f"{missing} of {sweep.loss.size} trainings not there yet"] * bool(missing)
        self.warnings += several.unread

    def numbers(self, sweep: S) -> Float:
        """(points,) what the sweep is over."""
        raise NotImplementedError

    def x(self, sweep: S) -> Float:
        """(points,) the same on the axis."""
        return self.numbers(sweep)

    @property
    def level(self) -> Level:
        """The loss to compare with, NaN where unknown."""
        raise NotImplementedError

    def number_text(self, at: int) -> str:
        """The number of a point."""
        raise NotImplementedError

    def of_point(self, at: int) -> list[Detail]:
        """What else is known of the model of a point."""
        raise NotImplementedError

    def chart(self, reading: int) -> Chart:
        """A curve a sweep, its means with their bars, and the level across."""
        curves = []
        for index, sweep in enumerate(self.sweeps.values()):
            order = np.argsort(self.numbers(sweep), kind="stable")
            x, mean = self.x(sweep)[order], sweep.mean[order]
            bars = sweep.bars[order]
            ends = mean - bars, mean + bars
            curves.append(Curve(clean(sweep.label), x, mean, *ends, style=index))
        levels = (self.level,) if np.isfinite(self.level.value) else ()
        return Chart(tuple(curves), f"{self.axis}; {self.readings[0]}", levels=levels)

    def _at(self, x: float) -> int:
        return int(np.argmin(np.abs(self.x(self.sweep) - x)))

    def details(self, reading: int, x: float) -> list[Detail]:
        """The values of one point, with spread and distance, as name and text."""
        sweep, at = self.sweep, self._at(x)
        lines: list[Detail] = [(self.column, self.number_text(at)), *self.of_point(at)]
        mean = float(sweep.mean[at])
        if not np.isfinite(mean):
            return [*lines, ("loss", "not there yet")]
        lines.append(("loss", f"{mean:.4f}"))
        lines += seeds_deviation(sweep.loss[at])
        difference = float(sweep.difference[at])
        if np.isfinite(difference):
            lines.append((self.to_level, signed(difference)))
        if sweep.best_point is not None:
            lines.append(("best", f"{self.column} {self.number_text(sweep.best_point)}"))
        return lines

    def summary(self, reading: int, x: float) -> list[str]:
        """The values of one point, with spread and distance, as name and text."""
        return [f"{label} {value}" for label, value in self.details(reading, x)]

    def best(self, reading: int) -> float | None:
        """The place of the lowest mean loss."""
        point = self.sweep.best_point
        return None if point is None else float(self.x(self.sweep)[point])

    def value(self, reading: int, x: float) -> float:
        """The mean loss of a point over its seeds, as it is copied."""
        return float(self.sweep.mean[self._at(x)])

    def value_name(self, reading: int, x: float) -> str:
        """The chosen sweep and the number of the point."""
        name = f" of {clean(self.sweep.label)}" if len(self.sweeps) > 1 else ""
        return f"mean loss{name} at {self.column} {self.number_text(self._at(x))}"

    def figure_input(self, reading: int) -> tuple[Any, dict[str, Any]]:
        """The sweeps of the run, or the one there is."""
        several = list(self.sweeps.values())
        return (several if len(several) > 1 else several[0]), {}

    def table(self) -> str:
        """A row for each point, a column for each seed."""
        lines = ["\t".join([self.column, *(f"seed {seed}" for seed in self.sweep.seeds)])]
        for number, losses in zip(self.numbers(self.sweep), self.sweep.loss, strict=True):
            lines.append("\t".join([repr(float(number)), *(repr(float(loss)) for loss in losses)]))
        return "\n".join(lines) + "\n"
