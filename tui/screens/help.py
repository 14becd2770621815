"""All keys on one page."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from engramcka.tui.keys import Shortcut

KEYS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Everywhere",
        (
            ("tab", "from the runs to the result and back"),
            ("n  N", "next and previous result"),
            ("/", "find a result by parts of its name"),
            ("B", "show or hide the runs"),
            ("e", "write the result as a PNG into RUN/figures"),
            ("E", "the same with what, format, width to choose, and a preview"),
            ("y  Y  ctrl+y", "copy the value, the row, the whole table (OSC 52)"),
            ("T", "dark, light and high-contrast theme"),
            ("ctrl+p  :", "command palette"),
            ("ctrl+l", "draw the whole screen again"),
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
            ("m", "to the lowest loss, or where two models differ most"),
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


class HelpScreen(ModalScreen[None]):
    """The page; any of the keys that open or leave things closes it."""

    BINDINGS = [Shortcut("escape,q,question_mark,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        """The table in a box."""
        with VerticalScroll(id="help") as box:
            box.border_title = "keys"
            box.border_subtitle = "esc closes"
            yield Static(keys_table(), id="help-keys")
