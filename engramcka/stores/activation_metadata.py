"""What an activation store holds beside its hidden states: its attributes and its sample table.

Attributes are checked against types and bounds when they are read. The sample table is a column an
array, each of one chunk. Text is Zarr's `vlen-utf8`: a count, and before each string the number of
its bytes. Older tables are compressed, and unpacked to no more than a column can hold.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engramcka.errors import StoreError
from engramcka.plain_text import first_line
from engramcka.stores import layout, nodes
from engramcka.stores.nodes import CRC_BYTES, chunk_file, read_file, require_one_chunk, verified

_MOST_BYTES = 1 << 30  # of one column
_MOST_COLUMNS = 1000
_COUNT_BYTES = 4
_MAGIC = b"\x28\xb5\x2f\xfd"  # of a frame of zstd

Columns = dict[str, np.ndarray[Any, Any]]  # name -> (samples,)
Dtype = Literal["float32", "float16", "bfloat16"]
_Text = Annotated[str, Field(max_length=10_000)]
_Count = Annotated[int, Field(ge=0, le=1 << 48)]
_ARRAYS = rf"^(layer_[0-9]{{2,6}}|{layout.READOUTS}/[A-Za-z0-9_.-]{{1,100}})$"
_Name = Annotated[str, Field(pattern=_ARRAYS)]


def write_samples(group: Any, samples: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write the table into a group that `zarr` is making."""
    import zarr
    from zarr.codecs import Crc32cCodec

    table = group.create_group(layout.SAMPLES)
    with zarr.config.set(layout.KEEP_ZEROS):
        for name, column in samples.items():
            values = column.astype(str) if column.dtype.kind in "OU" else column
            table.create_array(
                name,
                shape=values.shape,
                dtype=str if values.dtype.kind == "U" else values.dtype,
                chunks=(max(1, len(values)),),
                compressors=[Crc32cCodec()],
                dimension_names=("sample",),
            )[...] = values


def read_samples(store: Path, count: int) -> Columns:
    """The table of a store of ``count`` samples.

    Raises:
        StoreError: a column is missing, damaged, or not as engramcka writes them; names it.
    """
    folder = store / layout.SAMPLES
    nodes.read_group(folder, store)
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name != nodes.ZARR_JSON)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be read ({error.strerror or error})") from error
    if len(names) > _MOST_COLUMNS:
        raise StoreError(f"{folder}: cannot be read ({len(names):,} columns)")
    return {name: _column(folder / name, count, store) for name in names if name[0] != "."}


def _column(folder: Path, count: int, store: Path) -> np.ndarray[Any, Any]:
    node = nodes.read_array(folder, store)
    if node.shape != (count,):
        raise StoreError(f"{folder}: cannot be read (not of {count:,} samples)")
    first = nodes.VLEN_UTF8 if node.data_type == nodes.STRING else nodes.BYTES
    if node.codecs not in ((first, nodes.CRC32C), (first, nodes.ZSTD)):
        nodes.require(node, (first, nodes.CRC32C))
    path, packed = chunk_file(node), node.codecs[1] == nodes.ZSTD
    is_text = node.data_type == nodes.STRING
    size = _MOST_BYTES if is_text else require_one_chunk(node, _MOST_BYTES)
    content = read_file(path, size + CRC_BYTES, store) if count else b""
    if packed and count:
        content = _unpacked(content, path, size)
    elif count:
        content = verified(content, path, None if is_text else size)
    if is_text:
        return np.array(_strings(content, path, count), dtype=np.dtypes.StringDType())
    if len(content) != size:
        raise StoreError(f"{path}: cannot be read ({len(content):,} bytes, not {size:,})")
    return np.frombuffer(content, np.dtype(node.data_type).newbyteorder("<")).copy()


def _unpacked(content: bytes, path: Path, most: int) -> bytes:
    """What one frame of zstd holds, if that is no more than ``most`` bytes."""
    from numcodecs.zstd import Zstd

    try:
        size = _frame_bytes(content)
        if size > most:
            raise ValueError(f"unpacks to {size:,} bytes, more than ours ever do")
        return bytes(Zstd().decode(content, bytearray(size))) if size else b""
    except (IndexError, RuntimeError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({first_line(error)})") from error


def _frame_bytes(content: bytes) -> int:
    """Bytes that a frame of zstd says it holds (RFC 8878, 3.1.1.1).

    Raises:
        ValueError: no frame of zstd, or it does not say.
    """
    flags = content[4] if content[:4] == _MAGIC else 0
    single, width = flags >> 5 & 1, (1, 2, 4, 8)[flags >> 6]
    if content[:4] != _MAGIC or not (single or flags >> 6):
        raise ValueError("no frame of zstd that says how large it is")
    start = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    size = int.from_bytes(content[start : start + width], "little")
    return size + 256 if width == 2 else size


def _strings(content: bytes, path: Path, count: int) -> list[str]:
    """The strings of a chunk of `vlen-utf8`; what follows them is ignored."""
    found: list[str] = []
    try:
        if count and int.from_bytes(content[:_COUNT_BYTES], "little") != count:
            raise ValueError("another count")
        at = _COUNT_BYTES
        for _ in range(count):
            start = at + _COUNT_BYTES
            at = start + int.from_bytes(content[at:start], "little")
            if start > len(content) or at > len(content):
                raise ValueError("cut short")
            found.append(content[start:at].decode())
    except ValueError as error:
        raise StoreError(f"{path}: cannot be read ({first_line(error)})") from error
    return found


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
    asked: _Count | Literal["all"] = 0
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
