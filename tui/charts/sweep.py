"""A layer sweep: loss against the insertion layer of one memory module, ablations beside it."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from engramcka.plain_text import clean
from engramcka.results import LossSweep
from engramcka.tui.charts import Detail
from engramcka.tui.readout import NONE, seeds_deviation, signed
from engramcka.tui.widgets.chart_drawing import Chart, Curve, Level

_ABLATION_STYLE = 3  # colour of the ablations among those of curves
_ABLATIONS_SPAN = 16  # so many ablations take as much of the axis as all layers


class SweepPlot:
    """`Plotted` of a layer sweep; ablations have places of their own right of the last layer."""

    table_name = "the sweep as a table"

    def __init__(self, sweep: LossSweep) -> None:
        self.sweep = sweep
        self.readings = (f"loss in {clean(sweep.unit)}",)
        self.warnings = [clean(warning) for warning in sweep.warnings]
        first, self._last = float(min(sweep.layers)), float(max(sweep.layers))
        step = (self._last - first) / _ABLATIONS_SPAN or 1.0
        finite = [(name, float(loss)) for name, loss in sweep.variants.items() if isfinite(loss)]
        falling = sorted(finite, key=lambda ablation: -ablation[1])
        self._ablations = {self._last + step * (i + 1): one for i, one in enumerate(falling)}

    def chart(self, reading: int) -> Chart:
        """The means with their bars, baseline and references across, ablations."""
        sweep = self.sweep
        order = np.argsort(sweep.layers, kind="stable")
        low, high = sweep.mean - sweep.bars, sweep.mean + sweep.bars
        layers = np.array(sweep.layers, dtype=np.float64)
        curves = [Curve("", layers[order], sweep.mean[order], low[order], high[order])]
        if self._ablations:
            names, losses = zip(*self._ablations.values(), strict=True)
            curves.append(
                Curve(
                    "", np.array(list(self._ablations)), np.array(losses), style=_ABLATION_STYLE,
                    joined=False, mark="×", labels=names, optional=True,
                )
            )  # fmt: skip
        return Chart(
            tuple(curves), f"insertion layer; {self.readings[0]}", levels=self._levels(),
            whole=True, last_number=self._last, near=True,
        )  # fmt: skip

    def _levels(self) -> tuple[Level, ...]:
        sweep = self.sweep
        levels = [Level(sweep.baseline_label, sweep.baseline_mean)]
        levels += [Level(name, float(loss), solid=True) for name, loss in sweep.reference.items()]
        return tuple(level for level in levels if isfinite(level.value))

    def _at(self, x: float) -> int:
        return int(np.argmin(np.abs(np.array(self.sweep.layers) - x)))

    def details(self, reading: int, x: float) -> list[Detail]:
        """One point with each seed's loss, then baseline, references and ablations."""
        sweep = self.sweep
        lines: list[Detail] = [(clean(sweep.label), None)]
        if x in self._ablations:
            name, loss = self._ablations[x]
            lines += [(clean(name), None), *self._ablation(name, loss), ("", None)]
            lines += _seed_lines(sweep.seeds, sweep.variant_losses.get(name, ()))
        else:
            index = self._at(x)
            lines += [*self._point(index), ("", None)]
            lines += _seed_lines(sweep.seeds, sweep.loss[index].tolist())
        others = [(level.name, level.value) for level in self._levels()]
        for name, loss in (*others, *self._ablations.values()):
            lines += [(clean(name), None), ("", f"{loss:.4f}")]
        return lines

    def _point(self, index: int) -> list[Detail]:
        """(label, value) of one insertion layer."""
        sweep, mean = self.sweep, float(self.sweep.mean[index])
        lines: list[Detail] = [("layer", str(sweep.layers[index]))]
        there = sweep.loss[index][np.isfinite(sweep.loss[index])]
        if not len(there):
            return [*lines, ("loss", "not there yet")]
        lines.append(("loss", f"{mean:.4f}"))
        lines += seeds_deviation(there)
        lines += self._to_baseline(float(sweep.difference[index]))
        if sweep.difference_low is not None and sweep.difference_high is not None:
            ends = float(sweep.difference_low[index]), float(sweep.difference_high[index])
            if all(isfinite(value) for value in (*ends, sweep.difference[index])):
                lines.append(("95 %", " to ".join(signed(end, 3) for end in ends)))
        if sweep.best is not None:
            lines.append(("best", f"layer {sweep.best[0]}"))
        return lines

    def _ablation(self, name: str, loss: float) -> list[Detail]:
        lines = [("loss", f"{loss:.4f}"), *self._to_baseline(loss - self.sweep.baseline_mean)]
        if name in self.sweep.variant_differences:
            difference, *ends = self.sweep.variant_differences[name]
            lines += [("whole", clean(self.sweep.whole)), ("to whole", signed(difference))]
            lines.append(("95 %", " to ".join(signed(end, 3) for end in ends)))
        return lines

    def _to_baseline(self, difference: float) -> list[Detail]:
        return [("to base", signed(difference))] if isfinite(difference) else []

    def summary(self, reading: int, x: float) -> list[str]:
        """One point or ablation; the layer of the lowest loss is left to `details`."""
        if x in self._ablations:
            name, loss = self._ablations[x]
            _, *rest = self._ablation(name, loss)
            return [f"{clean(name)} {loss:.4f}", *(f"{label} {value}" for label, value in rest)]
        pairs = self._point(self._at(x))
        return [f"{label} {value}" for label, value in pairs if label != "best"]

    def best(self, reading: int) -> float | None:
        """The layer of the lowest mean loss."""
        return float(self.sweep.best[0]) if self.sweep.best else None

    def value(self, reading: int, x: float) -> float:
        """The mean loss of a layer, or the loss of an ablation."""
        if x in self._ablations:
            return self._ablations[x][1]
        return float(self.sweep.mean[self._at(x)])

    def value_name(self, reading: int, x: float) -> str:
        """The layer, or the ablation."""
        if x in self._ablations:
            return f"loss {clean(self._ablations[x][0])}"
        return f"mean loss at layer {self.sweep.layers[self._at(x)]}"

    def figure_input(self, reading: int) -> tuple[Any, dict[str, Any]]:
        """What a figure of the plot is drawn from."""
        return self.sweep, {}

    def table(self) -> str:
        """A row for each layer and a column for each seed, then the other losses."""
        sweep = self.sweep
        lines = ["\t".join(["layer", *(f"seed {seed}" for seed in sweep.seeds)])]
        for layer, losses in zip(sweep.layers, sweep.loss, strict=True):
            lines.append("\t".join([str(layer), *(repr(float(loss)) for loss in losses)]))
        lines.append("\t".join(["baseline", *(repr(float(loss)) for loss in sweep.baseline)]))
        for name, loss in {**sweep.reference, **sweep.variants}.items():
            lines.append(f"{name}\t{float(loss)!r}")
        return "\n".join(lines) + "\n"


def _seed_lines(seeds: tuple[int, ...], losses: Any) -> list[Detail]:
    """The loss of each of several seeds, and a blank line; nothing for a single one."""
    if len(seeds) < 2 or len(losses) != len(seeds):
        return []
    shown = [f"{loss:.4f}" if isfinite(loss) else NONE for loss in losses]
    lines = [(f"seed {seed}", text) for seed, text in zip(seeds, shown, strict=True)]
    return [*lines, ("", None)]


PLOT = SweepPlot
