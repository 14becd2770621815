"""NumPy's own files, .npy and .npz, by what their headers say and the file can hold.

Nothing pickled is ever loaded.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from engramcka import foreign_files
from engramcka.stores.foreign import limits
from engramcka.stores.foreign.limits import Opened

_MOST_HEADER = 10_000  # bytes: what is longer NumPy refuses, once it has read it
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}  # by version
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


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
