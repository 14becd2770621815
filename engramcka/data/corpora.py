"""Corpora as documents: an id and its text, split into training and validation by document.

Knows nothing of tokenizers or models.
"""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from engramcka.config import DataTable
from engramcka.errors import DataError

_NOT_TEXT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


@dataclass(frozen=True)
class Document:
    """A piece of text with a name that stays the same whoever reads it."""

    id: str
    text: str


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

    @property
    def fingerprint(self) -> str:
        """A hash of every id and text: two corpora with the same one are the same."""
        digest = hashlib.sha256()
        for part, documents in (("training", self.training), ("validation", self.validation)):
            for document in documents:
                for text in (part, document.id, document.text):
                    digest.update(hashlib.sha256(text.encode()).digest())
        return digest.hexdigest()[:16]


def corpus_inputs(table: DataTable) -> dict[str, Any]:
    """What decides which text a config means, without reading it."""
    return {
        "source": table.source,
        "python": platform.python_version(),
        "validation_share": table.validation_share,
    }


def load_corpus(table: DataTable) -> Corpus:
    """Read the corpus that ``[data]`` names.

    Raises:
        DataError: there is no such text on this machine, or too little to split.
    """
    documents = python_stdlib()
    training, validation = split(documents, table.validation_share)
    if not training or not validation:
        raise DataError(
            f"data: {len(documents)} documents cannot be split into training and validation with "
            f"validation_share = {table.validation_share}"
        )
    return Corpus(tuple(training), tuple(validation))


def python_stdlib() -> list[Document]:
    """Every module of the running Python's standard library, its tests left out, sorted by path.

    Raises:
        DataError: this Python has no library source on disk (a zipped or frozen one).
    """
    root = Path(sysconfig.get_path("stdlib"))
    documents = list(_read(root, sorted(root.rglob("*.py"))))
    if not documents:
        raise DataError(f"data: no Python source under {root}; this Python's library is not there")
    return documents


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


def _read(root: Path, paths: Iterable[Path]) -> Iterable[Document]:
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
