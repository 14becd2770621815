"""Keys in turn: each is handed on when all before it have done what they do.

Textual gives a key to whatever has the focus when the key comes in, which may be before the keys
ahead of it were acted on: letters typed right after the key that opens a prompt would act as keys.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import Any

from textual import events
from textual.app import App, ScreenStackError
from textual.dom import DOMNode
from textual.message import Message

LIMIT = 1.0  # seconds that a key may hold up those behind it while it is acted on
PATIENCE = 0.3  # seconds that those behind it wait for a result that it asked for


class Passed(Message):
    """Goes up from a widget to the app, behind the key that the widget was given."""

    def __init__(self) -> None:
        super().__init__()
        self.through = asyncio.Event()


class KeysInTurn(App[None]):
    """An app whose keys, and what is pasted, do not overtake each other."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._in_hand: events.Event | None = None  # what is on its way to the focused widget
        self._behind: deque[events.Event] = deque()  # what came in meanwhile
        self._following: asyncio.Task[None] | None = None

    async def on_event(self, event: events.Event) -> None:
        """Hand a key on, or keep it until the one before is through."""
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
        elif self._in_hand is not None and event is not self._in_hand:
            self._behind.append(event)
        else:
            self._in_hand = event
            screen, target = self.screen, self.focused or self.screen
            await super().on_event(event)
            self._following = asyncio.create_task(self._follow(target, screen))

    @property
    def unsettled(self) -> bool:
        """Whether what was asked for is still on its way to the screen."""
        return False

    def on_passed(self, message: Passed) -> None:
        """All that was ahead of this has been dealt with."""
        message.through.set()

    async def _follow(self, target: DOMNode, screen: DOMNode) -> None:
        """Wait until the key, and what it asked for, have gone their way; then the next."""
        try:
            for _ in range(2):
                await _passed(target)
            with suppress(ScreenStackError):  # the app is leaving
                if self.screen is not screen:
                    await _passed(self.screen)
            ends = monotonic() + PATIENCE
            while self._behind and self.unsettled and monotonic() < ends:
                await asyncio.sleep(0.005)
        finally:
            self._in_hand = self._behind.popleft() if self._behind else None
            if self._in_hand is not None:
                self.post_message(self._in_hand)


async def _passed(node: DOMNode) -> None:
    """Wait until all that is in the queues from a node up has been dealt with, or one ends."""
    message, way, ends = Passed(), node.ancestors_with_self, monotonic() + LIMIT
    if not node.post_message(message):
        return
    running = False
    while not message.through.is_set() and monotonic() < ends:
        before, running = running, all(pump.is_running for pump in way)
        if before and not running:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(message.through.wait(), 0.01)
