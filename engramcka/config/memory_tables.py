"""``engram`` of a model: memory modules that are made here, and those of models made elsewhere."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from engramcka.config.tables import Layer, Seed, Table


def _rows_a_head(given: int | tuple[int, ...]) -> int | tuple[int, ...]:
    numbers = (given,) if isinstance(given, int) else given
    if not numbers or min(numbers) < 2:
        raise ValueError(
            f"found {given if isinstance(given, int) else list(given)}; allowed: 2 or "
            "more, or a list of such with a number for each of orders"
        )
    return given


Rows = Annotated[int | tuple[int, ...], AfterValidator(_rows_a_head)]


class EngramConfig(Table):
    """``engram`` of a model: one Engram module at the input of each named block (paper, section 2).

    d_mem is split over the orders and heads: d_mem / (len(orders) * heads) columns a table.
    """

    layers: tuple[Layer, ...] = Field(
        min_length=1, description="blocks whose input gets a module, counted from 1"
    )
    table_size: Rows = Field(
        4096,
        description="rows a head, 2 or more, or a list of such for each of `orders`; each head "
        "takes the next unused prime from here",
    )
    d_mem: int = Field(128, ge=1, description="width of one retrieved memory, all heads together")
    heads: int = Field(4, ge=1, description="hash heads K for each n-gram order")
    orders: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (2, 3), min_length=1, description="n-gram orders that are looked up"
    )
    kernel_size: int = Field(4, ge=1, description="taps of the short causal convolution")
    gating: Literal["signed-sqrt", "plain", "constant", "none"] = Field(
        "signed-sqrt",
        description="gate's score: signed square root (the authors' code), plain (equation 4), "
        "constant: one learned number a stream, whatever the token; or none: every memory is let "
        "through",
    )
    control: Literal["none", "one-row", "unkeyed-rows", "random-rows", "no-table"] = Field(
        "none",
        description="something else in the memory's place, to see whether it is memory that helps: "
        "one-row: every n-gram finds the first row of each table; unkeyed-rows: rows are found by "
        "the last 12 tokens, which hardly ever come back; random-rows: tables stay as they were "
        "drawn; no-table: a projection of the stream in place of the rows",
    )
    compression: bool = Field(
        True, description="fold tokens that differ only in case, accents or space (section 2.2)"
    )
    convolution: bool = Field(True, description="short convolution after the gate (equation 5)")
    fusion: Literal["streams", "pre-mapping", "mean"] = Field(
        "streams",
        description="where there are several residual streams: streams: a gate for each (section "
        "2.4); pre-mapping: one module on what the block's attention reads of them (Figure 5, "
        "without multi-branch); mean: one gate on their mean",
    )
    gate_eps: float = Field(
        1e-6,
        ge=0.0,
        description="added to the mean square in the gate's norms; the authors' code: 1.1920929e-7",
    )
    convolution_eps: float = Field(
        1e-6,
        ge=0.0,
        description="the same in the convolution's norm; the authors' code: 1e-5",
    )
    hashing: Literal["own", "authors"] = Field(
        "own",
        description="own: blocks count from 1 in the multipliers' seed, tokens that are no text "
        "keep ids of their own; authors: the row numbers of the authors' code (docs/engram.md)",
    )
    documents: Literal["apart", "joined"] = Field(
        "apart",
        description="apart: n-grams and convolution begin anew after an end-of-text token and "
        "where position ids begin again at 0; joined: they reach across",
    )
    host_memory: bool = Field(
        False,
        description="keep the tables in host memory and fetch rows ahead (section 6.4); on a CPU "
        "too, training then makes gradients of the rows it looks up alone, not of whole tables",
    )
    seed: Seed = Field(0, description="seed of the hash multipliers")

    @property
    def sizes(self) -> dict[int, int]:
        """Rows a head of each order, orders ascending."""
        given = self.table_size
        rows = (given,) * len(self.orders) if isinstance(given, int) else given
        return dict(sorted(zip(self.orders, rows, strict=True)))

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
        if isinstance(self.table_size, tuple) and len(self.table_size) != len(self.orders):
            raise ValueError(
                f"table_size = {list(self.table_size)} has {len(self.table_size)} numbers for "
                f"{len(self.orders)} orders {list(self.orders)}; give one number, or one an order"
            )
        return self


class MemoryTable(Table):
    """``engram`` of a model that is loaded: its memory modules, where they are none that are known.

    Known are Engram modules made here, Qwen4's (`qwen4_exp`) and DeepSeek-V4.1's. Names of parts
    are those of modules inside the memory module.
    """

    module: str = Field(
        min_length=1,
        description="the memory modules: a pattern over module names, as `model.layers.*.memory` "
        "(one that begins with ^ is a regular expression)",
    )
    gives: Literal["addition", "stream"] = Field(
        "addition",
        description="what a module gives: what others add to the residual stream, or the stream "
        "with the memory added",
    )
    gate: str | None = Field(
        None,
        min_length=1,
        description="part that gives the gate alpha, in [0, 1]: (batch, tokens) or (batch, "
        "tokens, streams)",
    )
    key: str | None = Field(
        None,
        min_length=1,
        description="where no part gives the gate: part that gives the normed keys",
    )
    query: str | None = Field(
        None, min_length=1, description="part that gives the normed streams, beside `key`"
    )
    score: Literal["signed-sqrt", "plain"] = Field(
        "signed-sqrt",
        description="alpha of `key` and `query`: sigmoid of the signed root of their scaled "
        "product, or of the product",
    )
    table: str | None = Field(
        None, min_length=1, description="part that takes row numbers and gives rows of the table"
    )
    value: str | None = Field(
        None,
        min_length=1,
        description="linear part from all rows of a token to the value; the rows themselves if "
        "left out",
    )
    orders: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="n-gram orders whose rows stand side by side, shortest first"
    )
    token_map: str | None = Field(
        None,
        min_length=1,
        description="integer tensor (vocabulary,) that folds token ids before they are hashed, by "
        "its name in the model; none if they are hashed as they are; without it collisions are "
        "not counted",
    )

    @model_validator(mode="after")
    def _fits(self) -> MemoryTable:
        if self.gate and (self.key or self.query):
            raise ValueError("gate and key with query are two ways to the gate; give one")
        if bool(self.key) != bool(self.query):
            raise ValueError("key and query go together; give both")
        if list(self.orders) != sorted(set(self.orders)):
            raise ValueError(
                f"orders = {list(self.orders)}: in the order in which their rows stand, which has "
                "to be rising, each once"
            )
        if bool(self.orders) != bool(self.table):
            raise ValueError("table and orders go together: what the table gives is cut by orders")
        return self
