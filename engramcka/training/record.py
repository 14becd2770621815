"""The record of a finished training, and the progress of one that is running. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engramcka.stores import manifest

RECORD = "training.json"

Readings = tuple[tuple[int, float], ...]  # (step, value), steps rising


@dataclass(frozen=True)
class TrainingRecord:
    """What training one model gave; losses are means in nats a token."""

    validation_loss: float
    training_loss: Readings  # mean loss since the entry before
    validation_losses: Readings  # at the steps kept, and the last
    expert_imbalance: Readings  # see `engramcka.training.balancing`; empty without experts
    steps: int
    tokens: int
    parameters: int
    device: str
    seconds: float
    sequence_losses: tuple[float, ...] = ()  # of each validation sequence after the last step
    sequence_documents: tuple[int, ...] = ()  # which validation document each is from

    def write(self, folder: Path, inputs: dict[str, Any]) -> None:
        """Write the record, with what the model was made from, into a folder."""
        text = json.dumps({**asdict(self), "inputs": inputs}, indent=1)
        (folder / RECORD).write_text(text, encoding="utf-8")


def read_record(folder: Path) -> TrainingRecord | None:
    """The record of a finished training, or None if there is none in this folder.

    Raises:
        StoreError: it is not what was written.
    """
    if not (folder / RECORD).exists():
        return None
    manifest.require_intact_file(folder, RECORD, folder.name)
    values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    values.pop("inputs", None)
    for name in ("training_loss", "validation_losses", "expert_imbalance"):
        values[name] = tuple(readings(values[name]))
    for name in ("sequence_losses", "sequence_documents"):
        values[name] = tuple(values.get(name, ()))
    return TrainingRecord(**values)


def readings(values: Any) -> list[tuple[int, float]]:
    """Pairs of step and value as JSON gives them."""
    return [(int(step), float(value)) for step, value in values]


@dataclass
class Progress:
    """What a training has recorded so far; a resumed training continues it."""

    step: int = 0  # optimiser steps done
    seconds: float = 0.0  # of the processes before this one
    training_loss: list[tuple[int, float]] = field(default_factory=list)
    validation_losses: list[tuple[int, float]] = field(default_factory=list)
    expert_imbalance: list[tuple[int, float]] = field(default_factory=list)
    pending_loss: float = 0.0  # float32 sum of the losses since the last entry
    pending_steps: int = 0
    pending_loads: list[list[int]] = field(default_factory=list)  # (routers, experts) since then

    def to_json(self) -> dict[str, Any]:
        """Plain values; JSON keeps floats bit for bit."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Progress:
        """The progress that `to_json` gave; raises TypeError or ValueError for anything else."""
        lists = ("training_loss", "validation_losses", "expert_imbalance")
        found = cls(**{**values, **{name: readings(values[name]) for name in lists}})
        found.pending_loads = [[int(load) for load in loads] for loads in found.pending_loads]
        found.step, found.pending_steps = int(found.step), int(found.pending_steps)
        found.seconds, found.pending_loss = float(found.seconds), float(found.pending_loss)
        return found
