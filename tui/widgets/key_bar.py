"""The keys of what has the focus, in one line at the bottom; a click is a press of the key."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.screen import Screen

from engramcka.tui.widgets.canvas import Canvas

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
