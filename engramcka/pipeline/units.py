"""One training as a value: what it is made from and the folder it leaves. Knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engramcka.config import Config, EngramConfig, TrainedModel
from engramcka.data.corpora import corpus_inputs
from engramcka.stores.provenance import digest

# Keys of [training] that leave the trained model as it is (the number of ranks, but for rounding).
_WITHOUT_EFFECT = {"checkpoints", "save_every", "data_parallel"}
_STEP_DECAY = {"decay_at", "decay_factor"}  # nor do these, under another schedule


@dataclass(frozen=True)
class Unit:
    """One training: what it is made from and the folder it leaves."""

    preset: str
    engram: EngramConfig | None
    seed: int
    inputs: Mapping[str, Any]
    experts: int | None = None  # routed experts a block in place of the preset's

    @property
    def name(self) -> str:
        """Folder name: what a person looks for, then a digest of all the rest."""
        module = f"-engram{'+'.join(map(str, self.engram.layers))}" if self.engram else ""
        experts = f"-experts{self.experts}" if self.experts is not None else ""
        return f"{self.preset}{experts}{module}-seed{self.seed}-{digest(self.inputs)}"


def unit_of(
    config: Config,
    preset: str,
    engram: EngramConfig | None,
    seed: int,
    experts: int | None = None,
) -> Unit:
    """The training of one preset, with or without Engram, under one seed."""
    decay = set() if config.training.schedule == "step" else _STEP_DECAY
    inputs = {
        "tokenizer": tokenizer_inputs(config),
        "preset": preset,
        "engram": engram.model_dump(mode="json") if engram else None,
        "training": config.training.model_dump(mode="json", exclude=_WITHOUT_EFFECT | decay),
        "seed": seed,
        **({} if experts is None else {"experts": experts}),
    }
    return Unit(preset, engram, seed, inputs, experts)


def model_units(config: Config) -> dict[str, Unit]:
    """The training of every model of source "train", by the model's name."""
    return {
        name: unit_of(config, model.preset, model.engram, config.run.seed)
        for name, model in config.models.items()
        if isinstance(model, TrainedModel)
    }


def tokenizer_inputs(config: Config) -> dict[str, Any]:
    """What the tokenizer is made from."""
    return {"data": corpus_inputs(config.data), "vocabulary": config.data.vocabulary}
