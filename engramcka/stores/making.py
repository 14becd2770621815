"""The arrays of an activation store: made empty, and recognised when they are opened again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from engramcka.errors import StoreError
from engramcka.stores import layout
from engramcka.stores.shards import LEVEL, Grid

_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC = {"name": "crc32c"}


def add_sharded(
    group: zarr.Group,
    name: str,
    dtype: str,
    size: tuple[int, int, int, int],
    compression: str,
    dimension: str,
    attributes: Mapping[str, Any],
) -> None:
    """An empty array of samples.

    Args:
        group: to put it into.
        name: of the array.
        dtype: of its words.
        size: samples, width, rows of a shard, rows of a part.
        compression: "none" or "zstd".
        dimension: name of its second dimension.
        attributes: JSON.
    """
    n_samples, width, rows, part = size
    group.create_array(
        name,
        shape=(n_samples, width),
        shards=(rows, width),
        chunks=(part, width),
        dtype=dtype,
        compressors=[*([ZstdCodec(level=LEVEL)] if compression == "zstd" else []), Crc32cCodec()],
        dimension_names=("sample", dimension),
        attributes=dict(attributes),
    )


def add_written(group: zarr.Group, n_chunks: int, n_arrays: int) -> None:
    """The array of sizes and checksums, a file a row."""
    group.create_array(
        "written",
        shape=(n_chunks, n_arrays, 2),
        chunks=(1, n_arrays, 2),
        dtype="uint64",
        compressors=[Crc32cCodec()],
        dimension_names=("chunk", "array", "size_and_crc32c"),
    )


def add_samples(group: zarr.Group, samples: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """The sample table, a column an array."""
    table = group.create_group("samples")
    with zarr.config.set(layout.KEEP_ZEROS):
        for name, column in samples.items():
            values = column.astype(str) if column.dtype.kind in "OU" else column
            table.create_array(
                name,
                shape=values.shape,
                dtype=str if values.dtype.kind == "U" else values.dtype,
                chunks=(len(values),),
                dimension_names=("sample",),
            )[...] = values


def grid_of(array: Any) -> Grid:
    """How an array made by `add_sharded` is cut up.

    Raises:
        StoreError: it was made in another way.
    """
    found = array.metadata.to_dict()
    codecs = list(found["codecs"])
    inner = codecs[0]["configuration"] if codecs[0]["name"] == "sharding_indexed" else {}
    plain = [_name_only(codec) for codec in inner.get("codecs", ())]
    ours = (
        len(codecs) == 1
        and plain in ([_BYTES, _CRC], [_BYTES, {"name": "zstd"}, _CRC])
        and [_name_only(codec) for codec in inner["index_codecs"]] == [_BYTES, _CRC]
        and inner["index_location"] == "end"
        and found["chunk_key_encoding"]["name"] == "default"
        and array.ndim == 2
        and array.chunks[1] == array.shards[1] == array.shape[1]
        and array.dtype.name in ("uint16", "float16", "float32")
    )
    if not ours:
        raise StoreError(f"{array.store_path}: not stored as engramcka stores hidden states")
    n_samples, width = array.shape
    rows, part = array.shards[0], array.chunks[0]
    return Grid(n_samples, width, array.dtype, rows, part, compressed=len(plain) == 3)


def _name_only(codec: Mapping[str, Any]) -> dict[str, Any]:
    """A codec as JSON, without the options that do not change how it is read."""
    if codec["name"] == "bytes":
        return {"name": "bytes", "configuration": dict(codec["configuration"])}
    return {"name": codec["name"]}
