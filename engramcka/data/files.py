"""Corpora in files of rows (JSON lines, Parquet) or of plain text.

Rows are read one after another, and of each only the columns that are asked for. An empty text is
passed over. A few kilobytes of Parquet can say one long text a million times: columns are read as
Arrow keeps them, every text once, and a file that unpacks to many times its size is refused before
its texts are spelled out.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engramcka import foreign_files
from engramcka.config import DataTable
from engramcka.config.data_table import ENTITY_POSITIONS
from engramcka.data.documents import DataKeyError, Document, entities_of_spans
from engramcka.plain_text import first_line
from engramcka.text_rows import BadLine, read_json_lines

MOST_BYTES = 128 << 20  # of a document
SUFFIXES = {"jsonl": (".jsonl", ".ndjson"), "parquet": (".parquet",), "text": (".txt", ".md")}

_ROWS = 256  # of a Parquet file, read at once
_MOST_TIMES = 200  # the file's size
_MAY_UNPACK_TO = 256 << 20  # bytes that any file may unpack to
_NUMBER = 8  # bytes


def find_files(table: DataTable) -> list[Path]:
    """The files that ``data.path`` names, sorted: a file, a folder's, or those of a glob.

    Raises:
        DataKeyError: there are none.
    """
    place, suffixes = Path(table.place).expanduser(), SUFFIXES[table.source]
    if place.exists() and not place.is_dir():
        return [place]
    if place.is_dir():
        found = [path for path in place.rglob("*") if path.suffix in suffixes]
        _require_inside(found, place)
    else:
        found = [Path(name) for name in glob.glob(str(place), recursive=True)]
    files = sorted(path for path in found if path.exists() and not path.is_dir())
    if not files:
        kinds = " or ".join(suffixes)
        allowed = (
            f"allowed: a file, a folder of {kinds} files, or a glob such as data/*{suffixes[0]}"
        )
        raise DataKeyError("path", f"no file in {table.place!r}", allowed)
    return files


def _require_inside(files: list[Path], folder: Path) -> None:
    for path in files:
        try:
            foreign_files.require_inside(path, folder)
        except OSError as error:
            raise _unreadable(path, error) from error


def texts(table: DataTable) -> Iterator[Document]:
    """Every text file as one document."""
    files = find_files(table)
    for path, name in zip(files, _names(files), strict=True):
        try:
            text = foreign_files.read_file(path, MOST_BYTES).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(path, error) from error
        yield from _document(name, text.replace("\r\n", "\n").replace("\r", "\n"), ())


def json_lines(table: DataTable) -> Iterator[Document]:
    """Every line of every JSON lines file as one document."""
    files = find_files(table)
    for path, name in zip(files, _names(files), strict=True):
        try:
            for number, row in read_json_lines(path, MOST_BYTES):
                where = f"{path}, line {number},"
                yield from row_document(table, f"{name}:{number}", row, where)
        except BadLine as error:
            raise DataKeyError("path", f"{path}, {error}") from error
        except OSError as error:
            raise _unreadable(path, error) from error


def parquet(table: DataTable) -> Iterator[Document]:
    """Every row of every Parquet file as one document."""
    from pyarrow import ArrowException

    files = find_files(table)
    for path, name in zip(files, _names(files), strict=True):
        try:
            for number, row in enumerate(parquet_rows(path, columns_of(table)), start=1):
                where = f"{path}, row {number},"
                yield from row_document(table, f"{name}:{number}", row, where)
        except (OSError, ArrowException) as error:
            raise _unreadable(path, error) from error


def columns_of(table: DataTable) -> tuple[str, ...]:
    """The columns that a source of rows must have."""
    text = table.text_column or "text"
    if table.positions not in ENTITY_POSITIONS:
        return (text,)
    return (text, table.entities_column or "entities")


def row_document(
    table: DataTable, name: str, row: Mapping[str, Any], where: str
) -> Iterator[Document]:
    """One row as a document; none where its text is empty.

    Raises:
        DataKeyError: a column that is not there, or not what it should be.
    """
    for key, column in zip(("text_column", "entities_column"), columns_of(table), strict=False):
        if column not in row:
            raise missing_column(key, column, row, where)
    text = row[table.text_column or "text"]
    if text is None:
        return
    if not isinstance(text, str):
        kind = type(text).__name__
        raise DataKeyError("text_column", f"{where} holds {kind} in its place", "allowed: text")
    entities: Any = ()
    if table.positions in ENTITY_POSITIONS:
        spans = row[table.entities_column or "entities"]
        entities = entities_of_spans([] if spans is None else spans, text, where)
    yield from _document(name, text, entities)


def missing_column(key: str, column: str, there: Any, where: str) -> DataKeyError:
    """A column of the schema that the data has not got."""
    names = ", ".join(repr(name) for name in there) or "none"
    return DataKeyError(key, f"{where} has no column {column!r}", f"it has: {names}")


def _document(name: str, text: str, entities: Any) -> Iterator[Document]:
    if text.strip():
        yield Document(name, text, tuple(entities))


def _names(files: list[Path]) -> list[str]:
    """Paths below the folder that holds them all, so that a moved corpus keeps its ids."""
    if len(files) == 1:
        return [files[0].name]
    depth = 0
    parents = [path.absolute().parent.parts for path in files]
    while all(len(p) > depth and p[depth] == parents[0][depth] for p in parents):
        depth += 1
    return [Path(*path.absolute().parts[depth:]).as_posix() for path in files]


def _unreadable(path: Path, error: Exception) -> DataKeyError:
    return DataKeyError("path", f"{path} cannot be read ({first_line(error)})")


def parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, with those of the columns that are there.

    Raises:
        OSError: it cannot be read, is no file, or unpacks to absurdly more than it is.
        ArrowException: it is no Parquet file, or damaged.
    """
    from pyarrow.parquet import ParquetFile

    foreign_files.require_file(path)
    most = max(_MAY_UNPACK_TO, _MOST_TIMES * path.stat().st_size)
    with ParquetFile(path) as file:
        metadata = file.metadata
        there = [column for column in columns if column in file.schema_arrow.names]
        paths = [file.schema.column(i).path for i in range(metadata.num_columns)]
    wanted = {i: path for i, path in enumerate(paths) if path.split(".")[0] in there}
    left = most - _declared_bytes(metadata, wanted)
    if left < 0:
        raise _too_much(most)
    with ParquetFile(path, read_dictionary=list(wanted.values())) as file:
        for batch in file.iter_batches(_ROWS, columns=there):
            left -= sum(map(_bytes, batch.columns))
            if left < 0:
                raise _too_much(most)
            yield from batch.to_pylist()


def _declared_bytes(metadata: Any, columns: Iterable[int]) -> int:
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
