"""Signals that end the app or put it aside: the terminal is given back, and the place is kept."""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from threading import Timer
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 3.0  # seconds that the app has to give the terminal back; one that is gone takes for ever


def leave_on_signals(leave: Callable[[int], bool]) -> None:
    """Have a signal end the app as a key would; in the main thread, before the app runs.

    Args:
        leave: ends the app with an exit code, of a shell: 128 and the signal's number; False while
            the app has not begun.
    """
    modes = termios.tcgetattr(sys.__stdin__.fileno()) if sys.__stdin__ is not None else None

    def end(code: int) -> None:
        with suppress(termios.error, OSError, ValueError):
            if modes is not None and sys.__stdin__ is not None:
                termios.tcsetattr(sys.__stdin__.fileno(), termios.TCSANOW, modes)
        os._exit(code)

    def take(number: int, frame: FrameType | None) -> None:
        code = 128 + number
        if not leave(code):
            raise SystemExit(code)
        last = Timer(GRACE, end, (code,))
        last.daemon = True
        last.start()

    for number in SIGNALS:
        signal.signal(number, take)


def can_stop() -> bool:
    """Whether there is a shell that a stopped program goes back to.

    The first program of a terminal (of a tmux window, of ``ssh HOST COMMAND``) would stop for ever.
    """
    return os.getpgrp() != os.getsid(0)


def stop() -> None:
    """Stop this program and those that stand between it and the shell, as the terminal would."""
    os.killpg(os.getpgrp(), signal.SIGTSTP)
