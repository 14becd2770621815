"""NumPy's own files, .npy and .npz, and plain data sets of HDF5 files, by what their headers say.

Nothing pickled is ever loaded. An HDF5 file can name other files (external links, external storage,
virtual data sets) and filters that HDF5 loads as shared objects from its plugin path; none of it is
followed. Only the filters that every HDF5 has are decoded, and none gives more than its chunk can
hold.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from engramcka import foreign_files
from engramcka.errors import StoreError
from engramcka.stores.foreign import limits
from engramcka.stores.foreign.limits import ArrayShape, Opened

_MOST_HEADER = 10_000  # bytes: what is longer NumPy refuses, once it has read it
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}  # by version
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_DEFLATE, _SHUFFLE, _FLETCHER, _LZF = 1, 2, 3, 32000  # numbers that HDF5 registers
_NAMES = {_DEFLATE: "gzip", _SHUFFLE: "shuffle", _FLETCHER: "fletcher32", _LZF: "lzf"}
_COMPRESSORS = (_DEFLATE, _LZF)
_LZF_SIZE = 2  # which of its values is the size that it unpacks to
_DEEPEST = 32  # groups within groups of an HDF5 file
_AT_ONCE = 1 << 20  # bytes


def mapped(path: Path) -> Any:
    """The array of a .npy file, read as it is looked at.

    Raises:
        ValueError: no plain array, or the file is shorter than its header says.
        OSError: it cannot be read, or is no regular file.
    """
    with foreign_files.open_file(path) as file:
        shape, is_fortran, dtype = _header(file, path.stat().st_size)
        order = "F" if is_fortran else "C"
        return np.memmap(file, dtype, "r", file.tell(), shape, order)  # type: ignore[call-overload]


def open_npz(path: Path, stack: ExitStack) -> Opened:
    """The arrays of an .npz file."""
    archive = stack.enter_context(ZipFile(path))
    limits.check_count(len(archive.infolist()))
    arrays = {
        info.filename.removesuffix(".npy"): ZippedArray(_opened(archive, info, stack), info)
        for info in archive.infolist()
    }
    return dict(arrays), lambda name, rows: arrays[name].read(rows)


def _opened(archive: ZipFile, info: ZipInfo, stack: ExitStack) -> Any:
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError(f"{info.filename[:40]!r} is packed as NumPy never does")
    return stack.enter_context(archive.open(info))


class ZippedArray:
    """An array of an .npz, of which the rows asked for are read and no others kept."""

    def __init__(self, stream: Any, info: ZipInfo) -> None:
        self._stream = stream
        self.shape, self._is_fortran, self.dtype = _header(stream, info.file_size)
        self._start = stream.tell()
        size = math.prod(self.shape) * self.dtype.itemsize
        if self._is_fortran and size > limits.MOST_CHUNK:
            raise ValueError(f"{size:,} bytes, column by column; save it row by row")

    def read(self, rows: slice) -> Any:
        """(samples, width) of a slice of samples."""
        count, width = self.shape
        start, stop, _ = rows.indices(count)
        row = width * self.dtype.itemsize
        first, size = (0, count * row) if self._is_fortran else (start * row, (stop - start) * row)
        self._stream.seek(self._start + first)
        data = self._stream.read(size)
        if len(data) < size:
            raise ValueError("an array that is cut short")
        values = np.frombuffer(data, self.dtype)
        if self._is_fortran:
            return values.reshape((count, width), order="F")[start:stop]
        return values.reshape(-1, width)


def _header(stream: Any, size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it goes by columns, and dtype, of a stream of ``size`` bytes; it stands at the
    values then."""
    version = np.lib.format.read_magic(stream)
    if version not in _READERS:
        raise ValueError(f"an array in .npy version {version}")
    start = stream.tell()
    length = int.from_bytes(stream.read(_LENGTH_BYTES[version]), "little")
    if length > _MOST_HEADER:
        raise ValueError(f"a header of {length:,} bytes; at most {_MOST_HEADER:,}")
    stream.seek(start)
    shape, is_fortran, dtype = _READERS[version](stream)
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which only pickle could read")
    if not dtype.itemsize or any(n < 0 for n in shape):
        raise ValueError(f"an array of shape {str(shape)[:40]} of {str(dtype)[:40]}")
    wanted = stream.tell() + math.prod(shape) * dtype.itemsize
    if wanted > size:
        raise ValueError(f"an array that is cut short, {size:,} of {wanted:,} bytes")
    return shape, is_fortran, dtype


def open_hdf5(path: Path, stack: ExitStack) -> Opened:
    """The data sets of a file, at any depth."""
    try:
        import h5py
    except ImportError as error:
        raise StoreError(
            f"{path}: HDF5 files need h5py; install it with: pip install 'engramcka[hdf5]'",
            exit_code=2,
        ) from error
    file = stack.enter_context(h5py.File(path, "r"))
    arrays: dict[str, Any] = {}
    for name, found in _found(h5py, file, "", set()):
        is_float = found.id.get_type().get_class() == h5py.h5t.FLOAT
        arrays[name] = _Dataset(name, found) if is_float else _other(found)
    limits.check_count(len(arrays))
    return arrays, lambda name, rows: arrays[name].read(rows)


