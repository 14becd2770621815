"""Files of Zarr's sharding codec, written whole and read in part at the speed of the disk.

A shard is a file of many samples of one array: parts of a few samples each, every part followed by
its crc32c, and at the end an index of (offset, bytes), with a crc32c of its own (Zarr v3, "sharding
codec"; "crc32c codec"). Any Zarr reader reads it; zarr-python itself writes it at a tenth of the
disk's speed. Knows nothing of models.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from crc32c import crc32c
from numcodecs.zstd import Zstd

from engramcka.errors import StoreError
from engramcka.regular import check_way, open_regular
from engramcka.stores.grids import CRC, Grid
from engramcka.stores.together import local_threads, together

LEVEL = 3  # of zstd
_ABSENT = np.iinfo(np.uint64).max  # offset and length of a part that is not there
_SPAN_BYTES = 1 << 20  # that a thread reads at least: less is not worth another one

OTHER = "holds another chunk's data"

Words = npt.NDArray[Any]
Place = Any  # a Path, or an `engramcka.stores.remote.RemotePath`
Expected = Callable[[int, bool], tuple[int, bytes]]
"""(shard, whether to look again) -> its fingerprint, and what that holds beside the data."""


def shard_path(array: Place, shard: int) -> Place:
    """The file of a shard of the array in a folder."""
    return array / "c" / str(shard) / "0"


def write_shard(path: Path, values: Words, grid: Grid, salt: bytes = b"") -> tuple[int, int]:
    """Write one shard.

    Args:
        path: the file; what is there is replaced.
        values: (rows, width), all rows of the shard that the array has.
        grid: of the array.
        salt: what the fingerprint holds beside the data: whose it is.

    Returns:
        Bytes written, and the fingerprint: crc32c of the checksums of all parts and of the index,
        and of the salt.

    Raises:
        OSError: the disk is full, or cannot be written; no half of a shard is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    index = np.full((grid.parts, 2), _ABSENT, dtype="<u8")
    sums: list[int] = []
    path.unlink(missing_ok=True)  # never into a file that something else may name too
    try:
        with path.open("xb", buffering=0) as file:
            for number, start in enumerate(range(0, len(values), grid.part)):
                data = _encode(values[start : start + grid.part], grid)
                sums.append(crc32c(data.data))
                index[number] = (file.tell(), len(data) + CRC)
                _write_all(file, data)
                file.write(sums[-1].to_bytes(CRC, "little"))
            flat = index.reshape(-1).view(np.uint8)
            sums.append(crc32c(flat.data))
            _write_all(file, flat)
            file.write(sums[-1].to_bytes(CRC, "little"))
            size = file.tell()
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return size, _fingerprint(sums, salt)


def check_shard(path: Place, grid: Grid, within: Place, salt: bytes = b"") -> int:
    """Read every byte of a shard and hold it against its checksums; returns the fingerprint.

    Args:
        path: the file.
        grid: of the array.
        within: the array's folder, below which no folder may be a link.
        salt: as it was written with.

    Raises:
        StoreError: the file is gone, cut short, or some part of it is not what was written.
    """
    sums = []
    _check_way(path, within)
    with _opened(path) as file:
        index = _read_index(file, path, grid)
        for number in range(grid.parts):
            if index[number, 0] != _ABSENT:
                sums.append(crc32c(_read_part(file, path, index[number], grid).data))
        sums.append(crc32c(index.reshape(-1).view(np.uint8).data))
    return _fingerprint(sums, salt)


