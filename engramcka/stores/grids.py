"""How an array of samples is cut up into shards and parts, and whether one is cut up so.

Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engramcka.errors import StoreError

CRC = 4  # bytes of a checksum
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC = {"name": "crc32c"}


@dataclass(frozen=True)
class Grid:
    """How an array of (samples, width) is cut up into shards of ``rows``, parts of ``part`` rows.

    ``rows`` is a multiple of ``part``; the last shard may reach past the last sample.
    """

    n_samples: int
    width: int
    dtype: np.dtype[Any]
    rows: int
    part: int
    compressed: bool  # zstd; else the bytes as they are

    @property
    def parts(self) -> int:
        """Parts of a shard."""
        return self.rows // self.part

    @property
    def part_bytes(self) -> int:
        """Bytes of a part before compression, without its checksum."""
        return self.part * self.width * self.dtype.itemsize

    @property
    def index_bytes(self) -> int:
        """Bytes at the end of a shard: its index and the index's checksum."""
        return 16 * self.parts + CRC


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
