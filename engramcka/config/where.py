"""Conditions on the sample table: ``type = 'person-actor' and kind != 'other'``.

A column against a value with ``=`` or ``!=``, or against several with ``in (..)`` or
``not in (..)``, joined by ``and``, ``or`` and parentheses; ``and`` binds closer. Nothing in it is
ever run as code. Knows no files, and which columns there are only when it is applied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any

Value = str | int | float

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>'[^']*'|"[^"]*")|(?P<number>-?\d+(?:\.\d+)?)(?![\w.])"""
    r"""|(?P<word>[A-Za-z_]\w*)|(?P<sign>!=|=|\(|\)|,))"""
)
_KEYWORDS = ("and", "or", "in", "not")
_FORM = "allowed: COLUMN = 'VALUE', !=, in ('A', 'B'), not in (..), joined by and, or, ( )"


@dataclass(frozen=True)
class Test:
    """One column against values."""

    column: str
    values: tuple[Value, ...]
    negated: bool

    def mask(self, table: Mapping[str, Any]) -> Any:
        """Boolean array, a value a row of the table (column name -> array)."""
        found = reduce(or_, (table[self.column] == value for value in self.values))
        return ~found if self.negated else found

    def tests(self) -> Iterator[Test]:
        """Itself."""
        yield self


@dataclass(frozen=True)
class Joined:
    """Conditions that must all hold, or any of them."""

    parts: tuple[Condition, ...]
    every: bool

    def mask(self, table: Mapping[str, Any]) -> Any:
        """Boolean array, a value a row of the table (column name -> array)."""
        return reduce(and_ if self.every else or_, (part.mask(table) for part in self.parts))

    def tests(self) -> Iterator[Test]:
        """Every comparison in it."""
        for part in self.parts:
            yield from part.tests()


Condition = Test | Joined


def parse_where(text: str) -> Condition:
    """A condition as typed.

    Raises:
        ValueError: says what was found in place of what.
    """
    return _Parser(text).parse()


class _Parser:
    """Recursive descent over the tokens of one condition."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next = 0

    def parse(self) -> Condition:
        condition = self._joined("or")
        if self._peek() != ("end", ""):
            raise self._wrong("'and', 'or' or the end")
        return condition

    def _joined(self, word: str) -> Condition:
        part = self._unit if word == "and" else lambda: self._joined("and")
        parts = [part()]
        while self._take("word", word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Joined(tuple(parts), every=word == "and")

    def _unit(self) -> Condition:
        if self._take("sign", "("):
            condition = self._joined("or")
            self._need("sign", ")")
            return condition
        kind, column = self._peek()
        if kind != "word" or column in _KEYWORDS:
            raise self._wrong("a column")
        self._next += 1
        if self._take("sign", "="):
            return Test(column, (self._value(),), negated=False)
        if self._take("sign", "!="):
            return Test(column, (self._value(),), negated=True)
        negated = self._take("word", "not")
        self._need("word", "in", "=, !=, in or not in")
        self._need("sign", "(")
        values = [self._value()]
        while self._take("sign", ","):
            values.append(self._value())
        self._need("sign", ")")
        return Test(column, tuple(values), negated)

    def _value(self) -> Value:
        kind, text = self._peek()
        if kind not in ("string", "number"):
            raise self._wrong("a value in quotes or a number")
        self._next += 1
        if kind == "string":
            return text[1:-1]
        return float(text) if "." in text else int(text)

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next]

    def _take(self, kind: str, text: str) -> bool:
        found = self._peek() == (kind, text)
        self._next += found
        return found

    def _need(self, kind: str, text: str, wanted: str = "") -> None:
        if not self._take(kind, text):
            raise self._wrong(wanted or f"'{text}'")

    def _wrong(self, wanted: str) -> ValueError:
        kind, text = self._peek()
        found = "the end" if kind == "end" else text
        return ValueError(f"found {found} in place of {wanted}; {_FORM}")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of every token, then ("end", "")."""
    here, end = 0, len(text.rstrip())
    while here < end:
        match = _TOKEN.match(text, here)
        if match is None:
            raise ValueError(f"cannot read {text[here:].strip()!r}; {_FORM}")
        kind = match.lastgroup or ""
        yield kind, match[kind]
        here = match.end()
    yield "end", ""
