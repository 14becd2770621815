"""``[training]`` and ``[[sweep]]``: how models are trained, and what is trained again and again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engramcka.config.tables import Layer, Name, Seed, Table


class TrainingTable(Table):
    """``[training]``: how every model of source "train" and every sweep point is trained."""

    steps: int = Field(100, ge=1, description="optimiser steps")
    batch_size: int = Field(16, ge=1, description="sequences a step")
    sequence_length: int = Field(128, ge=8, description="tokens a sequence")
    learning_rate: float = Field(3e-3, gt=0.0, description="peak rate; Engram tables get 5 x")
    weight_decay: float = Field(0.1, ge=0.0, description="on matrices; Engram tables get none")
    warmup_steps: int = Field(10, ge=0, description="steps of linear warm-up, then cosine decay")
    validation_sequences: int = Field(
        64, ge=1, description="held-out sequences the validation loss is taken over"
    )
    checkpoints: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (),
        description='steps after which a model of source "train" is also kept as it is then; '
        "after the last step it always is",
    )

    @model_validator(mode="after")
    def _kept_on_the_way(self) -> TrainingTable:
        steps = self.checkpoints
        if list(steps) != sorted(set(steps)) or (steps and steps[-1] >= self.steps):
            raise ValueError(
                f"checkpoints = {list(steps)}: steps in rising order, from 1 to {self.steps - 1} "
                f"(steps - 1), since the model after step {self.steps} is kept anyway"
            )
        return self


class SweepTable(Table):
    """``[[sweep]]``: the model trained again with its Engram module at one block after another."""

    name: Name = Field(description="name of the sweep")
    model: str = Field(description="trained model whose Engram module is moved")
    layers: tuple[Layer, ...] | Literal["all"] = Field(
        "all", description="insertion layers, counted from 1"
    )
    seeds: tuple[Seed, ...] = Field(
        (), description="a training of every point for each; run.seed alone if left out"
    )
    baseline: bool = Field(True, description="also train the model without Engram")
