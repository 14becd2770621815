"""One model's hidden states on disk: an array a layer, written in whole chunks, resumable.

`MODEL.zarr` holds `layer_01` .. `layer_LL`, each (samples, width); `readouts`, a group of arrays
(samples, columns) that were read off the same pass; `samples`, a table that says which text each
row stands for; and `written`, a row a chunk of samples with the size and the checksum of each of
its files, written last: a sample may be read when the row of its chunk is there, and its files are
compared with that row when they are opened. The last chunk is followed by the manifest. bfloat16 is
kept as its raw 16-bit words, marked by the attribute `dtype`, since Zarr has no such type that
every reader knows. Read without zarr, in our own form only (`engramcka.stores.nodes`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c

from engramcka.atomic import atomic_path
from engramcka.errors import StoreError
from engramcka.own_files import check_way, is_regular
from engramcka.stores import layout, manifest, nodes
from engramcka.stores.activation_metadata import StoreAttributes, read_samples, store_attributes
from engramcka.stores.layer_arrays import LayerArray, ShardedArray
from engramcka.stores.nodes import CRC_BYTES, read_file, verified
from engramcka.stores.shards import (
    OTHER,
    AnyPath,
    check_shard,
    grid_of,
    local_threads,
    parallel_map,
    shard_path,
    write_shard,
)

_FULL = (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # None: said in a library's own words
_Row = list[tuple[int, int]]  # bytes and fingerprint of each file of a chunk
_FACT_BYTES = 16  # of a file in a row of `written`: its size and its fingerprint


@dataclass(frozen=True)
class ActivationStore:
    """One model's hidden states, open for reading (and, by `write`, for filling up)."""

    path: Path
    attributes: dict[str, Any]  # every one of the group: provenance, dtype, counts
    known: StoreAttributes  # those that something depends on

    @property
    def inputs(self) -> dict[str, Any]:
        """All that the hidden states were made from, as JSON."""
        return self.known.inputs

    @property
    def layers(self) -> dict[int, LayerArray]:
        """Block number -> its array, in order; reading a damaged one raises StoreError."""
        dtype = self.known.dtype
        numbers = ((layout.layer_number(name), name) for name in self._arrays)
        return {
            number: LayerArray(self._arrays[name], dtype)
            for number, name in numbers
            if number is not None
        }

    @property
    def readouts(self) -> dict[str, LayerArray]:
        """What was read off the same forward pass: name -> (samples, columns) float32."""
        start = f"{layout.READOUTS}/"
        return {
            name.removeprefix(start): LayerArray(array, "float32")
            for name, array in self._arrays.items()
            if name.startswith(start)
        }

    @property
    def samples(self) -> dict[str, np.ndarray[Any, Any]]:
        """The sample table: column name -> (samples,) array."""
        return read_samples(self.path, self.n_samples)

    @property
    def n_samples(self) -> int:
        """Rows of every layer."""
        return self.known.n_samples

    @property
    def chunk_samples(self) -> int:
        """Samples of a chunk."""
        return self.known.chunk_samples

    @property
    def is_complete(self) -> bool:
        """Whether it is finished: all chunks are written, and then the manifest."""
        return manifest.is_complete(self.path)

    def missing(self) -> list[tuple[int, int]]:
        """Ranges (start, stop) of samples that are not written yet, a chunk each, in order."""
        self._require_own(self._row_path(0))
        try:
            there = set(os.listdir(self._row_path(0).parents[2]))
        except FileNotFoundError:
            there = set()
        chunks = range(self.known.n_chunks)
        gone = (n for n in chunks if str(n) not in there or not is_regular(self._row_path(n)))
        return [self._range(chunk) for chunk in gone]

    def write(
        self,
        start: int,
        blocks: Mapping[int, np.ndarray[Any, Any]],
        readouts: Mapping[str, np.ndarray[Any, Any]] | None = None,
    ) -> None:
        """Write one whole chunk of samples for every layer, then mark it written.

        Several processes may write, each chunks of its own.

        Args:
            start: first row, a multiple of the chunk size.
            blocks: block number -> (rows, width); bfloat16 as uint16 words.
            readouts: name -> (rows, columns) float32.

        Raises:
            StoreError: no room on the disk; says how many bytes are missing.
        """
        values = {layout.layer_name(layer): rows for layer, rows in blocks.items()}
        values |= {f"{layout.READOUTS}/{name}": rows for name, rows in (readouts or {}).items()}
        assert values.keys() == self._arrays.keys()
        chunk = start // self.chunk_samples
        self.discard_chunk(chunk)
        for name in self._arrays:
            self._require_own(shard_path(self.path / name, chunk))

        def write_one(name: str) -> tuple[int, int]:
            array = self._arrays[name]
            path, salt = shard_path(array.folder, chunk), self.known.salt(name, chunk)
            return write_shard(path, values[name], array.grid, salt)

        try:
            row = parallel_map(write_one, list(self._arrays))
            self._write_row(chunk, np.array(row, dtype="<u8").tobytes())
        except OSError as error:
            raise self._no_room(error) from error

    def discard_chunk(self, chunk: int) -> None:
        """Mark a chunk as not written, to be computed again; the store is then not complete."""
        for place in (self.path / manifest.GROUP / nodes.ZARR_JSON, self._row_path(chunk)):
            self._require_own(place)
            place.unlink(missing_ok=True)
        self._rows.pop(chunk, None)

    def discard_damaged(self, *, every_byte: bool = False) -> int:
        """Mark the chunks that `damaged` finds as not written; returns how many."""
        chunks = {chunk for chunk, _ in self.damaged(every_byte=every_byte)}
        for chunk in chunks:
            self.discard_chunk(chunk)
        return len(chunks)

    def finalize(self) -> None:
        """Write the manifest, after the last chunk."""
        assert not self.missing()
        manifest.finalize(self.path, skip=self._is_data, more={"store": self.attributes})

    def damaged(self, *, every_byte: bool = False) -> list[tuple[int, StoreError]]:
        """(chunk, what is wrong) of each file of a written chunk that is not what was written.

        Args:
            every_byte: read everything; else only files that changed size, or that were changed
                after their chunk was finished, are read.
        """
        found: list[tuple[int, StoreError]] = []
        files = []
        for chunk in range(self.known.n_chunks):
            try:
                row = self._row(chunk)
            except StoreError as error:
                found.append((chunk, error))
                continue
            since = None if every_byte or row is None else self._row_path(chunk).stat().st_mtime_ns
            for (name, array), facts in zip(self._arrays.items(), row or (), strict=False):
                files.append(_File(array, chunk, facts, self.known.salt(name, chunk), since))
        here = 1 if self._root is self.path and not every_byte else self._threads
        errors = parallel_map(_shard_damage, files, here)
        found += [(file.chunk, error) for file, error in zip(files, errors, strict=True) if error]
        return sorted(found, key=lambda one: one[0])

    def sizes(self) -> list[int]:
        """Bytes of each file of the written chunks; of those whose row can be read."""
        found = []
        for chunk in range(self.known.n_chunks):
            with suppress(StoreError):
                found += [size for size, _ in self._row(chunk) or ()]
        return found

    @cached_property
    def _arrays(self) -> dict[str, ShardedArray]:
        """Array name -> its files, in the order of the rows of `written`.

        Raises:
            StoreError: one is not stored as ours are, or does not fit the others.
        """
        found: dict[str, ShardedArray] = {}
        words = "uint16" if self.known.dtype == "bfloat16" else self.known.dtype
        for column, name in enumerate(self.known.arrays):
            is_layer = layout.layer_number(name) is not None
            node = nodes.read_array(self.path / name, self.path)
            grid = grid_of(node)
            first = next(iter(found.values()), None)
            fits = (
                grid.n_samples == self.n_samples
                and grid.rows == self.chunk_samples
                and grid.dtype.name == (words if is_layer else "float32")
                and (first is None or not is_layer or grid.width == first.grid.width)
            )
            if not fits:
                raise StoreError(f"{node.folder}: cannot be read (it does not fit the store)")
            expected = partial(self._expected, name, column)
            found[name] = ShardedArray(self._root / name, grid, self._threads, expected)
        return found

    @cached_property
    def _rows(self) -> dict[int, _Row]:
        """The rows of `written` that were read."""
        return {}

    def _expected(self, name: str, column: int, chunk: int, again: bool) -> tuple[int, bytes]:
        """Fingerprint of a chunk's file in one array, and what it holds beside the data.

        Args:
            name, column: of the array, and where it is in a row.
            chunk: its number.
            again: read the row once more, for it may have been written meanwhile.

        Raises:
            StoreError: the chunk is not written, or its row is damaged.
        """
        if again:
            self._rows.pop(chunk, None)
        row = self._row(chunk)
        if row is None:
            path = shard_path(self._root / name, chunk)
            raise StoreError(f"{path}: cannot be read (its chunk is not written)")
        return row[column][1], self.known.salt(name, chunk)

    @property
    def _root(self) -> AnyPath:
        """The folder that the arrays' folders are in."""
        return self.path

    @property
    def _threads(self) -> int:
        """That read its files at once."""
        return local_threads()

    def _range(self, chunk: int) -> tuple[int, int]:
        size = self.chunk_samples
        return chunk * size, min((chunk + 1) * size, self.n_samples)

    def _row_path(self, chunk: int) -> Path:
        return self.path / layout.WRITTEN / "c" / str(chunk) / "0" / "0"

    def _row(self, chunk: int) -> _Row | None:
        """(size, fingerprint) of a chunk's files, in the order of the arrays; None if not written.

        Raises:
            StoreError: the row is not what was written.
        """
        if chunk not in self._rows:
            path, size = self._row_path(chunk), _FACT_BYTES * len(self.known.arrays)
            if not path.is_symlink() and not path.exists():
                return None
            content = verified(read_file(path, size + CRC_BYTES, self.path), path, size)
            facts = np.frombuffer(content, "<u8").reshape(-1, 2).tolist()
            self._rows[chunk] = [(bytes_, crc) for bytes_, crc in facts]
        return self._rows[chunk]

    def _write_row(self, chunk: int, content: bytes) -> None:
        path = self._row_path(chunk)
        path.parent.mkdir(parents=True, exist_ok=True)
        crc = crc32c(content).to_bytes(CRC_BYTES, "little")
        with atomic_path(path) as scratch:
            scratch.write_bytes(content + crc)

    def _require_own(self, path: Path) -> None:
        """Refuse a file of the store to which a link leads: it is another's, to keep as it is."""
        try:
            check_way(path, self.path)
        except OSError as error:
            raise StoreError(f"{error.filename}: {error.strerror}") from error

    def _is_data(self, name: str) -> bool:
        """Whether a file of the store is a chunk of hidden states or of a read-out."""
        return "/c/" in name and not name.startswith((f"{layout.SAMPLES}/", f"{layout.WRITTEN}/"))

    def _no_room(self, error: OSError) -> StoreError:
        """What could not be written, and where the disk is full how many bytes are missing."""
        if error.errno not in _FULL:
            return StoreError(f"{error.filename or self.path}: {error.strerror or error}")
        left = sum(stop - start for start, stop in self.missing())
        each = sum(array.grid.part_bytes / array.grid.part for array in self._arrays.values())
        found = os.statvfs(self.path)
        free, wanted = found.f_bavail * found.f_frsize, int(left * each)
        return StoreError(
            f"{self.path}: {error.strerror or error}; {wanted:,} bytes are still to be written, "
            f"{free:,} are free, {max(0, wanted - free):,} are missing; make room and run it again"
        )


