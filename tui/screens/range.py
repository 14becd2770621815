"""Asking for the values of the first and the last colour of a map."""

from __future__ import annotations

from math import isfinite

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from engramcka.tui.keys import Prompt, Shortcut


def ends_of(text: str) -> tuple[float, float] | str:
    """Two numbers, the lower first; or a sentence that says what is wrong."""
    words = text.replace(",", " ").split()
    try:
        low, high = (float(word) for word in words)
    except ValueError:
        return f"Two numbers are needed, as 0.2 0.9; found {len(words)}."
    if not (isfinite(low) and isfinite(high) and low < high):
        return "The first number must be below the second."
    return low, high


class RangeScreen(ModalScreen[tuple[float, float] | None]):
    """One field for both ends; enter takes them."""

    BINDINGS = [Shortcut("escape", "dismiss", "Close")]

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self._text = f"{low:.4g} {high:.4g}"

    def compose(self) -> ComposeResult:
        """The field in a box."""
        with Vertical(id="range") as box:
            box.border_title = "colours from .. to"
            box.border_subtitle = "enter takes, esc closes"
            yield Prompt(self._text, compact=True)
            yield Static("Values outside get the first or the last colour.", markup=False)

    async def action_take(self) -> None:
        """Close with the numbers, or say what is wrong with them."""
        ends = ends_of(await self.query_one(Prompt).typed())
        if isinstance(ends, str):
            self.query_one(Static).update(ends)
        else:
            self.dismiss(ends)
