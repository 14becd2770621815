"""How an array of samples is cut up into shards and parts, and whether one is cut up so.

Knows nothing of files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engramcka.errors import StoreError
from engramcka.stores.nodes import BYTES, CRC32C, SHARDING, ZSTD, ArrayNode

CRC = 4  # bytes of a checksum
_MOST_SHARD_BYTES = 1 << 32
_MOST_PARTS = 1 << 16  # of a shard


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


def grid_of(node: ArrayNode) -> Grid:
    """How an array of a store is cut up.

    Raises:
        StoreError: in another way than engramcka does it.
    """
    sharding = node.codecs[0] if len(node.codecs) == 1 else ("none",)
    if sharding[0] != SHARDING:
        raise StoreError(f"{node.folder}: not stored in shards")
    _, inner, codecs, index = sharding
    ours = (
        codecs in ((BYTES, CRC32C), (BYTES, ZSTD, CRC32C))
        and index == (BYTES, CRC32C)
        and len(node.shape) == len(inner) == 2
        and node.shape[1] == node.chunk_shape[1] == inner[1]
        and 0 < inner[0] <= node.chunk_shape[0]
        and node.chunk_shape[0] % inner[0] == 0
        and min(node.shape) > 0
        and node.data_type in ("uint16", "float16", "float32")
    )
    if not ours:
        raise StoreError(f"{node.folder}: not stored as engramcka stores hidden states")
    n_samples, width = node.shape
    grid = Grid(
        n_samples, width, np.dtype(node.data_type), node.chunk_shape[0], inner[0], ZSTD in codecs
    )
    too_large = grid.rows * grid.width * grid.dtype.itemsize > _MOST_SHARD_BYTES
    if too_large or grid.parts > _MOST_PARTS:
        raise StoreError(f"{node.folder}: chunks larger than ours ever are")
    return grid
