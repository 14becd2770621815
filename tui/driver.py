"""The terminal's keys as Textual reads them, without what would end the app.

Textual decodes what comes from the terminal strictly, and asks a terminal that is gone again and
again. Bytes are read here instead, those that are no UTF-8 left out, and handed on through a pipe.
"""

from __future__ import annotations

import os
import select
import signal
from codecs import getincrementaldecoder
from threading import Event, Thread

from textual.drivers.linux_driver import LinuxDriver

_PAUSE = 0.1  # seconds between two looks at whether the app is ending
_SIZE = 4096


class TerminalDriver(LinuxDriver):
    """Textual's driver, that takes any byte, and a terminal that goes away as a hang-up."""

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
