"""Keys in turn: each is handed on when all before it have done what they do.

Textual gives a key to whatever has the focus when the key comes in, which may be before the keys
ahead of it were acted on: letters typed right after the key that opens a prompt would act as keys.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from textual import events
from textual.app import App, ScreenStackError
from textual.message_pump import MessagePump

LIMIT = 1.0  # seconds that a key may hold up those behind it while it is acted on
PATIENCE = 0.3  # seconds that those behind it wait for a result that it asked for


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
            way = [*target.ancestors_with_self, self]
            self._following = asyncio.create_task(self._follow(way, screen))

    @property
    def unsettled(self) -> bool:
        """Whether what was asked for is still on its way to the screen."""
        return False

    async def _follow(self, way: Sequence[MessagePump], screen: MessagePump) -> None:
        """Wait until the key, and what it asked for, have gone their way; then the next."""
        try:
            for _ in range(2):
                for pump in way:
                    await _passed(pump)
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


async def _passed(pump: MessagePump) -> None:
    """Wait until everything that is in a queue by now has been dealt with, or the queue ends."""
    done, ends = asyncio.Event(), monotonic() + LIMIT
    if not pump.call_later(done.set):
        return
    started, turns = False, 0
    while not done.is_set() and monotonic() < ends:
        started, turns = started or pump.is_running, turns + 1
        if started and not pump.is_running:
            return
        await asyncio.sleep(0 if turns < 100 else 0.002)
