"""Where a value stands in a config file, and errors that say so.

tomllib gives values without positions. This finds the line of a key by reading the file's headers
and ``key =`` lines, which is enough for a message and is never used for the values themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from engramcka.errors import ConfigError

KeyPath = tuple[str | int, ...]

_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"^\s*(\[\[?)\s*({_DOTTED})\s*\]\]?")
_ASSIGNMENT = re.compile(rf"^\s*({_DOTTED})\s*=(.*)$")
_MULTILINE = re.compile(r"\"\"\"|'''")


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


def find_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of every table header and every ``key =`` of a valid TOML document."""
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    closing, depth = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if closing:  # inside a multi-line string
            closing = "" if closing in line else closing
            continue
        if depth > 0:  # inside a multi-line array
            depth += _depth(line)
            continue
        if header := _HEADER.match(line):
            table = _resolve(_parts(header[2]), counts, is_list=header[1] == "[[")
            lines.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            path = table + tuple(_parts(assignment[1]))
            for length in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:length], number)
            value = assignment[2]
            quotes = _MULTILINE.findall(value)
            closing = quotes[0] if len(quotes) == 1 else ""
            depth = 0 if closing else max(0, _depth(value))
    return lines


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_KEY, dotted)]


def _resolve(parts: Sequence[str], counts: dict[KeyPath, int], *, is_list: bool) -> KeyPath:
    """A header's path with list indices: the second [[cka]] is ("cka", 1)."""
    path: KeyPath = ()
    for index, part in enumerate(parts):
        path += (part,)
        if is_list and index == len(parts) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path += (counts[path],)
    return path


def _depth(value: str) -> int:
    """Brackets opened less brackets closed on a line, strings and comments left out."""
    bare = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'", "", value).split("#")[0]
    return bare.count("[") - bare.count("]")
