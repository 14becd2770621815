"""Texts of the header and of borders: where the user is, what a result is made of."""

from __future__ import annotations

from typing import Any

from textual.content import Content

from engramcka.plain_text import clean
from engramcka.results.base import count
from engramcka.results.kinds import MAPS
from engramcka.tui.catalog import Entry
from engramcka.tui.loading import Broken, Loaded, Several
from engramcka.tui.terminal import fixed, shorten

APART = "A\N{MINUS SIGN}B"
"""What the difference of two maps is called."""


def header_line(left: str, right: str, width: int) -> str:
    """Left and right text on one line; the left one is shortened first."""
    width = max(width - 2, 1)
    right = shorten(right, width)
    room = width - len(right) - 2
    return f"{fixed(left, room)}  {right}" if room > 12 else shorten(left, width)


def border_text(text: str) -> Content | None:
    """A name for a border's title, in which no part is markup."""
    text = clean(text)
    return Content(text) if text else None


def header_facts(found: Loaded | Broken | None) -> str:
    """What the header says about a result."""
    if not isinstance(found, Loaded) or found.entry.kind == "log":
        return ""
    return result_facts(found.value)


def sides(found: Loaded | Broken | None) -> Content | None:
    """Which model is on which side of a map."""
    if not isinstance(found, Loaded) or found.entry.kind not in (*MAPS, "series"):
        return None
    value = found.value
    if isinstance(value, Several):
        value = next(iter(value.values.values()))
    return border_text(f"rows {value.y_label}, columns {value.x_label}")


def result_facts(value: Any) -> str:
    """Size and origin of a result, or of several that are shown together."""
    values = list(value.values.values()) if isinstance(value, Several) else [value]
    parts = values[0].size().split("  ")
    if isinstance(value, Several):
        parts = [count(len(values), values[0].noun), *parts]
    return "  ".join(clean(part) for part in parts if part)


def names_apart(first: Entry, second: Entry) -> tuple[str, str]:
    """Names of two maps; with their runs where these differ, and the runs with their folders where
    these are called the same."""
    if first.ref == second.ref:
        return first.name, second.name
    runs = [one.ref.label for one in (first, second)]
    if runs[0] == runs[1]:
        runs = [str(one.ref.run) for one in (first, second)]
    return f"{runs[0]}  {first.name}", f"{runs[1]}  {second.name}"
