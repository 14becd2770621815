"""The tables of config.toml as typed, validated objects.

Each field's description is its documentation: the README's table and ``engramcka init`` are made
from it. A key that is not here is an error. Knows nothing of files; `engramcka.config.loading`
reads them and says where in the file a value stands.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from engramcka.config.source import ConfigSource, KeyPath
from engramcka.errors import ConfigError


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            "a name is made of letters, digits, '.', '_' and '-' (at most 100, the first a letter "
            "or a digit), since it names files"
        )
    return name


def _one_line(text: str) -> str:
    if not text.isprintable() or len(text) > 200:
        raise ValueError("a label is one line of at most 200 printable characters")
    return text


Name = Annotated[str, AfterValidator(_plain_name)]
Label = Annotated[str, AfterValidator(_one_line)]
Layer = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Table(BaseModel):
    """A table of the config: frozen, strict about types, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class RunTable(Table):
    """``[run]``: where the results go."""

    dir: str = Field(description="folder that holds the run; made if it is not there", min_length=1)
    seed: Seed = Field(0, description="seed of every random choice that has no seed of its own")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where models run: auto takes a GPU where there is one"
    )


class EngramConfig(Table):
    """``engram`` of a model: one Engram module at the input of each named block (paper, section 2).

    d_mem is split over the orders and heads: d_mem / (len(orders) * heads) columns a table.
    """

    layers: tuple[Layer, ...] = Field(
        min_length=1, description="blocks whose input gets a module, counted from 1"
    )
    table_size: int = Field(
        4096, ge=2, description="rows a head; each head takes the next unused prime from here"
    )
    d_mem: int = Field(128, ge=1, description="width of one retrieved memory, all heads together")
    heads: int = Field(4, ge=1, description="hash heads K for each n-gram order")
    orders: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (2, 3), min_length=1, description="n-gram orders that are looked up"
    )
    kernel_size: int = Field(4, ge=1, description="taps of the short causal convolution")
    gating: Literal["signed-sqrt", "plain", "none"] = Field(
        "signed-sqrt",
        description="gate's score: signed square root (the authors' code), plain (equation 4), "
        "or none: every memory is let through",
    )
    compression: bool = Field(
        True, description="fold tokens that differ only in case, accents or space (section 2.2)"
    )
    convolution: bool = Field(True, description="short convolution after the gate (equation 5)")
    multi_branch: bool = Field(
        True,
        description="with several residual streams, a gate for each (section 2.4); false: one "
        "gate on their mean",
    )
    host_memory: bool = Field(
        False,
        description="keep the tables in host memory and fetch rows ahead (section 6.4); no effect "
        "on CPU",
    )
    seed: Seed = Field(0, description="seed of the hash multipliers")

    @model_validator(mode="after")
    def _splits(self) -> EngramConfig:
        parts = len(self.orders) * self.heads
        if self.d_mem % parts:
            raise ValueError(
                f"d_mem = {self.d_mem} does not split over {len(self.orders)} orders x "
                f"{self.heads} heads = {parts} tables"
            )
        for name in ("layers", "orders"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} = {list(values)} names one twice")
        return self


class TrainedModel(Table):
    """``[models.NAME]`` with ``source = "train"``: built from a preset and trained in this run."""

    source: Literal["train"] = Field(description="where the model comes from")
    label: Label = Field("", description="name on axes and in tables; the table's name if empty")
    preset: str = Field(
        "moe-tiny", description="architecture by name, from moe-tiny to moe-27b and engram-40b"
    )
    engram: EngramConfig | None = Field(
        None, description="Engram modules grafted onto it; none if left out"
    )


class LoadedModel(Table):
    """``[models.NAME]`` with ``source = "hf"``: any causal LM that transformers knows."""

    source: Literal["hf"] = Field(description="where the model comes from")
    label: Label = Field("", description="name on axes and in tables; the table's name if empty")
    path: str = Field(min_length=1, description="local folder or hub name")
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="dtype of weights and hidden states; auto keeps the checkpoint's"
    )
    trust_remote_code: bool = Field(
        False, description="run Python code that comes with the checkpoint"
    )


ModelTable = Annotated[TrainedModel | LoadedModel, Field(discriminator="source")]


class DataTable(Table):
    """``[data]``: the text, and the token positions whose hidden states are compared."""

    source: Literal["python-stdlib"] = Field(
        "python-stdlib", description="the text: python-stdlib is the running Python's own library"
    )
    positions: Literal["entity-last"] = Field(
        "entity-last",
        description="which tokens: entity-last is the last one of every entity (a dotted name)",
    )
    samples: int = Field(4096, ge=4, description="entities compared, drawn without replacement")
    passage_length: int = Field(
        320, ge=16, description="characters of context that a model reads at once, whole lines"
    )
    max_length: int = Field(
        512, ge=8, description="tokens a passage; entities cut off by it are skipped and counted"
    )
    validation_share: float = Field(
        0.2, gt=0.0, lt=1.0, description="share of the files kept for validation and entities"
    )
    vocabulary: int = Field(
        4096, ge=300, le=1_000_000, description="size of the tokenizer made for trained models"
    )


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


class CkaTable(Table):
    """``[[cka]]``: a map of each layer of ``y`` (rows) against each layer of ``x`` (columns)."""

    name: Name = Field(description="name of the map")
    y: str = Field(description="model on the rows")
    x: str = Field(description="model on the columns")
    estimator: Literal["minibatch", "debiased", "biased"] = Field(
        "minibatch", description="minibatch is the paper's; debiased is exact over all samples"
    )
    batch_size: int = Field(1024, ge=4, description="samples a batch of the minibatch estimator")
    kernel: Literal["linear", "rbf"] = Field(
        "linear", description="rbf takes the median distance as its width; minibatch only"
    )
    standardize: Literal["none", "zscore", "drop-massive"] = Field(
        "none", description="zscore every dimension, or drop those of massive activations"
    )
    nonfinite: Literal["error", "drop"] = Field(
        "error", description="samples with NaN or infinity: an error, or dropped from both models"
    )
    permutations: int = Field(
        0, ge=0, description="shuffles of one side for the null distribution; 0 for none"
    )

    @model_validator(mode="after")
    def _has_kernel(self) -> CkaTable:
        if self.kernel == "rbf" and self.estimator != "minibatch":
            raise ValueError(
                f"kernel = 'rbf' needs estimator = 'minibatch', found {self.estimator!r}"
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


class Config(Table):
    """A whole config.toml."""

    run: RunTable = Field(description="where the results go")
    models: dict[Name, ModelTable] = Field({}, description="the models, a table each")
    data: DataTable = Field(DataTable(), description="the text and the positions in it")
    training: TrainingTable = Field(TrainingTable(), description="how models are trained")
    cka: tuple[CkaTable, ...] = Field((), description="similarity maps")
    sweep: tuple[SweepTable, ...] = Field((), description="layer sweeps")

    _source: ConfigSource = PrivateAttr(default_factory=ConfigSource)

    def label(self, model: str) -> str:
        """What a model is called on axes and in tables."""
        return self.models[model].label or model

    def seeds(self, sweep: SweepTable) -> tuple[int, ...]:
        """The seeds of a sweep: its own, or the run's."""
        return sweep.seeds or (self.run.seed,)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML or JSON, defaults written out, keys without a value left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def error(self, path: KeyPath, problem: str, allowed: str = "") -> ConfigError:
        """An error about the value at ``path``, with the file and line where it stands."""
        return self._source.error(path, problem, allowed)
