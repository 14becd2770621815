"""One pair of models compared in many ways: a curve a way, all of them at the cursor."""

from __future__ import annotations

from typing import Any

import numpy as np

from engramcka.plain_text import clean
from engramcka.results import Float, Robustness
from engramcka.results.robustness import layer_text, shift_text, tenths
from engramcka.tui.charts import Detail, interval_line, tab_separated
from engramcka.tui.readout import NONE
from engramcka.tui.widgets.chart_drawing import Chart, Curve, mark_of

_DETAILED = 4  # ways that a panel has room for in detail
_CURVES = ("alignment", "depth")
_SHORT = {"alignment": "soft alignment", "depth": "nearest layer"}


class RobustnessPlot:
    """`Plotted` of a robustness result; the number copied is that of the first way."""

    table_name = "all ways as a table"

    def __init__(self, found: Robustness) -> None:
        self.found = found
        y = clean(found.y_label)
        self.readings = (
            f"soft alignment (k = {found.k}), layer of {y}",
            f"nearest layer of {y}, where it is determined",
        )
        self.warnings = [clean(one) for one in found.warnings]

    def _curve(self, reading: int) -> str:
        return _CURVES[reading % len(_CURVES)]

    def _values(self, reading: int) -> Float:
        """(ways, x layers)."""
        if self._curve(reading) == "alignment":
            return self.found.alignment
        return np.where(self.found.determined > 0, self.found.depth, np.nan)

    def chart(self, reading: int) -> Chart:
        """A curve a way, the first with the ends of its interval."""
        found, values = self.found, self._values(reading)
        x = np.array(found.x_layers, dtype=np.float64)
        order = np.argsort(x, kind="stable")
        curves = []
        for way, name in enumerate(found.ways):
            low: Float | None = None
            high: Float | None = None
            if way == 0:
                there = np.isfinite(values[0])
                named = [getattr(found, f"{self._curve(reading)}_{end}") for end in ("low", "high")]
                low, high = (np.where(there, end[0], np.nan)[order] for end in named)
            curves.append(Curve(clean(name), x[order], values[way][order], low, high, style=way))
        caption = f"layer of {clean(found.x_label)}; {self.readings[reading % len(_CURVES)]}"
        return Chart(tuple(curves), caption, whole=True)

    def _at(self, x: float) -> int:
        return int(np.argmin(np.abs(np.array(self.found.x_layers) - x)))

    def details(self, reading: int, x: float) -> list[Detail]:
        """Every way with what it says of a layer, and its shift."""
        found, at = self.found, self._at(x)
        lines: list[Detail] = [("layer", str(found.x_layers[at]))]
        for place, (said, number) in enumerate(found.counts()):
            lines.append(("" if place else "ways", f"{number} {said}"))
        if len(found.ways) > _DETAILED:
            lines += [("", None), *self._list(reading, at)]
        for way, name in enumerate(found.ways):
            lines += [("", None), (f"{mark_of(way)} {clean(name)}", None)]
            determined = found.determined[way, at] > 0
            nearest = layer_text(found.depth[way, at]) if determined else "not determined"
            lines.append(("nearest", nearest))
            if determined:
                lines += interval_line(
                    found.depth_low[way, at], found.depth_high[way, at], layer_text
                )
            if np.isfinite(found.alignment[way, at]):
                lines.append(("soft", tenths(found.alignment[way, at])))
                low, high = found.alignment_low[way, at], found.alignment_high[way, at]
                lines += interval_line(low, high, tenths)
            lines.append(("shift", shift_text(found.shift[way])))
            lines += interval_line(found.shift_low[way], found.shift_high[way], shift_text)
        return lines

    def _list(self, reading: int, at: int) -> list[Detail]:
        """What each way says of a layer in a line: many ways in detail are longer than a panel."""
        text = layer_text if self._curve(reading) == "depth" else tenths
        column = self._values(reading)[:, at]
        said = [text(value) if np.isfinite(value) else NONE for value in column]
        pairs = enumerate(zip(self.found.ways, said, strict=True))
        return [(f"{value:>4} {mark_of(way)} {clean(name)}", None) for way, (name, value) in pairs]

    def summary(self, reading: int, x: float) -> list[str]:
        """The layer, what the first way says of it, and the range over all."""
        at, values = self._at(x), self._values(reading)
        column = values[:, at]
        there = column[np.isfinite(column)]
        parts = [f"layer {self.found.x_layers[at]}", _SHORT[self._curve(reading)]]
        parts.append(tenths(column[0]) if np.isfinite(column[0]) else "not determined")
        if len(there) > 1:
            ends = f"{tenths(there.min())} to {tenths(there.max())}"
            parts.append(f"{ends} over {len(there)} ways")
        return parts

    def best(self, reading: int) -> float | None:
        """The layer of which the ways say what is farthest apart."""
        values = self._values(reading)
        known = np.isfinite(values).sum(axis=0) > 1
        if not known.any():
            return None
        spread = [np.ptp(column[np.isfinite(column)]) for column in values.T[known]]
        return float(np.array(self.found.x_layers)[known][int(np.argmax(spread))])

    def value(self, reading: int, x: float) -> float:
        """What the first way says of a layer."""
        return float(self._values(reading)[0, self._at(x)])

    def value_name(self, reading: int, x: float) -> str:
        """The curve, the way and the layer."""
        layer = self.found.x_layers[self._at(x)]
        return f"{_SHORT[self._curve(reading)]} by {clean(self.found.ways[0])} at layer {layer}"

    def figure_input(self, reading: int) -> tuple[Any, dict[str, Any]]:
        """The result and the curve."""
        return self.found, {"curve": self._curve(reading)}

    def table(self) -> str:
        """A row for each way and layer."""
        return tab_separated(self.found.rows())


PLOT = RobustnessPlot
