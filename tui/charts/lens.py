"""LogitLens curves of all models of a run: one plot for each reading.

Only curves that may be compared share a plot: those of the same samples and, for the divergence,
of the same direction as the one that was chosen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engramcka.plain_text import clean
from engramcka.results import Float, LensCurve
from engramcka.tui import readout
from engramcka.tui.charts import Detail
from engramcka.tui.loading import Several
from engramcka.tui.widgets.chart_drawing import Chart, Curve, mark_of

_FIELDS = ("kl", "entropy", "top1")


class LensPlot:
    """`Plotted` of LogitLens curves."""

    table_name = "the curves as a table"

    def __init__(self, several: Several) -> None:
        first = next(iter(several.values.values()))
        chosen: LensCurve = several.values.get(several.chosen, first)
        same = {
            name: curve
            for name, curve in several.values.items()
            if (curve.direction, curve.where) == (chosen.direction, chosen.where)
        }
        self.curves: dict[str, LensCurve] = same
        self._chosen = chosen
        self.readings = tuple(_title(field, chosen) for field in self._fields())
        texts = (clean(w) for curve in same.values() for w in curve.warnings)
        self.warnings = list(dict.fromkeys(texts))
        left_out = len(several.values) - len(same)
        if left_out:
            self.warnings.append(f"{left_out} more of other samples or another direction")
        self.warnings += several.unread

    def _fields(self) -> list[str]:
        there = (
            field
            for field in _FIELDS
            if any(getattr(curve, field) is not None for curve in self.curves.values())
        )
        return list(there)

    def _field(self, reading: int) -> str:
        fields = self._fields()
        return fields[reading % len(fields)]

    def chart(self, reading: int) -> Chart:
        """A curve a model, with the ends of its intervals."""
        field = self._field(reading)
        curves = []
        for name, curve in self.curves.items():
            values: Float | None = getattr(curve, field)
            if values is None:
                values = np.full(len(curve.layers), np.nan)
            curves.append(
                Curve(
                    _name(name, curve), np.array(curve.layers, dtype=np.float64), values,
                    getattr(curve, f"{field}_low"), getattr(curve, f"{field}_high"),
                )
            )  # fmt: skip
        caption = self.readings[reading % len(self.readings)]
        return Chart(tuple(curves), f"layer; {caption}", whole=True, zero=True)

    def details(self, reading: int, x: float) -> list[Detail]:
        """The layer, then all readings of every model."""
        lines: list[Detail] = [("layer", f"{x:.0f}")]
        for index, (name, curve) in enumerate(self.curves.items()):
            lines += [("", None), (f"{mark_of(index)} {_name(name, curve)}", None)]
            for field in self._fields():
                text, ends = _plain(curve, field, x), _ends(curve, field, x)
                if text:
                    lines.append((_SHORT[field], text))
                if ends:
                    lines.append(("  95 %", ends))
        return lines

    def summary(self, reading: int, x: float) -> list[str]:
        """The layer and the reading of every model."""
        field = self._field(reading)
        parts = [f"layer {x:.0f}", _SHORT[field]]
        for index, curve in enumerate(self.curves.values()):
            parts.append(f"{mark_of(index)} {_plain(curve, field, x) or readout.NONE}")
        if len(self.curves) == 1:
            parts.append(_ends(next(iter(self.curves.values())), field, x))
        return parts

    def best(self, reading: int) -> float | None:
        """The layer where the readings of two models are farthest apart; None for one model."""
        field = self._field(reading)
        first, *others = self.curves.values()
        if not others:
            return None
        shared = [layer for layer in first.layers if layer in others[0].layers]
        gaps = [abs(_at(first, field, x) - _at(others[0], field, x)) for x in shared]
        if not np.isfinite(gaps).any():
            return None
        return float(shared[int(np.nanargmax(gaps))])

    def value(self, reading: int, x: float) -> float:
        """The reading of the model that was chosen."""
        return _at(self._chosen, self._field(reading), x)

    def value_name(self, reading: int, x: float) -> str:
        """The reading, the chosen model and the layer."""
        name = next(name for name, curve in self.curves.items() if curve is self._chosen)
        return f"{_SHORT[self._field(reading)]} of {_name(name, self._chosen)} at layer {x:.0f}"

    def figure_input(self, reading: int) -> tuple[Any, dict[str, Any]]:
        """The curves and the reading."""
        return list(self.curves.values()), {"readings": (self._field(reading),)}

    def table(self) -> str:
        """A row for each model and layer."""
        names = [f"{field}{end}" for field in _FIELDS for end in ("", "_low", "_high")]
        lines = ["\t".join(["model", "layer", *names])]
        for name, curve in self.curves.items():
            for index, layer in enumerate(curve.layers):
                columns = [getattr(curve, column) for column in names]
                values = ["" if c is None else repr(float(c[index])) for c in columns]
                lines.append("\t".join([name, str(layer), *values]))
        return "\n".join(lines) + "\n"


_SHORT = {"kl": "KL", "entropy": "entropy", "top1": "top-1"}


def _title(field: str, curve: LensCurve) -> str:
    if field == "kl":
        left, both, right = curve.direction.partition("||")
        return f"KL({left} || {right}), nats a token" if both else "KL, nats a token"
    if field == "entropy":
        return "entropy of the prediction, nats"
    return "top-1, share of first guesses kept"


def _name(name: str, curve: LensCurve) -> str:
    label = clean(curve.label) if curve.label != "model" else clean(name)
    return label if curve.memory else f"{label}, memory off"


def _at(curve: LensCurve, field: str, x: float, end: str = "") -> float:
    values: Float | None = getattr(curve, f"{field}{end}")
    if values is None or int(x) not in curve.layers:
        return float("nan")
    return float(values[curve.layers.index(int(x))])


def _plain(curve: LensCurve, field: str, x: float) -> str:
    value = _at(curve, field, x)
    return readout.decimals(value) if value == value else ""


def _ends(curve: LensCurve, field: str, x: float) -> str:
    """The ends of the interval; "" where there is none."""
    low, high = _at(curve, field, x, "_low"), _at(curve, field, x, "_high")
    if low != low or high != high:
        return ""
    return f"{readout.short_decimals(low)}–{readout.short_decimals(high)}"


PLOT = LensPlot
