"""Files of Zarr's sharding codec, written whole and read in part at the speed of the disk.

A shard is a file of many samples of one array: parts of a few samples each, every part followed by
its crc32c, and at the end an index of (offset, bytes), with a crc32c of its own (Zarr v3, "sharding
codec"; "crc32c codec"). Any Zarr reader reads it; zarr-python itself writes it at a tenth of the
disk's speed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
from crc32c import crc32c
from numcodecs.zstd import Zstd

from engramcka.errors import StoreError
from engramcka.own_files import check_way, open_regular
from engramcka.stores.nodes import BYTES, CRC32C, CRC_BYTES, SHARDING, ZSTD, ArrayNode

LEVEL = 3  # of zstd
OTHER = "holds another chunk's data"
_ABSENT = np.iinfo(np.uint64).max  # offset and length of a part that is not there
_MOST_SHARD_BYTES = 1 << 32
_MOST_PARTS = 1 << 16  # of a shard

Words = npt.NDArray[Any]
AnyPath = Any  # a Path, or an `engramcka.stores.remote.RemotePath`
Job = TypeVar("Job")
Result = TypeVar("Result")
MAX_LOCAL_THREADS = 4  # threads on local files, where a core each is had


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
        return 16 * self.parts + CRC_BYTES


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


def shard_path(array: AnyPath, shard: int) -> AnyPath:
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
                index[number] = (file.tell(), len(data) + CRC_BYTES)
                _write_all(file, data)
                file.write(sums[-1].to_bytes(CRC_BYTES, "little"))
            flat = index.reshape(-1).view(np.uint8)
            sums.append(crc32c(flat.data))
            _write_all(file, flat)
            file.write(sums[-1].to_bytes(CRC_BYTES, "little"))
            size = file.tell()
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return size, fingerprint(sums, salt)


def _encode(values: Words, grid: Grid) -> npt.NDArray[np.uint8]:
    """A part's bytes; rows past the last sample are zeros, as Zarr's fill value says."""
    whole = np.ascontiguousarray(values, grid.dtype)
    if len(values) < grid.part:
        whole = np.zeros((grid.part, grid.width), grid.dtype)
        whole[: len(values)] = values
    flat = whole.reshape(-1).view(np.uint8)
    return np.frombuffer(Zstd(LEVEL).encode(flat), np.uint8) if grid.compressed else flat


def _write_all(file: BinaryIO, data: npt.NDArray[np.uint8]) -> None:
    view, done = data.data, 0
    while done < len(view):
        done += file.write(view[done:])


def check_shard(path: AnyPath, grid: Grid, within: AnyPath, salt: bytes = b"") -> int:
    """Read every byte of a shard and compare it with its checksums; returns the fingerprint.

    Args:
        path: the file.
        grid: of the array.
        within: the array's folder, below which no folder may be a link.
        salt: as it was written with.

    Raises:
        StoreError: the file is gone, cut short, or some part of it is not what was written.
    """
    refuse_links(path, within)
    with ShardReader(path, grid) as shard:
        numbers = [number for number in range(grid.parts) if shard.has_part(number)]
        sums = [crc32c(shard.stored_part(number).data) for number in numbers]
        return fingerprint([*sums, crc32c(shard.index_bytes)], salt)


def refuse_links(path: AnyPath, within: AnyPath) -> None:
    """Refuse a file to which a link leads; behind a URL there are none. Raises StoreError."""
    try:
        if isinstance(path, Path):
            check_way(path, within)
    except OSError as error:
        raise _broken(path, error.strerror or str(error)) from error


class ShardReader:
    """A shard open for reading; its index is read and checked.

    Args:
        path: the file.
        grid: of the array.

    Raises:
        StoreError: the file is gone, cut short, or its index is not what was written.
    """

    def __init__(self, path: AnyPath, grid: Grid) -> None:
        self._path, self._grid = path, grid
        try:
            self._file: Any = open_regular(path) if isinstance(path, Path) else path.open()
        except FileNotFoundError as error:
            raise _broken(path, "the file is gone") from error
        except OSError as error:
            raise _broken(path, error.strerror or str(error)) from error
        try:
            self._index = self._read_index()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def index_bytes(self) -> memoryview:
        """The index as it is stored, without its checksum."""
        return self._index.reshape(-1).view(np.uint8).data

    @property
    def stamp(self) -> Any:
        """Another where the file is replaced or changed; behind a URL that is not asked."""
        try:
            found = os.fstat(self._file.fileno())
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size

    def has_part(self, number: int) -> bool:
        """Whether the index says where a part is."""
        return bool(self._index[number, 0] != _ABSENT)

    def stored_checksums(self) -> list[int]:
        """The checksums that stand behind the parts, which are not read, and that of the index."""
        there = self._index[self._index[:, 0] != _ABSENT]
        ends = [int(offset) + int(size) - CRC_BYTES for offset, size in there]
        sums = [int.from_bytes(found, "little") for found in self._read_places(ends)]
        return [*sums, crc32c(self.index_bytes)]

    def stored_part(self, number: int) -> npt.NDArray[np.uint8]:
        """A part as it is stored, its checksum verified; raises StoreError."""
        offset, size = self._place(number)
        return self._checked(self._read_at(offset, size + CRC_BYTES), "a part")

    def part(self, number: int) -> Words:
        """(rows of a part, width) samples; raises StoreError."""
        grid, data = self._grid, self.stored_part(number)
        if grid.compressed:
            data = self._decompressed(data)
        return data.view(grid.dtype).reshape(grid.part, grid.width)

    def read_part_into(self, number: int, target: Words) -> None:
        """Read a part that is not compressed into memory of its size; raises StoreError."""
        offset, _ = self._place(number)
        flat = target.reshape(-1).view(np.uint8)
        self._read_into(offset, flat)
        if crc32c(flat.data).to_bytes(CRC_BYTES, "little") != self._file.read(CRC_BYTES):
            raise _broken(self._path, "a part is not what was written")

    def _place(self, number: int) -> tuple[int, int]:
        """Offset and bytes of a part, without its checksum."""
        grid = self._grid
        offset, size = int(self._index[number, 0]), int(self._index[number, 1]) - CRC_BYTES
        most = grid.part_bytes + (grid.part_bytes >> 7) + 1024  # what zstd makes of noise
        if offset == _ABSENT or size > most or (not grid.compressed and size != grid.part_bytes):
            raise _broken(self._path, "a part is gone or of another size")
        return offset, size

    def _read_index(self) -> npt.NDArray[np.uint64]:
        grid, size = self._grid, self._file.seek(0, os.SEEK_END)
        start = size - grid.index_bytes
        if start < 0:
            raise _broken(self._path, f"cut short, to {size:,} bytes")
        data = self._checked(self._read_at(start, grid.index_bytes), "its index")
        index = data.view("<u8").reshape(grid.parts, 2)
        there = index[index[:, 0] != _ABSENT]
        if (
            (there > start).any()
            or (there.sum(1) > start).any()
            or (there[:, 1] <= CRC_BYTES).any()
        ):
            raise _broken(self._path, "its index points out of the file")
        return index

    def _read_places(self, starts: list[int]) -> list[bytes]:
        """The checksums at each of these places."""
        at_once = getattr(self._file, "read_places", None)  # behind a URL
        try:
            if at_once is not None:
                found: list[bytes] = at_once(starts, CRC_BYTES)
            else:
                found = [os.pread(self._file.fileno(), CRC_BYTES, start) for start in starts]
        except OSError as error:
            raise _broken(self._path, error.strerror or str(error)) from error
        return found

    def _read_at(self, offset: int, size: int) -> npt.NDArray[np.uint8]:
        target = np.empty(size, np.uint8)
        self._read_into(offset, target)
        return target

    def _read_into(self, offset: int, target: npt.NDArray[np.uint8]) -> None:
        self._file.seek(offset)
        view, done = target.data, 0
        while done < len(target):
            try:
                count = self._file.readinto(view[done:])
            except OSError as error:
                raise _broken(self._path, error.strerror or str(error)) from error
            if not count:
                raise _broken(self._path, "cut short")
            done += count

    def _checked(self, data: npt.NDArray[np.uint8], what: str) -> npt.NDArray[np.uint8]:
        """The bytes before a trailing checksum, if it is theirs."""
        body = data[:-CRC_BYTES]
        if crc32c(body.data).to_bytes(CRC_BYTES, "little") != data[-CRC_BYTES:].tobytes():
            raise _broken(self._path, f"{what} is not what was written")
        return body

    def _decompressed(self, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        plain = np.zeros(self._grid.part_bytes, np.uint8)  # never more than this
        try:
            Zstd().decode(data, plain)
        except (RuntimeError, ValueError) as error:
            raise _broken(self._path, str(error)) from error
        return plain


def fingerprint(sums: list[int], salt: bytes) -> int:
    """crc32c of the checksums of all parts and of the index, and of the salt."""
    return crc32c(np.array(sums, dtype="<u4").tobytes() + salt)


def _broken(path: AnyPath, what: str) -> StoreError:
    return StoreError(f"{path}: cannot be read ({what})")


def local_threads() -> int:
    """How many threads work on local files at once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MAX_LOCAL_THREADS, cores or 1)


def parallel_map(
    function: Callable[[Job], Result], jobs: Sequence[Job], threads: int | None = None
) -> list[Result]:
    """function(job) of every job, in order; where one fails, raises after all others under way.

    Args:
        function: called in several threads at once, of which this one is one; must not call
            `parallel_map` itself.
        jobs: what to call it with.
        threads: as many at once; `local_threads` if left out.
    """
    threads = min(threads or local_threads(), len(jobs))
    if threads < 2:
        return [function(job) for job in jobs]
    pool = _pool(threads - 1, os.getpid())
    own = len(jobs) // threads
    futures = [pool.submit(function, job) for job in jobs[own:]]
    try:
        results = [function(job) for job in jobs[:own]]
    finally:
        wait(futures)
    return results + [future.result() for future in futures]


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """The threads of a process; a forked one has none of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="engramcka-files")
