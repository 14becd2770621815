"""Kinds of results as curves or bars: what is drawn, shown at the cursor, copied; a module a kind.

Everything here is a pure function of a result. To add a kind that is drawn as curves: a module
named after it that ends in its `PLOT`, a class like `Plotted`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from typing import Any, Protocol

from engramcka.plain_text import clean
from engramcka.results.base import Row, part
from engramcka.tui.widgets.chart_drawing import Chart

Detail = tuple[str, str | None]
"""(label, value); a heading where the value is None, a blank line where the label is "" too."""


class Plotted(Protocol):
    """One or more results with a common axis, and a reading of them: a loss, a divergence."""

    table_name: str  # what `table` is, in words

    @property
    def readings(self) -> tuple[str, ...]:
        """What can be drawn, one at a time."""

    @property
    def warnings(self) -> Sequence[str]:
        """What is doubtful of the results, a sentence each."""

    def chart(self, reading: int) -> Chart:
        """Curves, levels and marks of one reading."""

    def details(self, reading: int, x: float) -> list[Detail]:
        """What is known at a place of the axis, a line each."""

    def summary(self, reading: int, x: float) -> list[str]:
        """The same in short parts for one line, the most important first."""

    def best(self, reading: int) -> float | None:
        """The place that `m` goes to."""

    def value(self, reading: int, x: float) -> float:
        """The number that `y` copies; NaN where there is none."""

    def value_name(self, reading: int, x: float) -> str:
        """What that number is, of which model and at which place."""

    def figure_input(self, reading: int) -> tuple[Any, dict[str, Any]]:
        """What a figure draws of it, and the options of that figure."""

    def table(self) -> str:
        """Everything as tab-separated text."""


def interval_line(low: float, high: float, text: Callable[[float], str]) -> list[Detail]:
    """The line of a 95 % interval in a panel, none where it is unknown."""
    if not (isfinite(low) and isfinite(high)):
        return []
    return [("  95 %", f"{text(low)} to {text(high)}")]


def tab_separated(rows: Iterable[Row]) -> str:
    """Rows of a result as text, names above them; an unknown value is empty."""
    lines: list[str] = []
    for row in rows:
        if not lines:
            lines.append("\t".join(map(clean, row)))
        lines.append("\t".join("" if value is None else str(value) for value in row.values()))
    return "\n".join(lines) + "\n"


def plotted(kind: str, value: Any) -> Plotted:
    """The result of a kind as curves: its module's `PLOT`; ``kind`` is a key of `KINDS`."""
    made: Plotted = part("tui.charts", kind).PLOT(value)
    return made
