"""How one training went: loss against steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engramcka.errors import ComparisonError
from engramcka.plain_text import one_line
from engramcka.results.base import Result, Row, along
from engramcka.results.statistics import Float


@dataclass(frozen=True, eq=False)
class TrainingCurve(Result):
    """Training loss by step, and the validation loss where it was taken; nats a token."""

    step: Float = field(metadata=along("step"))  # (entries,), optimiser steps done
    loss: Float = field(metadata=along("step"))
    """(entries,), mean training loss since the entry before."""
    validation_step: Float = field(metadata=along("validation_step"))  # (checks,)
    validation_loss: Float = field(metadata=along("validation_step"))  # (checks,)
    label: str = "model"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._set_floats(["step", "loss", "validation_step", "validation_loss"], None, "")
        for steps, losses in (("step", "loss"), ("validation_step", "validation_loss")):
            found = getattr(self, steps).shape, getattr(self, losses).shape
            if len(found[0]) != 1 or found[0] != found[1]:
                raise ComparisonError(
                    f"a training curve has one loss a step, found {steps} of shape {found[0]} and "
                    f"{losses} of shape {found[1]}"
                )

    def rows(self) -> Iterator[Row]:
        """One a step, of the training loss and then of the validation loss."""
        for split, steps, losses in (
            ("training", self.step, self.loss),
            ("validation", self.validation_step, self.validation_loss),
        ):
            for step, loss in zip(steps, losses, strict=True):
                yield {"model": one_line(self.label), "split": split, "step": round(float(step)),
                       "loss": float(loss)}  # fmt: skip

    def summary(self) -> str:
        """The last losses, in nats a token."""
        parts = [
            f"{name} loss {losses[-1]:.3f} after step {steps[-1]:,.0f}"
            for name, steps, losses in (
                ("training", self.step, self.loss),
                ("validation", self.validation_step, self.validation_loss),
            )
            if len(losses)
        ]
        return f"{self.label}: {', '.join(parts) or 'no step yet'}"
