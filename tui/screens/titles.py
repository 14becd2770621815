"""Texts of the header and of borders. Pure functions."""

from __future__ import annotations

from textual.content import Content

from engramcka.tui import readout
from engramcka.tui.loading import Broken, Loaded, Several
from engramcka.tui.terminal import clean, fixed, shorten


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


def facts(found: Loaded | Broken | None) -> str:
    """What the header says about a result."""
    if not isinstance(found, Loaded) or found.entry.kind == "log":
        return ""
    return readout.result_facts(found.value)


def sides(found: Loaded | Broken | None) -> Content | None:
    """Which model is on which side of a map."""
    if not isinstance(found, Loaded) or found.entry.kind not in ("cka", "series"):
        return None
    value = found.value
    if isinstance(value, Several):
        value = next(iter(value.values.values()))
    return border_text(f"rows {value.y_label}, columns {value.x_label}")
