"""Dialogs with a field to type in: one entry of a list, or the range of a map's colours."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engramcka.plain_text import clean
from engramcka.tui.catalog import Entry
from engramcka.tui.keys import Prompt, Shortcut

SHOWN = 200  # entries at once; typing finds the rest


class ChooseScreen(ModalScreen[Entry | None]):
    """A list of entries with a field to filter it."""

    BINDINGS = [
        Shortcut("escape", "dismiss", "Close"),
        Shortcut("down", "move(1)", show=False),
        Shortcut("up", "move(-1)", show=False),
    ]

    def __init__(self, title: str, entries: Sequence[Entry]) -> None:
        super().__init__()
        self._title, self._entries = title, list(entries)
        self.shown: list[Entry] = []  # those that the pattern leaves
        self._pattern: str | None = None

    def compose(self) -> ComposeResult:
        """The field above the list."""
        with Vertical(id="choose") as box:
            box.border_title = self._title
            box.border_subtitle = "enter chooses, esc closes"
            yield Prompt(placeholder="type to find", compact=True)
            yield OptionList(id="choices")

    def on_mount(self) -> None:
        """Show all entries, before anything is typed."""
        self._fill("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show only the entries that the typed text is in."""
        self._fill(event.value)

    def _fill(self, pattern: str) -> None:
        if pattern == self._pattern:
            return
        self._pattern = pattern
        words = pattern.lower().split()
        found = [e for e in self._entries if all(word in entry_label(e).lower() for word in words)]
        self.shown = found[:SHOWN]
        choices = self.query_one(OptionList)
        choices.clear_options()
        choices.add_options([Option(Text(entry_label(entry))) for entry in self.shown])
        choices.highlighted = 0 if self.shown else None

    def action_move(self, step: int) -> None:
        """Move in the list while the field has the keys."""
        choices = self.query_one(OptionList)
        if self.shown:
            at = 0 if choices.highlighted is None else choices.highlighted
            choices.highlighted = (at + step) % len(self.shown)

    async def action_take(self) -> None:
        """Take the one under the cursor."""
        self._fill(await self.query_one(Prompt).typed())
        at = self.query_one(OptionList).highlighted
        if at is not None and self.shown:
            self.dismiss(self.shown[at])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take the one that was clicked."""
        self.dismiss(self.shown[event.option_index])


def entry_label(entry: Entry) -> str:
    """An entry's run and name."""
    return f"{clean(entry.ref.label)}  {clean(entry.title)}"


def parse_range(text: str) -> tuple[float, float] | str:
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
        ends = parse_range(await self.query_one(Prompt).typed())
        if isinstance(ends, str):
            self.query_one(Static).update(ends)
        else:
            self.dismiss(ends)
