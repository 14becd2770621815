"""The terminal's keys as Textual reads them, without what would end the app, and what it is sent.

Textual decodes what comes from the terminal strictly, and asks a terminal that is gone again and
again. Bytes are read here instead, those that are no UTF-8 left out, and handed on through a pipe.
Keys that have come in and are not acted on yet are known, so that what a burst of them leads to is
drawn once. Of a frame only the cells that differ from what the terminal shows are sent.
"""

from __future__ import annotations

import os
import select
import signal
from codecs import getincrementaldecoder
from collections import deque
from threading import Event, Thread
from typing import Any, Protocol, runtime_checkable

from textual import events
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

from engramcka.tui.sent_cells import SentCells

_PAUSE = 0.1  # seconds between two looks at whether the app is ending
_SIZE = 4096


class TerminalState:
    """What app and driver both know of the terminal."""

    def __init__(self) -> None:
        self.sent = SentCells()
        self.keys: deque[events.Key] = deque()  # that have come in, and the app has not come to

    def reach(self, key: events.Event) -> None:
        """The app is at this key."""
        if key in self.keys:
            while self.keys.popleft() is not key:
                pass

    def follows(self, *keys: str) -> bool:
        """Whether one of these keys is the next that waits."""
        return bool(self.keys) and self.keys[0].key in keys


@runtime_checkable
class TerminalApp(Protocol):
    """An app that shares what it knows of the terminal with the driver."""

    terminal: TerminalState


class TerminalDriver(LinuxDriver):
    """Textual's driver, that takes any byte, and a terminal that goes away as a hang-up."""

    def __init__(self, app: App[Any], **options: Any) -> None:
        super().__init__(app, **options)
        self._terminal = app.terminal if isinstance(app, TerminalApp) else TerminalState()

    def write(self, data: str) -> None:
        """Send what the terminal does not show already."""
        if needed := self._terminal.sent.needed(data):
            super().write(needed)

    def process_message(self, message: Message) -> None:
        """Hand a key on, and know of it; in the thread that reads."""
        if isinstance(message, events.Key):
            self._terminal.keys.append(message)
        super().process_message(message)

    def run_input_thread(self) -> None:
        """Read keys until the app ends; in a thread of its own."""
        terminal, ended = self.fileno, Event()
        source, sink = os.pipe()
        os.set_blocking(sink, False)
        reader = Thread(target=_hand_on, args=(terminal, sink, ended), name="terminal")
        # Only this thread reads; the main thread sets the terminal's modes before it starts and
        # after it has ended.
        self.fileno = source
        reader.start()
        try:
            super().run_input_thread()
        finally:
            self.fileno = terminal
            ended.set()
            reader.join()
            os.close(source)
            os.close(sink)


def _hand_on(terminal: int, sink: int, ended: Event) -> None:
    """Copy what is UTF-8 from the terminal to the pipe, until the app ends."""
    decode = getincrementaldecoder("utf-8")("ignore").decode
    waiting = b""
    while not ended.is_set():
        writable = [sink] if waiting else []
        readable = [] if waiting else [terminal]
        if not any(select.select(readable, writable, [], _PAUSE)):
            continue
        if waiting:
            waiting = waiting[os.write(sink, waiting) :]
        elif found := _read(terminal):
            waiting = decode(found).encode()
        else:
            os.kill(os.getpid(), signal.SIGHUP)
            return


def _read(terminal: int) -> bytes:
    """What has come in; nothing where the terminal is gone."""
    try:
        return os.read(terminal, _SIZE)
    except OSError:
        return b""
