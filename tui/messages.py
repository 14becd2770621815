"""Messages between the widgets and screens of the app.

A message that can come in floods replaces the one before it that nobody has read yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from engramcka.tui.catalog import Entry, RunFacts
from engramcka.tui.loading import Broken, Loaded


@dataclass
class CellMoved(Message):
    """The mouse put the cursor on a cell of a map; indices count from 0 at the bottom left."""

    row: int
    column: int

    def can_replace(self, message: Message) -> bool:
        """Only the last place counts."""
        return isinstance(message, CellMoved)


@dataclass
class TitleChanged(Message):
    """What a view says about itself in the title is no longer the same."""

    def can_replace(self, message: Message) -> bool:
        """One that waits is enough: the title says what is so when it is read."""
        return isinstance(message, TitleChanged)


@dataclass
class EntryChosen(Message):
    """The user wants to see this result or log; ``focus`` moves the keys to it as well."""

    entry: Entry
    focus: bool = False


@dataclass
class RunsChanged(Message):
    """What is on disk now differs from what the tree shows."""

    runs: tuple[RunFacts, ...]

    def can_replace(self, message: Message) -> bool:
        """Only the last state counts."""
        return isinstance(message, RunsChanged)


@dataclass
class EntryChanged(Message):
    """The files of the entry on screen are not those that were read."""

    entry: Entry

    def can_replace(self, message: Message) -> bool:
        """One that waits is enough: the entry is read as it is by then."""
        return isinstance(message, EntryChanged)


@dataclass
class EntryRead(Message):
    """A result or a log was read, or could not be."""

    found: Loaded | Broken
