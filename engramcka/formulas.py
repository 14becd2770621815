"""Text that a spreadsheet would take for a formula, kept as text in a CSV file and read back.

A cell is executed that begins with one of = + - @, their wide forms, a tab or the end of a line;
where a spreadsheet separates cells by semicolons or tabs, so is what follows one. An apostrophe
before it makes it text; text that has apostrophes there already gets one more, so that taking one
away gives back what was written.
"""

from __future__ import annotations

import re

_BEGINS = r"(?:^|(?<=[;\t\r\n]))"
_FORMULA = r"'*[=+\-@\t\r\n＝＋－＠]"
_TO_GUARD = re.compile(f"{_BEGINS}(?={_FORMULA})")
_GUARDED = re.compile(f"{_BEGINS}'(?={_FORMULA})")


def guarded(text: str) -> str:
    """The text of a cell, which no spreadsheet executes."""
    return _TO_GUARD.sub("'", text)


def unguarded(cell: str) -> str:
    """The text that `guarded` made a cell of; any other stays as it is."""
    return _GUARDED.sub("", cell)
