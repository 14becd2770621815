"""A training as a value: what it is made from, and the folder that it leaves. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engramcka.config import Config, EngramConfig
from engramcka.errors import StoreError
from engramcka.pipeline.backbones import Backbone
from engramcka.stores import manifest
from engramcka.stores.provenance import digest

# Keys of [training] that leave the trained model as it is (the number of ranks, but for rounding).
_WITHOUT_EFFECT = {"checkpoints", "save_every", "data_parallel"}
_STEP_DECAY = {"decay_at", "decay_factor"}  # nor do these, under another schedule


TOKENIZER = "tokenizer"  # folder of the run's tokenizer, beside those of its trainings


@dataclass(frozen=True)
class TrainingSpec:
    """One training: a backbone, with Engram modules or without, under one seed."""

    backbone: Backbone
    engram: EngramConfig | None
    seed: int
    inputs: Mapping[str, Any]  # JSON: all that decides the trained model
    experts: int | None = None  # routed experts a block in place of the preset's

    @property
    def name(self) -> str:
        """Folder name: backbone, experts, module and seed for people, then a digest of the rest."""
        module = f"-engram{'+'.join(map(str, self.engram.layers))}" if self.engram else ""
        experts = f"-experts{self.experts}" if self.experts is not None else ""
        return f"{self.backbone.name}{experts}{module}-seed{self.seed}-{digest(self.inputs)}"


def training_spec(
    config: Config,
    backbone: Backbone,
    engram: EngramConfig | None,
    seed: int,
    experts: int | None = None,
) -> TrainingSpec:
    """The training of one backbone under the run's ``[training]`` and ``[data]``."""
    decay = set() if config.training.schedule == "step" else _STEP_DECAY
    inputs = {
        **backbone.inputs,
        "engram": engram.model_dump(mode="json") if engram else None,
        "training": config.training.model_dump(mode="json", exclude=_WITHOUT_EFFECT | decay),
        "seed": seed,
        **({} if experts is None else {"experts": experts}),
    }
    return TrainingSpec(backbone, engram, seed, inputs, experts)


@contextmanager
def retraining_damaged(folder: Path) -> Iterator[None]:
    """Where a training's folder is not what was written, let the next run train it again."""
    try:
        yield
    except StoreError as error:
        manifest.mark_incomplete(folder)
        raise StoreError(f"{error}; run stage train to make it again") from error
