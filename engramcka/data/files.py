"""Corpora in files of rows (JSON lines, Parquet) or of plain text.

Rows are read one after another and only the columns that are asked for. An empty text is passed
over. Knows nothing of tokenizers.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engramcka.config import DataTable
from engramcka.config.data_table import ENTITY_POSITIONS
from engramcka.data.documents import DataKeyError, Document, entities_of_spans

SUFFIXES = {"jsonl": (".jsonl", ".ndjson"), "parquet": (".parquet",), "text": (".txt", ".md")}


def find_files(table: DataTable) -> list[Path]:
    """The files that ``data.path`` names, sorted: a file, a folder's, or those of a glob.

    Raises:
        DataKeyError: there are none.
    """
    place, suffixes = Path(table.place).expanduser(), SUFFIXES[table.source]
    if place.is_file():
        return [place]
    if place.is_dir():
        found = [path for path in place.rglob("*") if path.suffix in suffixes]
    else:
        found = [Path(name) for name in glob.glob(str(place), recursive=True)]
    files = sorted(path for path in found if path.is_file())
    if not files:
        kinds = " or ".join(suffixes)
        allowed = (
            f"allowed: a file, a folder of {kinds} files, or a glob such as data/*{suffixes[0]}"
        )
        raise DataKeyError("path", f"no file in {table.place!r}", allowed)
    return files


def texts(table: DataTable) -> Iterator[Document]:
    """Every text file as one document."""
    files = find_files(table)
    for path, name in zip(files, _names(files), strict=True):
        yield from _document(name, _utf8(path), ())


def json_lines(table: DataTable) -> Iterator[Document]:
    """Every line of every JSON lines file as one document."""
    files = find_files(table)
    for path, name in zip(files, _names(files), strict=True):
        try:
            with path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        where = f"{path}, line {number},"
                        yield from row_document(
                            table, f"{name}:{number}", _json_row(line, where), where
                        )
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(path, error) from error


def parquet(table: DataTable) -> Iterator[Document]:
    """Every row of every Parquet file as one document."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    files = find_files(table)
    for path, name in zip(files, _names(files), strict=True):
        try:
            file = ParquetFile(path)
            columns = [column for column in columns_of(table) if column in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield from row_document(
                        table, f"{name}:{number}", row, f"{path}, row {number},"
                    )
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


def _json_row(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataKeyError("path", f"{where} is not JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise DataKeyError("path", f"{where} is not a JSON object", "allowed: an object a line")
    return row


def _utf8(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataKeyError:
    reason = (str(error) or type(error).__name__).splitlines()[0][:160]
    return DataKeyError("path", f"{path} cannot be read ({reason})")
