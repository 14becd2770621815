"""The attributes of an activation store, held against types and bounds where they come in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engramcka.errors import StoreError
from engramcka.stores import layout

Dtype = Literal["float32", "float16", "bfloat16"]
_Text = Annotated[str, Field(max_length=10_000)]
_Count = Annotated[int, Field(ge=0, le=1 << 48)]
_ARRAYS = rf"^(layer_[0-9]{{2,6}}|{layout.READOUTS}/[A-Za-z0-9_.-]{{1,100}})$"
_Name = Annotated[str, Field(pattern=_ARRAYS)]


class StoreAttributes(BaseModel):
    """The attributes that something depends on; others are kept as they are, and only shown."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    version: int = Field(alias=layout.VERSION)
    name: _Text = ""  # of the store, without its ending; from version 3
    n_samples: int = Field(ge=1, le=1 << 48)
    chunk_samples: int = Field(ge=1, le=1 << 31)
    dtype: Dtype
    arrays: list[_Name] = Field(max_length=100_000)
    inputs: dict[str, Any]
    label: _Text = ""
    corpus: _Text | None = None
    identity: _Text = ""
    model: dict[str, Any] | str | None = None
    step: int | None = None
    lens_version: int | None = None
    asked: _Count = 0
    drawn: _Count = 0
    documents: _Count = 0
    most_of_a_document: _Count = 0
    skipped: _Count = 0
    repeated: _Count = 0
    left_out: dict[_Text, _Count] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _adds_up(self) -> StoreAttributes:
        if self.n_chunks > layout.MAX_CHUNKS:
            raise ValueError(f"{self.n_chunks:,} chunks, more than ours ever have")
        if len(set(self.arrays)) != len(self.arrays):
            raise ValueError("arrays named twice")
        return self

    @property
    def n_chunks(self) -> int:
        """Chunks of samples."""
        return -(-self.n_samples // self.chunk_samples)

    def salt(self, array: str, chunk: int) -> bytes:
        """What the fingerprint of a chunk holds beside its data: whose it is."""
        return f"{self.name}/{array}/{chunk}".encode() if self.version > 2 else b""


def store_attributes(path: Path, attributes: Mapping[str, Any]) -> StoreAttributes:
    """The attributes of the store at ``path``.

    Raises:
        StoreError: not those of an activation store in a version that we read, or one of them is
            not what it can be; names it.
    """
    layout.check_version(path, attributes, "activations")
    try:
        found = StoreAttributes.model_validate(attributes)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:100]
        what = f"attribute {where}: {first['msg']}" if where else first["msg"]
        raise StoreError(f"{path}: not an activation store of ours ({what[:200]})") from error
    if path.parent.name == layout.ACTIVATIONS and found.name not in ("", path.stem):
        raise StoreError(
            f"{path}: holds the hidden states of {found.name!r}, and not of {path.stem!r}: stores "
            "have changed places; give each its own name back"
        )
    return found
