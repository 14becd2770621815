"""Text of strangers as it may be shown, exceptions as one line, and the nearest of several names.

Names, labels and messages come from files of others. Control characters steer a terminal, those
that turn the direction of text make it show something else than it says, and line ends break what
is one line: none of them gets through, wherever text is shown.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache

_JOINERS = "\u200c\u200d"  # zero width; Arabic and Indic scripts are misspelt without them
_MOST = 200  # characters of an exception


def without_controls(text: object, keep: str = "") -> str:
    """The text with a space for each character that is neither visible nor a space.

    Those are control, format, private-use, surrogate and unassigned characters, ends of lines, and
    spaces other than the plain one; the length stays.

    Args:
        text: any; its `str` is taken.
        keep: characters of these kinds that stay.
    """
    return "".join(c if c.isprintable() or c in keep else " " for c in str(text))


def clean(name: object) -> str:
    """A name for a terminal: no control characters, words one space apart."""
    return _clean(str(name))


@lru_cache(maxsize=8192)
def _clean(name: str) -> str:
    return " ".join(without_controls(name).split())


def one_line(name: object) -> str:
    """A name for a figure or a table: as `clean`, but with the joiners that some scripts need.

    In a terminal they go: programs disagree about how many cells joined characters take.
    """
    return " ".join(without_controls(name, _JOINERS).split())


def first_line(error: BaseException) -> str:
    """What an exception says, on one line: the system's reason if it has one, else the first line
    of its message, cut to 200 characters; the type's name where it says nothing."""
    text = getattr(error, "strerror", None) or str(error)
    line = next((clean(line) for line in str(text).splitlines() if clean(line)), "")
    line = line or type(error).__name__
    return line if len(line) <= _MOST else f"{line[: _MOST - 3]}..."


def did_you_mean(found: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """``did you mean 'NAME'? `` for the most similar of the names; empty if none is.

    Args:
        found: what was written.
        names: what is there.
        cutoff: how similar the two must be, 0 to 1.
    """
    near = difflib.get_close_matches(found, list(names), n=1, cutoff=cutoff)
    return f"did you mean {near[0]!r}? " if near else ""