def _found(h5py: Any, group: Any, inside: str, seen: set[Any], depth: int = 0) -> Iterator[Any]:
    """(name, data set) of all below a group; each group once, whatever leads to it.

    Raises:
        ValueError: a link to elsewhere, or groups without end.
    """
    if depth > _DEEPEST or len(seen) > limits.MOST_ARRAYS:
        raise ValueError("groups in groups without end")
    seen.add(h5py.h5o.get_info(group.id).addr)
    limits.check_count(len(group))
    for name in group:
        where = f"{inside}{name}"
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            leads = getattr(link, "filename", None) or link.path
            raise ValueError(f"{where!r} is a link to {leads!r}; copy what it points to")
        item = group[name]
        if isinstance(item, h5py.Dataset):
            yield where, item
        elif isinstance(item, h5py.Group) and h5py.h5o.get_info(item.id).addr not in seen:
            yield from _found(h5py, item, f"{where}/", seen, depth + 1)


def _other(found: Any) -> ArrayShape:
    """What holds no hidden states; refused by whoever asks for it."""
    try:
        return ArrayShape(tuple(found.shape or ()), found.dtype)
    except TypeError:
        return ArrayShape((), "what NumPy has no type for")


class _Dataset:
    """A data set whose values are in the file; checked when it is opened, its chunks when read."""

    def __init__(self, name: str, found: Any) -> None:
        self._found = found
        self.shape, self.dtype = tuple(found.shape or ()), found.dtype
        made = found.id.get_create_plist()
        if found.is_virtual or found.external:
            raise ValueError(f"{name!r} has its values in other files; copy them into this one")
        filters = [made.get_filter(i) for i in range(made.get_nfilters())]
        self._filters = [int(code) for code, *_ in filters]
        for code, _, _, called in filters:
            if code not in _NAMES:
                shown = called.decode(errors="replace")[:40] or code
                allowed = ", ".join(_NAMES.values())
                raise ValueError(f"{name!r}: filter {shown!r} is not read; allowed: {allowed}")
        packed = [i for i, code in enumerate(self._filters) if code in _COMPRESSORS]
        is_last = not packed or set(self._filters[packed[0] + 1 :]) <= {_FLETCHER}
        if not is_last or len(set(self._filters)) < len(self._filters):
            raise ValueError(f"{name!r}: filters as nobody combines them")
        self._chunk = found.chunks
        if self._chunk is not None:
            size = limits.chunk_bytes(self._chunk, found.dtype.itemsize)
            self._most = limits.encoded_bytes(size)
            for code, _, values, _ in filters:
                if code == _LZF and len(values) > _LZF_SIZE and values[_LZF_SIZE] > self._most:
                    raise ValueError(f"{name!r}: chunks that unpack to more than they can hold")
            grid = [-(-n // side) for n, side in zip(self.shape, self._chunk, strict=True)]
            gone = math.prod(grid) - int(found.id.get_num_chunks())
            if gone:
                raise ValueError(f"{name!r}: {gone} of {math.prod(grid)} chunks were never written")
        elif math.prod(self.shape) and not found.id.get_storage_size():
            raise ValueError(f"{name!r}: nothing was ever written to it")

    def read(self, rows: Any) -> Any:
        """The values of a slice of samples, or of one index and a slice."""
        if self._chunk is not None and self._filters:
            self._check_chunks(rows if isinstance(rows, tuple) else (rows,))
        return self._found[rows]

    def _check_chunks(self, rows: tuple[Any, ...]) -> None:
        """Refuse a chunk that would unpack to more than it can hold: HDF5 unpacks all of it."""
        axes = []
        for axis, (length, side) in enumerate(zip(self.shape, self._chunk, strict=True)):
            asked = rows[axis] if axis < len(rows) else slice(None)
            start, stop = (
                (asked, asked + 1) if isinstance(asked, int) else asked.indices(length)[:2]
            )
            axes.append(range(start - start % side, stop, side))
        for corner in itertools.product(*axes):
            info = self._found.id.get_chunk_info_by_coord(corner)
            if info.size > self._most:
                raise ValueError(f"a chunk of {info.size:,} bytes, more than it can hold")
            at = self._filters.index(_DEFLATE) if _DEFLATE in self._filters else None
            if at is not None and not info.filter_mask >> at & 1:
                _, packed = self._found.id.read_direct_chunk(corner)
                self._check_deflated(packed)

    def _check_deflated(self, packed: bytes) -> None:
        stream, size = zlib.decompressobj(), 0
        while packed and not stream.eof:
            size += len(stream.decompress(packed, _AT_ONCE))
            if size > self._most:
                raise ValueError(f"a chunk unpacks to more than the {self._most:,} it can hold")
            packed = stream.unconsumed_tail
