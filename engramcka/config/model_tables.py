"""``[models.NAME]``: where a model comes from, and the Engram modules grafted onto it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engramcka.config.tables import Label, Layer, Seed, Table


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
