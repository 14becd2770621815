"""What every table of the config is made of: a strict base class, names, labels, layers, seeds.

And where its values stand in the file, so that an error can say so.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from engramcka.errors import ConfigError

KeyPath = tuple[str | int, ...]  # keys and list indices from the top of the file
_MOST_BYTES = 255  # of one name in a path


def plain_name(name: str) -> str:
    """The name, if it can name a result and its files; raises ValueError if not."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            "a name is made of letters, digits, '.', '_' and '-' (at most 100, the first a letter "
            "or a digit), since it names files"
        )
    return name


def _label(text: str) -> str:
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
Label = Annotated[str, AfterValidator(_label)]
Layer = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Table(BaseModel):
    """A table of the config: frozen, strict about types, numbers finite, no unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )


@dataclass(frozen=True)
class ConfigSource:
    """A config file's name and the line of each of its keys; a value set elsewhere has none."""

    name: str = "config"
    lines: dict[KeyPath, int] = field(default_factory=dict)
    overrides: dict[KeyPath, str] = field(default_factory=dict)  # path -> the --set that set it

    def where(self, path: KeyPath) -> str:
        """`FILE, line N, key a.b` for a path, or the nearest table that holds it."""
        shown = key_text(path)
        for length in range(len(path), 0, -1):
            if path[:length] in self.overrides:
                return f"--set {self.overrides[path[:length]]}"
            if path[:length] in self.lines:
                return f"{self.name}, line {self.lines[path[:length]]}, {shown}"
        return f"{self.name}, {shown}" if shown else self.name

    def error(self, path: KeyPath, problem: str, allowed: str = "") -> ConfigError:
        """One line: where, what was found, what is allowed."""
        text = f"{self.where(path)}: {problem}"
        return ConfigError(f"{text}; {allowed}" if allowed else text)


def key_text(path: KeyPath) -> str:
    """A path as a person writes it: ``cka[0].batch_size`` (lists count from 0, as in --set)."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
