"""What every table of the config is made of: a strict base class, names, labels, layers, seeds."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_MOST_BYTES = 255  # of one name in a path


def plain_name(name: str) -> str:
    """The name, if it can name a result and its files; raises ValueError if not."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            "a name is made of letters, digits, '.', '_' and '-' (at most 100, the first a letter "
            "or a digit), since it names files"
        )
    return name


def _one_line(text: str) -> str:
    if not text.isprintable() or len(text) > 200:
        raise ValueError("a label is one line of at most 200 printable characters")
    return text


def _place(path: str) -> str:
    """The path, if a file system can have it; raises ValueError if not."""
    if any(unicodedata.category(character) == "Cc" for character in path):
        raise ValueError(f"found {path!r}; a path has no control characters")
    if any(len(os.fsencode(part)) > _MOST_BYTES for part in path.split("/")):
        raise ValueError(f"found a name of over {_MOST_BYTES} bytes; no file system has such")
    return path


Place = Annotated[str, Field(min_length=1), AfterValidator(_place)]
Name = Annotated[str, AfterValidator(plain_name)]
Label = Annotated[str, AfterValidator(_one_line)]
Layer = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Table(BaseModel):
    """A table of the config: frozen, strict about types, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())
