"""Data sets of the `datasets` library, local or on the hub, and Few-NERD in their schema.

A local folder is one that `save_to_disk` wrote, or of Parquet, Arrow, JSON lines or CSV files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engramcka.config import DataTable
from engramcka.data.documents import OUTSIDE, DataKeyError, Document, entities_of_tags
from engramcka.data.files import columns_of, missing_column, row_document
from engramcka.plain_text import did_you_mean, first_line

WORDS, FINE, COARSE = "tokens", "fine_ner_tags", "ner_tags"


def rows(table: DataTable) -> Iterator[Document]:
    """Every row of a data set as one document.

    Raises:
        DataKeyError: see `load_split`; a column that is not there.
    """
    data = load_split(table)
    for key, column in zip(("text_column", "entities_column"), columns_of(table), strict=False):
        if column not in data.column_names:
            raise missing_column(key, column, data.column_names, table.place)
    data = data.select_columns(list(columns_of(table)))
    for number, row in enumerate(data):
        where = f"{table.place}, {table.chosen_split} row {number},"
        yield from row_document(table, f"{table.chosen_split}:{number}", row, where)


def few_nerd(table: DataTable) -> Iterator[Document]:
    """Every sentence of Few-NERD as one document: its words joined by spaces, its entities marked.

    Raises:
        DataKeyError: see `load_split`; not Few-NERD's schema.
    """
    data = load_split(table)
    for column in (WORDS, FINE):
        if column not in data.column_names:
            raise missing_column("path", column, data.column_names, table.place)
    fine = _tag_names(data, FINE)
    coarse = _tag_names(data, COARSE) if COARSE in data.column_names else None
    for number, row in enumerate(data):
        try:
            words, tags = row[WORDS], [fine(tag) for tag in row[FINE]]
            kinds = [coarse(tag) for tag in row[COARSE]] if coarse else [_kind(tag) for tag in tags]
            text = " ".join(words)
        except (LookupError, TypeError) as error:
            raise DataKeyError(
                "path",
                f"{table.place}, {table.chosen_split} row {number}, is not of Few-NERD's schema "
                f"({first_line(error)})",
            ) from error
        if not len(words) == len(tags) == len(kinds):
            raise DataKeyError(
                "path",
                f"{table.place}, {table.chosen_split} row {number}, has {len(words)} words, "
                f"{len(tags)} fine and {len(kinds)} coarse tags",
                "allowed: a tag a word",
            )
        if text.strip():
            entities = tuple(entities_of_tags(words, tags, kinds))
            yield Document(f"{table.chosen_split}:{number}", text, entities)


def texts(table: DataTable, ids: Collection[str]) -> dict[str, str]:
    """Texts of some rows by their documents' ids; no other row is read.

    Args:
        table: a data set.
        ids: of documents as `rows` and `few_nerd` name them; those that are not there are left out.

    Raises:
        DataKeyError: see `load_split`; a column that is not there.
    """
    data = load_split(table)
    column = WORDS if table.source == "few-nerd" else columns_of(table)[0]
    if column not in data.column_names:
        raise missing_column("text_column", column, data.column_names, table.place)
    found = {}
    for one in ids:
        split, _, number = one.rpartition(":")
        if split == table.chosen_split and number.isdecimal() and int(number) < len(data):
            value = data[int(number)][column]
            found[one] = value if isinstance(value, str) else " ".join(value)
    return found


def load_split(table: DataTable) -> Any:
    """One split as a `datasets.Dataset`, of its first ``documents`` rows if the config says so.

    Raises:
        DataKeyError: no such data set, configuration or split.
    """
    folder = Path(table.place).expanduser()
    with _quiet():
        if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
            data = _from_disk(table, folder)
        else:
            data = _loaded(table, folder)
    return data if table.documents is None else data.select(range(min(table.documents, len(data))))


def _from_disk(table: DataTable, folder: Path) -> Any:
    from datasets import Dataset, load_from_disk

    try:
        data = load_from_disk(str(folder))
    except Exception as error:
        raise DataKeyError("path", f"{folder} cannot be loaded ({first_line(error)})") from error
    if isinstance(data, Dataset):
        if table.split is not None:
            raise DataKeyError(
                "split",
                f"found {table.split!r}, {folder} holds one data set without splits",
                "leave split out",
            )
        return data
    if table.chosen_split not in data:
        raise _no_split(table, list(data))
    return data[table.chosen_split]


def _loaded(table: DataTable, folder: Path) -> Any:
    import datasets

    if not folder.is_dir() and (folder.is_absolute() or table.place.startswith((".", "~"))):
        raise DataKeyError(
            "path", f"no folder {table.place!r}", "allowed: a data set's folder or a hub name"
        )
    place = str(folder) if folder.is_dir() else table.place
    try:
        found = datasets.load_dataset(place, table.configuration, revision=table.revision)
    except Exception as error:
        key = "name" if "onfig name" in str(error) or "BuilderConfig" in str(error) else "path"
        raise DataKeyError(key, f"{table.place} cannot be loaded ({first_line(error)})") from error
    plain = table.chosen_split.partition("[")[0]
    if plain not in found:
        raise _no_split(table, list(found))
    return found[plain] if plain == table.chosen_split else _sliced(table, place)


def _sliced(table: DataTable, place: str) -> Any:
    """A split with a slice, ``test[:1000]`` or ``test[10%:20%]``, as `datasets` writes it."""
    import datasets

    try:
        return datasets.load_dataset(
            place, table.configuration, revision=table.revision, split=table.chosen_split
        )
    except Exception as error:
        raise DataKeyError("split", f"found {table.split!r} ({first_line(error)})") from error


def _no_split(table: DataTable, there: Sequence[str]) -> DataKeyError:
    hint = did_you_mean(table.chosen_split, there)
    names = ", ".join(repr(name) for name in there)
    return DataKeyError(
        "split", f"{table.place} has no split {table.chosen_split!r}", f"{hint}allowed: {names}"
    )


def _tag_names(data: Any, column: str) -> Callable[[Any], str]:
    """Tag -> its name; integers without names stay numbers, 0 is no entity."""
    from datasets import ClassLabel

    feature = getattr(data.features[column], "feature", None)
    if isinstance(feature, ClassLabel):
        return lambda tag: feature.names[tag]
    return lambda tag: OUTSIDE if tag in (0, OUTSIDE) else str(tag)


def _kind(tag: str) -> str:
    return tag.partition("-")[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no chatter of `datasets` while it loads; they would tear ours."""
    import datasets

    before, shown = datasets.logging.get_verbosity(), datasets.is_progress_bar_enabled()
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(before)
        if shown and os.environ.get("HF_DATASETS_DISABLE_PROGRESS_BARS") is None:
            datasets.enable_progress_bars()