@dataclass(frozen=True)
class ShardedArray:
    """One array in shards, read a slice of samples or chosen rows at a time, every part checked."""

    folder: Place
    grid: Grid
    threads: int = field(default_factory=local_threads)  # that read at once
    expected: Expected | None = None  # what each file is held against when it is opened
    _held: dict[int, Any] = field(default_factory=dict, compare=False)  # shard -> the file it was

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

        together(fill, self._spans(start, stop), self.threads)
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

        together(fill, range(len(parts)), self.threads)
        return out

    def _spans(self, start: int, stop: int) -> list[tuple[int, int]]:
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
        with _opened(path) as file:
            index = _read_index(file, path, grid)
            self._hold(shard, file, path, index)
            base = shard * grid.rows
            for number in range((start - base) // grid.part, -(-(stop - base) // grid.part)):
                first = base + number * grid.part
                low, high = max(start, first), min(stop, first + grid.part)
                target = out[low - origin : high - origin]
                whole = high - low == grid.part and not grid.compressed and in_place
                data = _read_part(file, path, index[number], grid, target if whole else None)
                if not whole:
                    part = _decode(data, path, grid).reshape(grid.part, grid.width)
                    target[...] = part[low - first : high - first]

    def _hold(self, shard: int, file: BinaryIO, path: Place, index: npt.NDArray[np.uint64]) -> None:
        """Refuse a file that is not this shard's, once as long as it stays the same file.

        The checksums of its parts are read, not the parts: those are held against theirs when they
        are read.
        """
        if self.expected is None:
            return
        stamp = _stamp(file)
        if self._held.get(shard) == stamp:
            return
        _check_way(path, self.folder)
        there = index[index[:, 0] != _ABSENT]
        ends = [int(offset) + int(size) - CRC for offset, size in there]
        sums = [int.from_bytes(found, "little") for found in _read_places(file, path, ends)]
        sums.append(crc32c(index.reshape(-1).view(np.uint8).data))
        for anew in (False, True):
            crc, salt = self.expected(shard, anew)
            if _fingerprint(sums, salt) == crc:
                self._held[shard] = stamp
                return
        raise _broken(path, OTHER)


def _encode(values: Words, grid: Grid) -> npt.NDArray[np.uint8]:
    """A part's bytes; rows past the last sample are zeros, as Zarr's fill value says."""
    whole = np.ascontiguousarray(values, grid.dtype)
    if len(values) < grid.part:
        whole = np.zeros((grid.part, grid.width), grid.dtype)
        whole[: len(values)] = values
    flat = whole.reshape(-1).view(np.uint8)
    return np.frombuffer(Zstd(LEVEL).encode(flat), np.uint8) if grid.compressed else flat


def _decode(data: npt.NDArray[np.uint8], path: Place, grid: Grid) -> Words:
    if grid.compressed:
        plain = np.zeros(grid.part_bytes, np.uint8)  # never more than this, whatever the file says
        try:
            Zstd().decode(data, plain)
        except (RuntimeError, ValueError) as error:
            raise _broken(path, str(error)) from error
        data = plain
    return data.view(grid.dtype)


def _check_way(path: Place, within: Place) -> None:
    """Refuse a file to which a link leads; behind a URL there are none."""
    try:
        if isinstance(path, Path):
            check_way(path, within)
    except OSError as error:
        raise _broken(path, error.strerror or str(error)) from error


def _opened(path: Place) -> BinaryIO:
    try:
        file: BinaryIO = open_regular(path) if isinstance(path, Path) else path.open()
    except FileNotFoundError as error:
        raise _broken(path, "the file is gone") from error
    except OSError as error:
        raise _broken(path, error.strerror or str(error)) from error
    return file


def _stamp(file: BinaryIO) -> Any:
    """Another where the file is replaced or changed; behind a URL that is not asked."""
    try:
        found = os.fstat(file.fileno())
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_places(file: BinaryIO, path: Place, starts: list[int]) -> list[bytes]:
    """The four bytes at each of these places."""
    at_once = getattr(file, "read_places", None)  # behind a URL
    try:
        if at_once is not None:
            found: list[bytes] = at_once(starts, CRC)
        else:
            found = [os.pread(file.fileno(), CRC, start) for start in starts]
    except OSError as error:
        raise _broken(path, error.strerror or str(error)) from error
    return found


def _read_index(file: BinaryIO, path: Place, grid: Grid) -> npt.NDArray[np.uint64]:
    size = file.seek(0, 2)
    start = size - grid.index_bytes
    if start < 0:
        raise _broken(path, f"cut short, to {size:,} bytes")
    data = _read_bytes(file, path, start, np.empty(grid.index_bytes, np.uint8))
    index = _checked(data, path, "its index").view("<u8").reshape(grid.parts, 2)
    there = index[index[:, 0] != _ABSENT]
    if (there > start).any() or (there.sum(1) > start).any() or (there[:, 1] <= CRC).any():
        raise _broken(path, "its index points out of the file")
    return index


def _read_part(
    file: BinaryIO,
    path: Place,
    place: npt.NDArray[np.uint64],
    grid: Grid,
    target: Words | None = None,
) -> npt.NDArray[np.uint8]:
    """A part's stored bytes, checked; into ``target`` where that is given."""
    offset, size = int(place[0]), int(place[1]) - CRC
    most = grid.part_bytes + (grid.part_bytes >> 7) + 1024  # what zstd makes of noise
    if offset == _ABSENT or size > most or (not grid.compressed and size != grid.part_bytes):
        raise _broken(path, "a part is gone or of another size")
    if target is None:
        data = _read_bytes(file, path, offset, np.empty(size + CRC, np.uint8))
        return _checked(data, path, "a part")
    flat = target.reshape(-1).view(np.uint8)
    _read_bytes(file, path, offset, flat)
    stored = file.read(CRC)
    if crc32c(flat.data).to_bytes(CRC, "little") != stored:
        raise _broken(path, "a part is not what was written")
    return flat


def _read_bytes(
    file: BinaryIO, path: Place, offset: int, target: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    file.seek(offset)
    view, done = target.data, 0
    while done < len(target):
        try:
            count = file.readinto(view[done:])  # type: ignore[attr-defined]
        except OSError as error:
            raise _broken(path, error.strerror or str(error)) from error
        if not count:
            raise _broken(path, "cut short")
        done += count
    return target


def _checked(data: npt.NDArray[np.uint8], path: Place, what: str) -> npt.NDArray[np.uint8]:
    """The bytes before a trailing checksum, if it is theirs."""
    body = data[:-CRC]
    if crc32c(body.data).to_bytes(CRC, "little") != data[-CRC:].tobytes():
        raise _broken(path, f"{what} is not what was written")
    return body


def _write_all(file: BinaryIO, data: npt.NDArray[np.uint8]) -> None:
    view, done = data.data, 0
    while done < len(view):
        done += file.write(view[done:])


def _fingerprint(sums: list[int], salt: bytes) -> int:
    return crc32c(np.array(sums, dtype="<u4").tobytes() + salt)


def _broken(path: Place, what: str) -> StoreError:
    return StoreError(f"{path}: cannot be read ({what})")
