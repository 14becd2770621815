"""Dialogs: one entry of a list, the range of a map's colours, and the page of all keys."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engramcka.plain_text import clean
from engramcka.tui.catalog import Entry
from engramcka.tui.terminal import shorten
from engramcka.tui.titles import border_text
from engramcka.tui.widgets.key_bar import Prompt, Shortcut

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
        self._write(choices)
        choices.highlighted = 0 if self.shown else None

    def on_resize(self) -> None:
        """Names are cut to the width of the list, which is known once it is laid out."""
        self.call_after_refresh(self._rewrite)

    def _rewrite(self) -> None:
        choices = self.query_one(OptionList)
        at = choices.highlighted
        self._write(choices)
        choices.highlighted = at

    def _write(self, choices: OptionList) -> None:
        room = choices.scrollable_content_region.width
        labels = [entry_label(entry) for entry in self.shown]
        if room > 0:
            labels = [shorten(label, room) for label in labels]
        choices.clear_options()
        choices.add_options([Option(Text(label)) for label in labels])

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
            yield Static("Values outside get colours of their own, and are counted.", markup=False)

    async def action_take(self) -> None:
        """Close with the numbers, or say what is wrong with them."""
        ends = parse_range(await self.query_one(Prompt).typed())
        if isinstance(ends, str):
            self.query_one(Static).update(ends)
        else:
            self.dismiss(ends)


KEYS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Everywhere",
        (
            ("tab", "from the runs to the result and back"),
            ("n  N", "next and previous result"),
            ("/", "find by parts of names, kind:cka model:smol date:2026-11 state:failed"),
            ("o", "runs by name, or the newest first"),
            ("d  in the runs", "on one map, then on another: compare them"),
            ("B", "show or hide the runs"),
            ("e", "write the result as a PNG into RUN/figures"),
            ("E", "the same with what, format, width to choose, and a preview"),
            ("y  Y  ctrl+y", "copy the value, the row, the whole table (OSC 52)"),
            ("T", "dark, light and high-contrast theme"),
            ("ctrl+p  :", "command palette"),
            ("ctrl+l", "draw the whole screen again"),
            ("ctrl+z", "to the shell, until fg"),
            ("q  ctrl+c", "leave"),
        ),
    ),
    (
        "Map",
        (
            ("arrows  h j k l", "move the cursor by a layer"),
            ("shift+arrows  H J K L", "by five layers; also w b, page keys, ctrl+u ctrl+d"),
            ("0 $  g G", "first and last column, top and bottom row"),
            ("m", "to the highest similarity of the column"),
            ("i", "the map and the cell in words; why its warnings matter"),
            ("enter", "the samples that make the cell what it is, with their text"),
            ("a", "soft alignment curve on and off"),
            (",  .", "fewer or more rows averaged by the alignment"),
            ("c", "next palette; the last is shades without colour"),
            ("v", "cells as numbers"),
            ("r  R", "colours over the values there are, or over 0 to 1; R asks"),
            ("z  Z", "larger and smaller cells, then means of blocks (also + and -)"),
            ("d", "compare with another map: side by side, then the difference"),
        ),
    ),
    (
        "Series of maps",
        (
            ("[  ]", "earlier and later checkpoint; { and } the first and the last"),
            ("space", "play and pause"),
        ),
    ),
    (
        "Curves",
        (
            ("arrows", "along the axis; with shift by a tenth of it"),
            ("r  R", "next and previous reading: divergence, entropy, top-1"),
            ("m", "to the lowest loss, or where models or ways differ most"),
            ("z", "only what is right of the cursor, or everything"),
            ("z  of a sweep", "axis over the points alone, or over everything"),
        ),
    ),
    (
        "Gates",
        (
            ("arrows", "from token to token, from line to line"),
            ("]  [", "next and previous text"),
            ("m  s", "next module, next stream"),
            ("t", "the text, or means by type"),
        ),
    ),
    ("Log", (("g G  space b", "top, end, page down, page up; the end is followed"),)),
)


def keys_table() -> Table:
    """The keys as a table."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for index, (heading, keys) in enumerate(KEYS):
        if index:
            table.add_row("", "")
        table.add_row(Text(heading, "bold"), "")
        for key, what in keys:
            table.add_row(Text(f"  {key}", "bold"), Text(what))
    return table


class AboutScreen(ModalScreen[None]):
    """Headings with sentences; what a result means in words."""

    BINDINGS = [Shortcut("escape,q,i,enter", "dismiss", "Close")]

    def __init__(self, title: str, page: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._title, self._page = title, page

    def compose(self) -> ComposeResult:
        """The paragraphs in a box that scrolls."""
        text = Text(end="")
        for index, (heading, sentences) in enumerate(self._page):
            text.append("\n\n" if index else "")
            text.append(f"{heading}\n", "bold")
            text.append(sentences)
        with VerticalScroll(id="about") as box:
            box.border_title = border_text(self._title)
            box.border_subtitle = "esc closes"
            yield Static(text, id="about-text")


class HelpScreen(ModalScreen[None]):
    """The page; any of the keys that open or leave things closes it."""

    BINDINGS = [Shortcut("escape,q,question_mark,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        """The table in a box."""
        with VerticalScroll(id="help") as box:
            box.border_title = "keys"
            box.border_subtitle = "esc closes"
            yield Static(keys_table(), id="help-keys")
