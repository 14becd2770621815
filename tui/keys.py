"""Keys in turn: each is acted on before the next one is handed on.

Textual gives a key to what has the focus when the key comes in. Most keys then wait in the queues
of widgets, so that letters typed right after the key that opens a prompt would miss the prompt. A
binding with priority is acted on at once; Textual itself leaves letters to a field that has the
focus. An action that opens a screen waits until the screen has the focus.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from textual.binding import Binding
from textual.widgets import Input


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
