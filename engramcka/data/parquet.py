"""Rows of a Parquet file, a few at a time, as long as it does not unpack to many times its size.

A few kilobytes of such a file can say one long text a million times. Columns are read as Arrow
keeps them, every text once, and counted before they are spelled out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from engramcka import foreign_files

_ROWS = 256  # read at once
_MOST_TIMES = 200  # the file's size
_ALWAYS = 256 << 20  # bytes that any file may unpack to
_NUMBER = 8


def rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of those columns that are there.

    Raises:
        OSError: it cannot be read, is no file, or unpacks to absurdly more than it is.
        ArrowException: it is no Parquet file, or damaged.
    """
    from pyarrow.parquet import ParquetFile

    foreign_files.require_file(path)
    most = max(_ALWAYS, _MOST_TIMES * path.stat().st_size)
    with ParquetFile(path) as file:
        metadata = file.metadata
        there = [column for column in columns if column in file.schema_arrow.names]
        paths = [file.schema.column(i).path for i in range(metadata.num_columns)]
    wanted = {i: path for i, path in enumerate(paths) if path.split(".")[0] in there}
    left = most - _told_bytes(metadata, wanted)
    if left < 0:
        raise _too_much(most)
    with ParquetFile(path, read_dictionary=list(wanted.values())) as file:
        for batch in file.iter_batches(_ROWS, columns=there):
            left -= sum(map(_bytes, batch.columns))
            if left < 0:
                raise _too_much(most)
            yield from batch.to_pylist()


def _told_bytes(metadata: Any, columns: Iterable[int]) -> int:
    """Bytes that a file says its columns have, as encoded, and of a number for each value."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    parts = (group.column(i) for group in groups for i in columns)
    return sum(part.total_uncompressed_size + _NUMBER * part.num_values for part in parts)


def _bytes(column: Any) -> int:
    """Bytes of an Arrow array once every text is spelled out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        if not pa.types.is_string(kind.value_type) and not pa.types.is_binary(kind.value_type):
            return int(column.nbytes)
        lengths = pc.cast(pc.binary_length(column.dictionary), pa.int64())
        return int(pc.sum(lengths.take(column.indices)).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(map(_bytes, column.flatten()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _bytes(column.flatten()) + len(column) * _NUMBER
    return int(column.nbytes)


def _too_much(most: int) -> OSError:
    return OSError(f"unpacks to more than {most:,} bytes, {_MOST_TIMES} times its size")
