"""Rows of text files: JSON lines, none longer than it may be, and CSV cells that hold no formula.

A spreadsheet executes a cell that begins with one of = + - @, their wide forms, a tab or the end of
a line; where it separates cells by semicolons or tabs, so is what follows one. An apostrophe before
it makes it text; text that has apostrophes there already gets one more, so that taking one away
gives back what was written.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engramcka import foreign_files

_BEGINS = r"(?:^|(?<=[;\t\r\n]))"
_FORMULA = r"'*[=+\-@\t\r\n＝＋－＠]"
_TO_GUARD = re.compile(f"{_BEGINS}(?={_FORMULA})")
_GUARDED = re.compile(f"{_BEGINS}'(?={_FORMULA})")


class BadLine(ValueError):
    """A line that is no object, with its number and why."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"line {number}: {reason}")


def read_json_lines(path: Path, longest: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, its object) of every line that is not empty.

    Args:
        path: the file.
        longest: bytes that a line may have.

    Raises:
        BadLine: it is too long, no UTF-8 or no JSON object.
        OSError: the file cannot be read, or is none.
    """
    with foreign_files.open_file(path) as file:
        number = 0
        while line := file.readline(longest + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if len(line) > longest:
                raise BadLine(number, f"longer than {longest:,} bytes")
            if line.strip():
                yield number, _object(line, number)


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise BadLine(number, f"not UTF-8 text (byte {error.start})") from error
    except RecursionError as error:
        raise BadLine(number, "no JSON (brackets in brackets without end)") from error
    except ValueError as error:  # also of a number of thousands of digits
        raise BadLine(number, f"no JSON ({getattr(error, 'msg', None) or error})") from error
    if not isinstance(found, dict):
        raise BadLine(number, "no JSON object; allowed: an object a line")
    if b"\\u" in line:
        _require_text(found, number)
    return found


def _require_text(found: Any, number: int) -> None:
    """Refuse half of a surrogate pair, which is in no text that can be written."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadLine(number, "half of a surrogate pair, which is no character") from error


def guard_formula(text: str) -> str:
    """The text of a cell, which no spreadsheet executes."""
    return _TO_GUARD.sub("'", text)


def unguard_formula(cell: str) -> str:
    """The text that `guard_formula` made a cell of; any other stays as it is."""
    return _GUARDED.sub("", cell)
