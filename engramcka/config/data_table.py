"""``[data]``: the text and the token positions in it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engramcka.config.tables import Place, Table

STDLIB = "python-stdlib"
ENTITY_POSITIONS = ("entity-last", "mean")
"""Positions that stand for an entity, and so need a source that marks entities."""

_FEW_NERD = "DFKI-SLT/few-nerd"  # its name on the hub
_KEYS_OF = {  # keys that mean something for some sources only
    "path": ("few-nerd", "hf", "jsonl", "parquet", "text"),
    "name": ("few-nerd", "hf"),
    "split": ("few-nerd", "hf"),
    "revision": ("few-nerd", "hf"),
    "text_column": ("hf", "jsonl", "parquet"),
    "entities_column": ("hf", "jsonl", "parquet"),
}


class DataTable(Table):
    """``[data]``: the text, and the token positions whose hidden states are compared."""

    source: Literal["python-stdlib", "few-nerd", "hf", "jsonl", "parquet", "text"] = Field(
        "python-stdlib",
        description="the text: the running Python's own library, Few-NERD in its Hugging Face "
        "schema, any data set that `datasets` loads, or files of rows or of text",
    )
    path: Place | None = Field(
        None,
        min_length=1,
        description="few-nerd, hf: local folder or hub name (few-nerd: DFKI-SLT/few-nerd if left "
        "out); jsonl, parquet, text: a file, a folder or a glob",
    )
    name: str | None = Field(
        None, description="configuration of a data set with several; of few-nerd's own: supervised"
    )
    split: str | None = Field(
        None, description="split of the data set; if left out, test for few-nerd, train for hf"
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub data set")
    text_column: str | None = Field(
        None, description="column of hf, jsonl and parquet that holds the text; `text` if left out"
    )
    entities_column: str | None = Field(
        None,
        description="their column of character spans {start, end, type}, for entity-last and mean; "
        "`entities` if left out",
    )
    documents: int | None = Field(
        None, ge=1, description="rows (files, sentences) read at most, from the start; all of them"
    )
    positions: Literal["entity-last", "last", "all", "random", "mean"] = Field(
        "entity-last",
        description="which tokens: last of every entity, last of every passage, all, those of "
        "randomly drawn words, or the mean over every entity's tokens",
    )
    samples: Annotated[int, Field(ge=4)] | Literal["all"] = Field(
        4096,
        description="samples compared, drawn without replacement; or all that the text holds, "
        "in its order, under `per_document` where that is set",
    )
    per_document: int | None = Field(
        None,
        ge=1,
        description="samples of one document at most, drawn at random, so that no long one "
        "outweighs the rest; no limit if left out",
    )
    skip_first: int = Field(
        0,
        ge=0,
        description="tokens at the start of every passage that are no sample, nor part of a mean, "
        "special tokens such as BOS not counted; a model's hidden states may be huge there",
    )
    passage_length: int | None = Field(
        None,
        ge=16,
        description="characters of context that a model reads at once, whole lines; if left out, "
        "320 for python-stdlib and text, and else the whole document",
    )
    max_length: int = Field(
        512, ge=8, description="tokens a passage; samples cut off by it are skipped and counted"
    )
    nonfinite: Literal["error", "keep"] = Field(
        "error",
        description="hidden states with NaN or infinity: an error that names layer and sample, or "
        "kept, for [[cka]] nonfinite to drop",
    )
    validation_share: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        description="share of the documents kept for validation and samples, the rest is trained "
        "on; if left out, 0.2 for python-stdlib and else 1",
    )
    vocabulary: int = Field(
        4096, ge=300, le=1_000_000, description="size of the tokenizer made for trained models"
    )

    @model_validator(mode="after")
    def _fits_the_source(self) -> DataTable:
        for key, sources in _KEYS_OF.items():
            if getattr(self, key) is not None and self.source not in sources:
                raise ValueError(
                    f"{key} = {getattr(self, key)!r} means nothing for source = {self.source!r}; "
                    f"it is for {', '.join(sources)}"
                )
        if self.skip_first >= self.max_length:
            raise ValueError(
                f"skip_first = {self.skip_first} leaves no token of a passage; allowed: 0 to "
                f"{self.max_length - 1}, below max_length"
            )
        if self.path is None and self.source not in (STDLIB, "few-nerd"):
            raise ValueError(f"source = {self.source!r} needs a path")
        if self.source == "text" and self.positions in ENTITY_POSITIONS:
            raise ValueError(
                f"positions = {self.positions!r} needs entities, source = 'text' has none; "
                "allowed: 'last', 'all', 'random'"
            )
        return self

    @property
    def count(self) -> int | None:
        """``samples`` as a number; None for all there are."""
        return None if self.samples == "all" else self.samples

    @property
    def place(self) -> str:
        """``path`` with the default of few-nerd filled in."""
        return self.path or _FEW_NERD

    @property
    def configuration(self) -> str | None:
        """``name`` with the default of few-nerd on the hub filled in."""
        return "supervised" if self.name is None and self.place == _FEW_NERD else self.name

    @property
    def chosen_split(self) -> str:
        """``split`` with the source's default filled in."""
        return self.split or ("test" if self.source == "few-nerd" else "train")

    @property
    def context_length(self) -> int | None:
        """``passage_length`` with the source's default filled in; None for whole documents."""
        if self.passage_length is None and self.source in (STDLIB, "text"):
            return 320
        return self.passage_length

    @property
    def held_out(self) -> float:
        """``validation_share`` with the source's default filled in."""
        if self.validation_share is not None:
            return self.validation_share
        return 0.2 if self.source == STDLIB else 1.0
