"""Keys in turn: each is acted on before the next one is handed on.

Textual gives a key to what has the focus when the key comes in. Most keys then wait in the queues
of widgets, so that letters typed right after the key that opens a prompt would miss the prompt. A
binding with priority is acted on at once; Textual itself leaves letters to a field that has the
focus. An action that opens a screen waits until the screen has the focus.

The keys of what has the focus stand in one line at the bottom; a click is a press of the key.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import Input

from engramcka.tui.widgets.canvas import Canvas


@dataclass(frozen=True)
class Shortcut(Binding):
    """A key that is acted on before the next one is handed on."""

    priority: bool = True


STEP_KEYS = (
    Shortcut("left,h,up,k", "move(-1)", "Back", show=False),
    Shortcut("right,l,down,j", "move(1)", "On", show=False),
    Shortcut("shift+left,H,b,pageup,ctrl+u", "jump(-1)", "Far back", show=False),
    Shortcut("shift+right,L,w,pagedown,ctrl+d", "jump(1)", "Far on", show=False),
    Shortcut("home,0,g", "place(0)", "First", show=False),
    Shortcut("end,dollar_sign,G", "place(-1)", "Last", show=False),
)
"""Keys of a cursor that goes along one line of places: `action_move`, `_jump` and `_place`."""


class Prompt(Input):
    """A field whose screen has an action ``take`` for the enter key."""

    BINDINGS = [Shortcut("enter", "screen.take", "Take")]

    async def typed(self) -> str:
        """The text, when all that was typed until now is in it."""
        through = asyncio.Event()
        if self.call_later(through.set):
            await through.wait()
        return self.value


LAST = ("app.help", "app.quit")  # actions whose keys are there however little room there is


@dataclass(frozen=True)
class Key:
    """One key and what it does."""

    key: str  # as Textual calls it
    shown: str
    what: str
    action: str

    @property
    def width(self) -> int:
        """Characters, with the gap after it."""
        return cell_len(self.shown) + cell_len(self.what) + 2


def fitting_keys(keys: list[Key], width: int) -> list[Key]:
    """The keys that fit whole: the first ones, and those that are always there."""
    last = [key for key in keys if key.action in LAST]
    room = width - sum(key.width for key in last) + 1
    kept = []
    for key in keys:
        if key.action in LAST or key.width <= room:
            kept.append(key)
            room -= key.width if key.action not in LAST else 0
    return kept


class KeyBar(Canvas):
    """The line of keys at the bottom; a click presses one."""

    COMPONENT_CLASSES = {"key-bar--key", "key-bar--what"}

    DEFAULT_CSS = """
    KeyBar { dock: bottom; height: 1; background: $footer-background; }
    KeyBar > .key-bar--key { color: $footer-key-foreground; text-style: bold; }
    KeyBar > .key-bar--what { color: $footer-description-foreground; }
    """

    def on_mount(self) -> None:
        """Hear of keys that change."""
        self._keys: list[Key] = []
        self.screen.bindings_updated_signal.subscribe(self, self._update)

    def _update(self, screen: Screen[object]) -> None:
        keys: dict[str, Key] = {}
        for active in screen.active_bindings.values():
            binding, shown = active.binding, self.app.get_key_display(active.binding)
            if binding.show:  # of an action the first key
                key = Key(binding.key, shown, binding.description, binding.action)
                keys.setdefault(binding.action, key)
        found = list(keys.values())
        if found != self._keys:
            self._keys = found
            self.change()

    def draw_line(self, y: int) -> list[Segment]:
        """The keys that fit."""
        key_style, what_style = self.part_style("key-bar--key"), self.part_style("key-bar--what")
        line = []
        for key in fitting_keys(self._keys, self.size.width):
            line += [Segment(key.shown, key_style), Segment(f" {key.what} ", what_style)]
        return line

    def on_click(self, event: events.Click) -> None:
        """Press the key under the mouse."""
        x = int(event.screen_x) - self.region.x
        for key in fitting_keys(self._keys, self.size.width):
            if 0 <= x < key.width - 1:
                self.app.simulate_key(key.key)
            x -= key.width
