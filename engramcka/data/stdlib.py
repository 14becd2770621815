"""The running Python's standard library as a corpus; its entities are dotted names.

Every machine with Python has it, so the first run needs no download.
"""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from engramcka.data.documents import Document, Entity
from engramcka.errors import DataError

_NOT_TEXT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
_DOTTED_NAME = re.compile(
    r"(?<![\w.])(?!(?:self|cls)\.|(?:e\.g|i\.e)\b)[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"
)


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


def dotted_names(text: str, first: int, last: int) -> Iterator[Entity]:
    """The dotted names between two characters, each a "call" or a "name"."""
    for match in _DOTTED_NAME.finditer(text, first, last):
        kind = "call" if text[match.end() : match.end() + 1] == "(" else "name"
        yield Entity(match.start(), match.end(), kind, kind)


def _read(root: Path, paths: Iterable[Path]) -> Iterator[Document]:
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
