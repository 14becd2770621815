"""A map and its baselines: the most similar layer of each column, with and without."""

from __future__ import annotations

from typing import Any

import numpy as np

from engramcka.plain_text import clean
from engramcka.results import Baseline, Float
from engramcka.results.statistics import mean_finite
from engramcka.tui.charts import Detail, interval_line, tab_separated
from engramcka.tui.readout import NONE
from engramcka.tui.widgets.chart_drawing import Chart, Curve, mark_of

_SHORT = ("highest", "mean", "same layer")
_IN_PANEL = ("highest", "mean", "same")


class BaselinePlot:
    """`Plotted` of a map with its baselines; the number copied is the map's own."""

    table_name = "map and baselines as a table"

    def __init__(self, found: Baseline) -> None:
        self.found = found
        y, title = clean(found.y_label), found.title
        self.readings = (
            f"{title} with the most similar layer of {y}",
            f"mean {title} over all layers of {y}",
            f"{title} with the same layer of {y}",
        )
        self.warnings = [clean(one) for one in found.warnings]

    def _values(self, reading: int) -> Float:
        """(maps, x layers)."""
        found = self.found
        if reading % len(_SHORT) == 0:
            return found.best
        cells = found.similarity
        if reading % len(_SHORT) == 1:
            return mean_finite(cells.swapaxes(1, 2))
        rows = {layer: row for row, layer in enumerate(found.y_layers)}
        columns = [
            cells[:, rows[layer], at] if layer in rows else np.full(len(cells), np.nan)
            for at, layer in enumerate(found.x_layers)
        ]
        return np.stack(columns, axis=1)

    def chart(self, reading: int) -> Chart:
        """A curve a map, with the ends of its interval where it is the most similar layer."""
        found, values = self.found, self._values(reading)
        x = np.array(found.x_layers, dtype=np.float64)
        order = np.argsort(x, kind="stable")
        is_best = reading % len(_SHORT) == 0
        curves = []
        for at, title in enumerate(found.titles):
            low = found.best_low[at][order] if is_best else None
            high = found.best_high[at][order] if is_best else None
            curves.append(Curve(clean(title), x[order], values[at][order], low, high, style=at))
        caption = f"layer of {clean(found.x_label)}; {self.readings[reading % len(_SHORT)]}"
        return Chart(tuple(curves), caption, whole=True, zero=True)

    def _at(self, x: float) -> int:
        return int(np.argmin(np.abs(np.array(self.found.x_layers) - x)))

    def details(self, reading: int, x: float) -> list[Detail]:
        """A layer by the map and each baseline; the mean of each map, how far the first is above
        it, and how their cells correlate."""
        found, at = self.found, self._at(x)
        columns = [self._values(one)[:, at] for one in range(len(_IN_PANEL))]
        lines: list[Detail] = [("layer", str(found.x_layers[at]))]
        for place, title in enumerate(found.titles):
            lines += [("", None), (f"{mark_of(place)} {clean(title)}", None)]
            for index, name in enumerate(_IN_PANEL):
                value = columns[index][place]
                if np.isfinite(value):
                    lines.append((name, _number(value)))
                if index == 0:
                    lines += interval_line(
                        found.best_low[place, at], found.best_high[place, at], _number
                    )
            lines.append(("map", _number(found.mean[place])))
            lines += interval_line(found.mean_low[place], found.mean_high[place], _number)
            if place:
                lines.append(("above", _number(found.above[place])))
                lines += interval_line(found.above_low[place], found.above_high[place], _number)
                if np.isfinite(found.correlation[place]):
                    lines.append(("corr.", f"{found.correlation[place]:.2f}"))
        return lines

    def summary(self, reading: int, x: float) -> list[str]:
        """The layer, and the value of the map and of each baseline."""
        at, values = self._at(x), self._values(reading)
        parts = [f"layer {self.found.x_layers[at]}", _SHORT[reading % len(_SHORT)]]
        for place in range(len(self.found.titles)):
            parts.append(f"{mark_of(place)} {_number(values[place, at])}")
        return parts

    def best(self, reading: int) -> float | None:
        """The layer at which the map is farthest above the highest baseline."""
        values = self._values(reading)
        others = np.where(np.isfinite(values[1:]), values[1:], -np.inf).max(axis=0)
        above = values[0] - others
        if not np.isfinite(above).any():
            return None
        return float(self.found.x_layers[int(np.argmax(np.where(np.isfinite(above), above, -9)))])

    def value(self, reading: int, x: float) -> float:
        """The map's own at a layer."""
        return float(self._values(reading)[0, self._at(x)])

    def value_name(self, reading: int, x: float) -> str:
        """The reading and the layer."""
        layer = self.found.x_layers[self._at(x)]
        return f"{self.found.title}, {_SHORT[reading % len(_SHORT)]}, at layer {layer}"

    def figure_input(self, reading: int) -> tuple[Any, dict[str, Any]]:
        """The result; its figure shows all of it."""
        return self.found, {}

    def table(self) -> str:
        """A row for each cell."""
        return tab_separated(self.found.rows())


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else NONE


PLOT = BaselinePlot
