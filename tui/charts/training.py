"""Training curves of all models of a run: the loss by step, and the validation losses as points."""

from __future__ import annotations

from typing import Any

import numpy as np

from engramcka.plain_text import clean
from engramcka.results import Float, TrainingCurve
from engramcka.tui import readout
from engramcka.tui.charts import Detail
from engramcka.tui.loading import Several
from engramcka.tui.widgets.chart_drawing import Chart, Curve, mark_of


class TrainingPlot:
    """`Plotted` of training curves."""

    table_name = "the curves as a table"
    readings: tuple[str, ...] = ("loss, nats a token; marks: validation",)

    def __init__(self, several: Several) -> None:
        self.curves: dict[str, TrainingCurve] = several.values
        self._chosen = several.values.get(several.chosen) or next(iter(self.curves.values()))
        self.warnings = list(several.unread)

    def chart(self, reading: int) -> Chart:
        """A line a model, its validation losses marked."""
        curves = []
        for index, (name, curve) in enumerate(self.curves.items()):
            line = Curve(clean(name), curve.step, curve.loss, style=index, marked=False)
            checks = Curve(
                "", curve.validation_step, curve.validation_loss, style=index, joined=False
            )
            curves += [line, checks]
        return Chart(tuple(curves), f"step; {self.readings[0]}")

    def details(self, reading: int, x: float) -> list[Detail]:
        """The step, then each model's loss there and its last validation loss until then."""
        lines: list[Detail] = [("step", f"{x:.0f}")]
        for index, (name, curve) in enumerate(self.curves.items()):
            lines += [("", None), (f"{mark_of(index)} {clean(name)}", None)]
            at = until(curve.step, x)
            if at is not None:
                lines.append(("loss", f"{curve.loss[at]:.4f}" + _of_step(curve.step[at], x)))
            at = until(curve.validation_step, x)
            if at is not None:
                shown = f"{curve.validation_loss[at]:.4f}" + _of_step(curve.validation_step[at], x)
                lines.append(("valid.", shown))
        return lines

    def summary(self, reading: int, x: float) -> list[str]:
        """The step and each model's loss."""
        parts = [f"step {x:.0f}"]
        for index, curve in enumerate(self.curves.values()):
            at = until(curve.step, x)
            shown = readout.NONE if at is None else f"{curve.loss[at]:.4f}"
            parts.append(f"{mark_of(index)} {shown}")
        return parts

    def best(self, reading: int) -> float | None:
        """The step of the lowest validation loss of all models."""
        lowest: tuple[float, float] | None = None
        for curve in self.curves.values():
            for loss, step in zip(curve.validation_loss, curve.validation_step, strict=True):
                if np.isfinite(loss) and (lowest is None or loss < lowest[0]):
                    lowest = float(loss), float(step)
        return lowest[1] if lowest else None

    def value(self, reading: int, x: float) -> float:
        """The training loss of the model that was chosen."""
        curve = self._chosen
        at = until(curve.step, x)
        return float("nan") if at is None else float(curve.loss[at])

    def value_name(self, reading: int, x: float) -> str:
        """The chosen model and the step."""
        name = next(name for name, curve in self.curves.items() if curve is self._chosen)
        return f"loss of {clean(name)} at step {x:.0f}"

    def figure_input(self, reading: int) -> tuple[Any, dict[str, Any]]:
        """What a figure of the plot is drawn from."""
        return list(self.curves.values()), {}

    def table(self) -> str:
        """A row for each loss."""
        lines = ["model\tof\tstep\tloss"]
        for name, curve in self.curves.items():
            for what, steps, losses in (
                ("training", curve.step, curve.loss),
                ("validation", curve.validation_step, curve.validation_loss),
            ):
                for step, loss in zip(steps, losses, strict=True):
                    lines.append(f"{name}\t{what}\t{step:.0f}\t{float(loss)!r}")
        return "\n".join(lines) + "\n"


def until(steps: Float, x: float) -> int | None:
    """Index of the last entry at or before a step; None where there is none."""
    at = int(np.searchsorted(steps, x, side="right")) - 1
    return at if at >= 0 else None


def _of_step(step: float, x: float) -> str:
    return "" if step == x else f" at {step:.0f}"


PLOT = TrainingPlot
