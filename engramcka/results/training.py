"""How one training went: loss against steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.results.statistics import Float


@dataclass(frozen=True, eq=False)
class TrainingCurve:
    """Training loss by step, and the validation loss where it was taken; nats a token."""

    step: Float  # (entries,), optimiser steps done
    loss: Float  # (entries,), mean training loss since the entry before
    validation_step: Float  # (checks,)
    validation_loss: Float  # (checks,)
    label: str = "model"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("step", "loss", "validation_step", "validation_loss"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        for steps, losses in (("step", "loss"), ("validation_step", "validation_loss")):
            found = getattr(self, steps).shape, getattr(self, losses).shape
            if len(found[0]) != 1 or found[0] != found[1]:
                raise ComparisonError(
                    f"a training curve has one loss a step, found {steps} of shape {found[0]} and "
                    f"{losses} of shape {found[1]}"
                )

    def _repr_png_(self) -> bytes:
        """The curve as a notebook shows it."""
        return bytes(import_module("engramcka.figures").notebook_png(self))
