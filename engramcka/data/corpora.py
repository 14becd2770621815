"""Corpora as documents: an id and its text, split into training and validation by document.

The running Python's standard library is one of them: every machine has it, so the first run needs
no download.
"""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from engramcka.config import DataTable
from engramcka.data.documents import DataKeyError, Document
from engramcka.errors import DataError

_NOT_TEXT = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idle_test",
    "pydoc_data",
    "__pycache__",
}
PYTHON_MANUAL = "python-manual"
_KEYS = ("path", "name", "split", "revision", "text_column", "entities_column", "documents")


@dataclass(frozen=True)
class Corpus:
    """Documents, the ones models are trained on apart from the ones they are measured on."""

    training: tuple[Document, ...]
    validation: tuple[Document, ...]

    def validation_text(self, document: str) -> str:
        """Text of the validation document with this id."""
        return self._by_id[document]

    @cached_property
    def _by_id(self) -> dict[str, str]:
        return {document.id: document.text for document in self.validation}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of every id, text and entity: two corpora with the same one are the same."""
        digest = hashlib.sha256()
        for part, documents in (("training", self.training), ("validation", self.validation)):
            for document in documents:
                entities = str([tuple(entity) for entity in document.entities or ()])
                for text in (part, document.id, document.text, entities):
                    digest.update(hashlib.sha256(text.encode()).digest())
        return digest.hexdigest()[:16]


def corpus_inputs(table: DataTable) -> dict[str, Any]:
    """What decides which text a config means, without reading it."""
    stdlib = {"python": platform.python_version()} if table.source == "python-stdlib" else {}
    keys = {key: getattr(table, key) for key in _KEYS if getattr(table, key) is not None}
    return {"source": table.source, **stdlib, **keys, "validation_share": table.held_out}


def load_corpus(table: DataTable) -> Corpus:
    """Read the corpus that ``[data]`` names.

    Raises:
        DataKeyError: there is no such text on this machine, it is not what the config says it is,
            or it is too little to split.
    """
    documents = list(islice(_read(table), table.documents))
    if not documents:
        raise DataKeyError("path", f"no text in {table.path!r}: not one document that is not empty")
    training, validation = split(documents, table.held_out)
    if not validation or (not training and table.held_out < 1.0):
        raise DataKeyError(
            "validation_share",
            f"{len(documents)} documents cannot be split into training and validation with "
            f"validation_share = {table.held_out}",
        )
    return Corpus(tuple(training), tuple(validation))


def find_texts(table: DataTable, ids: Collection[str]) -> dict[str, str]:
    """Texts of some documents by their ids, of files read one after another, or rows of a data set.

    Args:
        table: which text.
        ids: of the documents; those that are not there are left out.

    Raises:
        DataKeyError: the text is not there, or not what the config says it is.
    """
    if table.source in ("few-nerd", "hf"):
        from engramcka.data import hub

        return hub.texts(table, ids)
    found: dict[str, str] = {}
    for document in islice(_read(table), table.documents):
        if document.id in ids:
            found[document.id] = document.text
        if len(found) == len(ids):
            break
    return found


def _read(table: DataTable) -> Iterable[Document]:
    """The documents of a source; modules that import heavy libraries are imported here."""
    if table.source == "python-stdlib":
        return python_stdlib()
    if table.source in ("few-nerd", "hf"):
        from engramcka.data import hub

        return hub.few_nerd(table) if table.source == "few-nerd" else hub.rows(table)
    from engramcka.data import files

    reader = {"jsonl": files.json_lines, "parquet": files.parquet, "text": files.texts}
    return reader[table.source](table)


def split(
    documents: Sequence[Document], validation_share: float
) -> tuple[list[Document], list[Document]]:
    """Training and validation documents, decided by a hash of each id alone.

    A document stays on its side whatever else the corpus holds.
    """
    training: list[Document] = []
    validation: list[Document] = []
    for document in documents:
        digest = hashlib.sha256(document.id.encode()).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        (validation if share < validation_share else training).append(document)
    return training, validation


def python_stdlib() -> list[Document]:
    """Every module of the running Python's standard library, its tests left out, sorted by path.

    Raises:
        DataError: this Python has no library source on disk (a zipped or frozen one).
    """
    root = Path(sysconfig.get_path("stdlib"))
    documents = list(_read_modules(root, sorted(root.rglob("*.py"))))
    if not documents:
        raise DataError(f"data: no Python source under {root}; this Python's library is not there")
    return documents


def python_manual() -> list[Document]:
    """The topics of the running Python's manual that `help()` shows: English about code.

    They are no part of `python_stdlib`.
    """
    from pydoc_data.topics import topics

    return [Document(f"manual/{name}", text) for name, text in sorted(topics.items()) if text]


def other_documents(place: str, most: int | None = None) -> list[Document]:
    """Text beside a run's own: "python-manual", or text files, a document each.

    Args:
        place: the word, or a file, folder or glob.
        most: documents that are read, from the start; all if None.

    Raises:
        DataKeyError: there are no such files, or they cannot be read.
    """
    if place == PYTHON_MANUAL:
        return python_manual()[:most]
    documents = list(islice(_read(_other_table(place)), most))
    if not documents:
        raise DataKeyError("path", f"no text in {place!r}: not one document that is not empty")
    return documents


def other_inputs(place: str) -> dict[str, Any]:
    """What decides which text `other_documents` gives, without reading it."""
    if place == PYTHON_MANUAL:
        return {"source": place, "python": platform.python_version()}
    return corpus_inputs(_other_table(place))


def _other_table(place: str) -> DataTable:
    return DataTable(source="text", path=place, positions="last")


def _read_modules(root: Path, paths: Iterable[Path]) -> Iterator[Document]:
    for path in paths:
        name = path.relative_to(root)
        if _NOT_TEXT.intersection(name.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue  # a handful of modules are in other encodings on purpose
        if text.strip():
            yield Document(name.as_posix(), text)
