"""Results as curves: what is drawn, what is said at the cursor, what is copied.

Pure functions of the results, one module a kind; knows no widgets and no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from engramcka.tui.widgets.chart_drawing import Chart

Said = tuple[str, str | None]
"""(label, value); a heading where the value is None."""


class Plotted(Protocol):
    """One or more results with a common axis, and a reading of them: a loss, a divergence."""

    @property
    def readings(self) -> tuple[str, ...]:
        """What can be drawn, one at a time."""

    @property
    def warnings(self) -> Sequence[str]:
        """A sentence each."""

    def chart(self, reading: int) -> Chart:
        """What to draw."""

    def said(self, reading: int, x: float) -> list[Said]:
        """What is known at a place of the axis, over several lines."""

    def brief(self, reading: int, x: float) -> str:
        """The same in one line."""

    def best(self, reading: int) -> float | None:
        """The place that `m` goes to."""

    def value(self, reading: int, x: float) -> float:
        """The number that `y` copies; NaN where there is none."""

    def drawn(self, reading: int) -> tuple[Any, dict[str, Any]]:
        """What a figure draws of it, and the options of that figure."""

    def table(self) -> str:
        """Everything as tab-separated text."""


def plotted(kind: str, value: Any) -> Plotted:
    """The result of a kind as curves; ``kind`` is one of lens, training, allocation."""
    from engramcka.tui.charts.allocation import AllocationPlot
    from engramcka.tui.charts.lens import LensPlot
    from engramcka.tui.charts.training import TrainingPlot

    if kind == "lens":
        return LensPlot(value)
    if kind == "training":
        return TrainingPlot(value)
    return AllocationPlot(value)
