"""One model's hidden states on disk: an array a layer, written in whole chunks, resumable.

`MODEL.zarr` holds `layer_01` .. `layer_LL`, each (samples, width); `readouts`, a group of arrays
(samples, columns) that were read off the same pass; `samples`, a table that says which text each
row stands for; and `written`, a row a chunk of samples with the size and the checksum of each of
its files, written last: a sample may be read when the row of its chunk is there. The last chunk is
followed by the manifest. bfloat16 is kept as its raw 16-bit words, marked by the attribute `dtype`,
since Zarr has no such type that every reader knows. Knows no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from engramcka.errors import StoreError
from engramcka.stores import layout, manifest
from engramcka.stores.grids import grid_of
from engramcka.stores.layer_arrays import LayerArray
from engramcka.stores.shards import Place, ShardedArray, check_shard, shard_path, write_shard
from engramcka.stores.together import local_threads, together

_MAX_LAYER_BYTES = 1 << 50


@dataclass(frozen=True)
class ActivationStore:
    """One model's hidden states, open for reading (and, by `write`, for filling up)."""

    path: Path
    group: Any  # zarr.Group; its static types know no item that can be subscripted

    @property
    def inputs(self) -> dict[str, Any]:
        """All that the hidden states were made from, as JSON."""
        return dict(self.group.attrs[layout.INPUTS])

    @property
    def attributes(self) -> dict[str, Any]:
        """Every attribute of the group: provenance, dtype, counts."""
        return dict(self.group.attrs)

    @property
    def layers(self) -> dict[int, LayerArray]:
        """Block number -> its array, in order; reading a damaged one raises StoreError."""
        dtype = str(self.group.attrs["dtype"])
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
        try:
            table: Any = self.group["samples"]
            return {name: np.asarray(table[name][...]) for name in sorted(table.array_keys())}
        except Exception as error:  # zarr raises many kinds
            raise StoreError(
                f"{self.path}/samples: cannot be read ({layout.first_line(error)})"
            ) from error

    @property
    def n_samples(self) -> int:
        """Rows of every layer."""
        return int(self.group.attrs["n_samples"])

    @property
    def chunk_samples(self) -> int:
        """Samples of a chunk."""
        return int(self.group.attrs["chunk_samples"])

    @property
    def sealed(self) -> bool:
        """Whether it is finished: all chunks are written, and then the manifest."""
        return manifest.is_sealed(self.path)

    def missing(self) -> list[tuple[int, int]]:
        """Ranges (start, stop) of samples that are not written yet, a chunk each, in order."""
        chunks = range(self._n_chunks)
        return [self._range(chunk) for chunk in chunks if not self._row_path(chunk).is_file()]

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
        self.forget(chunk)
        try:
            row = together(
                lambda item: write_shard(
                    shard_path(item[1].folder, chunk), values[item[0]], item[1].grid
                ),
                list(self._arrays.items()),
            )
            self.group["written"][chunk] = np.array(row, dtype=np.uint64)
        except OSError as error:
            raise self._no_room(error) from error

    def forget(self, chunk: int) -> None:
        """Mark a chunk as not written, so that it is made again; the store is open again too."""
        for place in (self.path / manifest.GROUP / "zarr.json", self._row_path(chunk)):
            place.unlink(missing_ok=True)

    def forget_damaged(self, *, every_byte: bool = False) -> int:
        """Mark the chunks that `damaged` finds as not written; returns how many."""
        chunks = {chunk for chunk, _ in self.damaged(every_byte=every_byte)}
        for chunk in chunks:
            self.forget(chunk)
        return len(chunks)

    def seal(self) -> None:
        """Write the manifest, after the last chunk."""
        assert not self.missing()
        manifest.seal(self.path, skip=self._is_data, more={"store": self.attributes})

    def damaged(self, *, every_byte: bool = False) -> list[tuple[int, StoreError]]:
        """(chunk, what is wrong) of each file of a written chunk that is not what was written.

        Args:
            every_byte: read everything; else only files that changed size, or that were changed
                after their chunk was finished, are read.
        """
        found: list[tuple[int, StoreError]] = []
        files = []
        for chunk in range(self._n_chunks):
            try:
                row = self._row(chunk)
            except StoreError as error:
                found.append((chunk, error))
                continue
            since = None if every_byte or row is None else self._row_path(chunk).stat().st_mtime_ns
            for array, facts in zip(self._arrays.values(), _pairs(row), strict=False):
                files.append((chunk, array, facts, since))
        here = 1 if self._place is self.path and not every_byte else self._threads
        told = together(_shard_damage, files, here)
        found += [(file[0], error) for file, error in zip(files, told, strict=True) if error]
        return sorted(found, key=lambda one: one[0])

    def sizes(self) -> list[int]:
        """Bytes of each file of the written chunks; of those whose row can be read."""
        found = []
        for chunk in range(self._n_chunks):
            with suppress(StoreError):
                found += [size for size, _ in _pairs(self._row(chunk))]
        return found

    @cached_property
    def _arrays(self) -> dict[str, ShardedArray]:
        """Array name -> its files, in the order of the rows of `written`."""
        found = {}
        for name in self.group.attrs["arrays"]:
            try:
                array = self.group[name]
            except Exception as error:  # zarr raises many kinds
                raise StoreError(
                    f"{self.path}/{name}: cannot be read ({layout.first_line(error)})"
                ) from error
            layout.check_array(array, _MAX_LAYER_BYTES)
            found[str(name)] = ShardedArray(self._place / str(name), grid_of(array), self._threads)
        return found

    @property
    def _place(self) -> Place:
        """The folder that the arrays' folders are in."""
        return self.path

    @property
    def _threads(self) -> int:
        """That read its files at once."""
        return local_threads()

    @property
    def _n_chunks(self) -> int:
        return -(-self.n_samples // self.chunk_samples)

    def _range(self, chunk: int) -> tuple[int, int]:
        size = self.chunk_samples
        return chunk * size, min((chunk + 1) * size, self.n_samples)

    def _row_path(self, chunk: int) -> Path:
        return self.path / "written" / "c" / str(chunk) / "0" / "0"

    def _row(self, chunk: int) -> npt.NDArray[np.uint64] | None:
        """(arrays, 2) sizes and checksums of a chunk's files; None if it is not written.

        Raises:
            StoreError: the row is not what was written.
        """
        path = self._row_path(chunk)
        if not path.is_file():
            return None
        try:
            return np.asarray(self.group["written"][chunk])
        except Exception as error:  # zarr raises many kinds
            raise StoreError(f"{path}: cannot be read ({layout.first_line(error)})") from error

    def _is_data(self, name: str) -> bool:
        """Whether a file of the store is a chunk of hidden states or of a read-out."""
        return "/c/" in name and not name.startswith(("samples/", "written/"))

    def _no_room(self, error: OSError) -> StoreError:
        left = sum(stop - start for start, stop in self.missing())
        each = sum(array.grid.part_bytes / array.grid.part for array in self._arrays.values())
        found = os.statvfs(self.path)
        free, wanted = found.f_bavail * found.f_frsize, int(left * each)
        return StoreError(
            f"{self.path}: {error.strerror or error}; {wanted:,} bytes are still to be written, "
            f"{free:,} are free, {max(0, wanted - free):,} are missing; make room and run it again"
        )


def open_activations(path: Path | str, mode: Literal["r", "r+"] = "r") -> ActivationStore:
    """Open one model's hidden states; of a finished store, all but the data are checked.

    Args:
        path: the store; a URL that fsspec knows, as s3://bucket/moe.zarr, is opened for reading.
        mode: "r+" to fill it up.

    Raises:
        StoreError: nothing there, not such a store, of another format version, or a file of a
            finished store is damaged.
    """
    if isinstance(path, str):
        from engramcka.stores.remote import is_url, open_remote  # which imports this module

        if is_url(path):
            assert mode == "r"
            return open_remote(path)
        path = Path(path)
    layout.check_plain(path)
    if manifest.is_sealed(path):
        manifest.require_whole(path)
    return ActivationStore(path, layout.open_group(path, "activations", mode))


def _pairs(row: npt.NDArray[np.uint64] | None) -> list[tuple[int, int]]:
    return [] if row is None else [(int(size), int(crc)) for size, crc in row]


def _shard_damage(
    file: tuple[int, ShardedArray, tuple[int, int], int | None],
) -> StoreError | None:
    """What is wrong with a file: (chunk, array, (bytes, fingerprint), time not to be read from)."""
    chunk, array, (size, crc), since = file
    path = shard_path(array.folder, chunk)
    try:
        found = path.lstat()
    except FileNotFoundError:
        return StoreError(f"{path}: cannot be read (the file is gone)")
    except OSError as error:
        return StoreError(f"{path}: cannot be read ({error.strerror or error})")
    if found.st_size != size:
        return StoreError(
            f"{path}: cannot be read ({found.st_size:,} bytes, {size:,} were written)"
        )
    if since is not None and found.st_mtime_ns <= since:
        return None
    try:
        same = check_shard(path, array.grid) == crc
    except StoreError as error:
        return error
    return None if same else StoreError(f"{path}: cannot be read (holds another chunk's data)")
