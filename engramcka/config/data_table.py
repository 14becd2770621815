"""``[data]``: the text and the token positions in it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engramcka.config.tables import Table


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
