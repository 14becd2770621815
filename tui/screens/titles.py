"""Texts of the header and of borders. Pure functions."""

from __future__ import annotations

from textual.content import Content

from engramcka.tui import readout
from engramcka.tui.loading import Broken, Loaded
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
    if isinstance(found, Loaded) and found.entry.kind == "cka":
        return readout.facts(found.value)  # type: ignore[arg-type]
    if isinstance(found, Loaded) and found.entry.kind == "sweep":
        return readout.sweep_facts(found.value)  # type: ignore[arg-type]
    return ""


def sides(found: Loaded | Broken | None) -> Content | None:
    """Which model is on which side of a map."""
    if isinstance(found, Loaded) and found.entry.kind == "cka":
        value = found.value
        return border_text(f"rows {value.y_label}, columns {value.x_label}")  # type: ignore[union-attr]
    return None
