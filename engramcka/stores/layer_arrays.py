"""Arrays of hidden states, in their own dtype, a slice of samples or chosen rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from engramcka.errors import StoreError
from engramcka.stores.shards import (
    OTHER,
    AnyPath,
    Grid,
    ShardReader,
    Words,
    fingerprint,
    local_threads,
    parallel_map,
    refuse_links,
    shard_path,
)

_SPAN_BYTES = 1 << 20  # that a thread reads at least: less is not worth another one

Expected = Callable[[int, bool], tuple[int, bytes]]
"""(shard, whether to look again) -> its fingerprint, and what that holds beside the data."""


@dataclass(frozen=True)
class ShardedArray:
    """One array in shards, read a slice of samples or chosen rows at a time, every part checked."""

    folder: AnyPath
    grid: Grid
    threads: int = field(default_factory=local_threads)  # that read at once
    expected: Expected | None = None  # of each file when it is opened
    _known: dict[int, Any] = field(default_factory=dict, compare=False)  # shard -> stamp

    def rows(self, start: int, stop: int) -> Words:
        """(stop - start, width) samples.

        Raises:
            StoreError: names the file that is gone, cut short or not what was written.
        """
        grid = self.grid
        out = np.empty((stop - start, grid.width), grid.dtype)

        def fill(span: tuple[int, int]) -> None:
            low, high = span
            for shard in range(low // grid.rows, -(-high // grid.rows)):
                base = shard * grid.rows
                self._fill(shard, out, start, max(low, base), min(high, base + grid.rows))

        parallel_map(fill, self.spans(start, stop), self.threads)
        return out

    def take(self, rows: npt.NDArray[np.int64]) -> Words:
        """(len(rows), width) samples, in the order of ``rows``; raises as `rows`."""
        grid = self.grid
        out = np.empty((len(rows), grid.width), grid.dtype)
        order = np.argsort(rows, kind="stable")
        parts, first = np.unique(rows[order] // grid.part, return_index=True)
        edges = [*first.tolist(), len(rows)]

        def fill(number: int) -> None:
            start = int(parts[number]) * grid.part
            stop = min(start + grid.part, grid.n_samples)
            part = np.empty((stop - start, grid.width), grid.dtype)
            self._fill(start // grid.rows, part, start, start, stop)
            chosen = order[edges[number] : edges[number + 1]]
            out[chosen] = part[rows[chosen] - start]

        parallel_map(fill, range(len(parts)), self.threads)
        return out

    def spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Samples start to stop cut into a run of whole parts a thread."""
        part = self.grid.part
        first, last = start // part, -(-stop // part)
        size = (stop - start) * self.grid.width * self.grid.dtype.itemsize
        count = min(self.threads, last - first, max(1, size // _SPAN_BYTES))
        edges = [part * (first + (last - first) * n // count) for n in range(1, count)]
        return list(pairwise([start, *edges, stop])) if stop > start else []

    def _fill(self, shard: int, out: Words, origin: int, start: int, stop: int) -> None:
        """Rows start to stop, all of one shard, into ``out``, whose first row is ``origin``."""
        grid, path = self.grid, shard_path(self.folder, shard)
        in_place = isinstance(path, Path)  # elsewhere a part and its checksum are one request
        base = shard * grid.rows
        with ShardReader(path, grid) as reader:
            self._require_own(shard, reader, path)
            for number in range((start - base) // grid.part, -(-(stop - base) // grid.part)):
                first = base + number * grid.part
                low, high = max(start, first), min(stop, first + grid.part)
                target = out[low - origin : high - origin]
                if high - low == grid.part and not grid.compressed and in_place:
                    reader.read_part_into(number, target)
                else:
                    target[...] = reader.part(number)[low - first : high - first]

    def _require_own(self, shard: int, reader: ShardReader, path: AnyPath) -> None:
        """Refuse a file that is not this shard's; checked once, as long as it stays the same file.

        The checksums of its parts are read, not the parts: those are compared with theirs when they
        are read.
        """
        if self.expected is None or self._known.get(shard) == reader.stamp:
            return
        refuse_links(path, self.folder)
        sums = reader.stored_checksums()
        for again in (False, True):
            crc, salt = self.expected(shard, again)
            if fingerprint(sums, salt) == crc:
                self._known[shard] = reader.stamp
                return
        raise StoreError(f"{path}: cannot be read ({OTHER})")


class LayerArray:
    """One layer's hidden states, (samples, width), read a slice of samples at a time."""

    picks_rows = True  # `take` reads no more than the parts that hold them

    def __init__(
        self, array: ShardedArray, dtype: str, rows: npt.NDArray[np.int64] | None = None
    ) -> None:
        self._array, self._dtype, self._rows = array, dtype, rows
        count = array.grid.n_samples if rows is None else len(rows)
        self.shape: tuple[int, int] = (count, array.grid.width)
        self.dtype = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> npt.NDArray[Any]:
        start, stop, step = index.indices(len(self))
        if self._rows is not None:
            words = self._array.take(self._rows[index])
        else:
            words = self._array.rows(start, max(start, stop))[::step]
        return words.view(self.dtype)

    def take(self, rows: npt.NDArray[np.int64]) -> LayerArray:
        """The same layer at these rows only, in this order; all of them in order cost nothing."""
        if self._rows is None and np.array_equal(rows, np.arange(len(self))):
            return self
        chosen = rows if self._rows is None else self._rows[rows]
        return LayerArray(self._array, self._dtype, chosen)
