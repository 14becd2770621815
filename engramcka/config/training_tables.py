"""``[training]`` and ``[[sweep]]``: how models are trained, and what is trained again and again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engramcka.config.tables import Layer, Name, Seed, Table

Balancing = Literal["none", "loss-free", "auxiliary"]


class TrainingTable(Table):
    """``[training]``: how every model of source "train" and every sweep point is trained."""

    steps: int = Field(100, ge=1, description="optimiser steps")
    batch_size: int = Field(16, ge=1, description="sequences a step")
    sequence_length: int = Field(128, ge=8, description="tokens a sequence")
    documents: Literal["apart", "joined"] = Field(
        "apart",
        description="documents stand end to end in a sequence: apart: position ids begin again "
        "after an end-of-text token, and transformers keeps attention within each document; "
        "joined: a sequence is one text (also for models that take no position ids)",
    )
    learning_rate: float = Field(3e-3, gt=0.0, description="peak rate; Engram tables get 5 x")
    weight_decay: float = Field(0.1, ge=0.0, description="on matrices; Engram tables get none")
    warmup_steps: int = Field(10, ge=0, description="steps of linear warm-up, then the schedule")
    schedule: Literal["cosine", "step"] = Field(
        "cosine",
        description="the rate after the warm-up: cosine: half a cosine down to a tenth; step: "
        "multiplied by decay_factor at each of decay_at (the paper's kind)",
    )
    decay_at: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = Field(
        (0.6, 0.9),
        min_length=1,
        description="shares of the steps after which schedule step lowers the rate; the Engram "
        "paper prints none, these are DeepSeek-V2's",
    )
    decay_factor: float = Field(
        0.316, gt=0.0, le=1.0, description="of schedule step; DeepSeek-V2's"
    )
    validation_sequences: int = Field(
        64, ge=1, description="held-out sequences the validation loss is taken over"
    )
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw",
        description="muon: hidden matrices by Muon (the paper's), each expert's by itself, the "
        "rest by AdamW; its steps are scaled so that learning_rate means the same",
    )
    balancing: Balancing = Field(
        "none",
        description="how experts' loads are evened out: loss-free (a bias on the choice, the "
        "paper's), auxiliary (a term in the loss), or none",
    )
    balancing_rate: float = Field(
        1e-3,
        gt=0.0,
        description="step of the loss-free bias, or weight of the auxiliary loss; the default is "
        "DeepSeek-V3's, for runs of thousands of steps: the bias moves by at most rate x steps and "
        "scores differ by up to 1, so a run of 100 steps wants about 1e-2",
    )
    data_parallel: bool = Field(
        False,
        description="under torchrun or srun, all ranks train one model together, batch_size shared "
        "out over them; false: each rank trains models of its own",
    )
    save_every: int = Field(
        200, ge=1, description="steps between two saved states, from which a killed run goes on"
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

    @model_validator(mode="after")
    def _decays_later_and_later(self) -> TrainingTable:
        if list(self.decay_at) != sorted(set(self.decay_at)):
            raise ValueError(f"decay_at = {list(self.decay_at)}: shares in rising order")
        return self


Ablation = Literal[
    "multi-branch", "compression", "gating", "convolution", "4-grams", "two-layers",
    "one-row", "unkeyed-rows", "random-rows", "constant-gate", "no-table",
]  # fmt: skip


class RetrainedTable(Table):
    """What all sweeps over trainings of one model have."""

    name: Name = Field(description="name of the sweep")
    model: str = Field(description="trained model with an Engram module")
    seeds: tuple[Seed, ...] = Field(
        (), description="a training of every point for each; run.seed alone if left out"
    )


class SweepTable(RetrainedTable):
    """``[[sweep]]``: the model trained again with its Engram module at one block after another."""

    model: str = Field(description="trained model whose Engram module is moved")
    layers: tuple[Layer, ...] | Literal["all"] = Field(
        "all", description="insertion layers, counted from 1"
    )
    baseline: bool = Field(True, description="also train the model without Engram")
    ablations: tuple[Ablation, ...] = Field(
        (),
        description="also train the model at its own layers without one part, with as many Engram "
        "parameters; two-layers: its memory split over two",
    )
    split: tuple[Layer, Layer] | None = Field(
        None,
        description="layers of two-layers; the first of the model's and the middle block if left "
        "out (2 and 6 of 12, as in the paper)",
    )
    references: tuple[str, ...] = Field(
        (), description="trained models whose loss is drawn as a line, under the same seeds"
    )

    @model_validator(mode="after")
    def _once(self) -> SweepTable:
        _refuse_twice(self, "layers", "seeds", "ablations", "references")
        return self


class AllocationTable(RetrainedTable):
    """``[[allocation]]``: sparse parameters shared between experts and memory (paper, Figure 3).

    Every point has as many parameters in all as the model without Engram: experts are taken out
    and the table rows are solved for.
    """

    model: str = Field(
        description="trained model whose preset gives up experts for its Engram modules"
    )
    rho: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...] = Field(
        min_length=1,
        description="share of the sparse parameters that experts keep; 1: no memory at all",
    )

    @model_validator(mode="after")
    def _once(self) -> AllocationTable:
        _refuse_twice(self, "rho", "seeds")
        return self


class SlotsTable(RetrainedTable):
    """``[[slots]]``: the model trained again with larger and larger memory tables, all else alike.

    Paper, Figure 3 (right). A slot is a row of a table; the result counts those of all tables.
    """

    model: str = Field(description="trained model whose Engram tables grow")
    table_size: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        min_length=1, description="rows a head, in place of the model's own engram.table_size"
    )
    baseline: bool = Field(True, description="also train the model without Engram")

    @model_validator(mode="after")
    def _once(self) -> SlotsTable:
        _refuse_twice(self, "table_size", "seeds")
        return self


def _refuse_twice(table: Table, *keys: str) -> None:
    for key in keys:
        values = getattr(table, key)
        if not isinstance(values, str) and len(set(values)) < len(values):
            raise ValueError(f"{key} = {list(values)} names one twice")