def open_unchecked(path: Path) -> ActivationStore:
    """Open a store in a folder without reading its manifest, if it has one.

    Raises:
        StoreError: nothing there, not such a store, or of another format version.
    """
    layout.check_store(path)
    attributes = nodes.read_group(path, path)
    return ActivationStore(path, attributes, store_attributes(path, attributes))


@dataclass(frozen=True)
class _File:
    """A file of a chunk, and what is known of it."""

    array: ShardedArray
    chunk: int
    facts: tuple[int, int]  # bytes, fingerprint
    salt: bytes
    since: int | None  # not read if it did not change since then; None: read whenever


def _shard_damage(file: _File) -> StoreError | None:
    """What is wrong with a file."""
    path, (size, crc) = shard_path(file.array.folder, file.chunk), file.facts
    try:
        if isinstance(path, Path):
            check_way(path, file.array.folder)
        found = path.lstat()
    except FileNotFoundError:
        return StoreError(f"{path}: cannot be read (the file is gone)")
    except OSError as error:
        return StoreError(f"{path}: cannot be read ({error.strerror or error})")
    if found.st_size != size:
        return StoreError(
            f"{path}: cannot be read ({found.st_size:,} bytes, {size:,} were written)"
        )
    if file.since is not None and found.st_mtime_ns <= file.since:
        return None
    try:
        same = check_shard(path, file.array.grid, file.array.folder, file.salt) == crc
    except StoreError as error:
        return error
    return None if same else StoreError(f"{path}: cannot be read ({OTHER})")
