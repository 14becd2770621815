"""Stopping at a safe point: a signal asks, and the work answers where its state is whole.

Long work calls `check` (through its progress) between steps. A first signal is a request; work that
does not reach a safe point within `GRACE` seconds is stopped where it is, and so it is by a second
signal: what is written is whole or absent all the same. Knows nothing of the work.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from engramcka.errors import Interrupted

GRACE = 8.0  # seconds; Slurm and Kubernetes give 30 before they kill
_AGAIN = 0.05  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # USR1: Slurm's warning (--signal)

_asked: signal.Signals | None = None


def listen() -> None:
    """Take the signals that ask a run to stop; in the main thread, once a process."""
    for number in SIGNALS:
        signal.signal(number, _ask)
    signal.signal(signal.SIGALRM, _now)
    sys.unraisablehook = _unraisable


def end() -> None:
    """Hear no more signals: the process ends, and its exit code is settled.

    When one rank ends, its launcher sends the others a signal, and Python while it shuts down would
    die of it.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def check() -> None:
    """Stop here if a signal has asked for it.

    Raises:
        Interrupted: there was a signal; in the main thread only.
    """
    if _asked is not None and threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)  # the state is being saved: no second interruption
        raise Interrupted(f"stopped by {_asked.name}")


def _unraisable(hook: sys.UnraisableHookArgs) -> None:
    """A stop that came inside a destructor is lost there: ask again, and say nothing."""
    if isinstance(hook.exc_value, Interrupted):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
    else:
        sys.__unraisablehook__(hook)


def _ask(number: int, frame: FrameType | None) -> None:
    global _asked
    if _asked is not None:
        _now(number, frame)
    _asked = signal.Signals(number)
    signal.setitimer(signal.ITIMER_REAL, GRACE)
    if sys.stderr.isatty():
        os.write(2, b"\nStopping at the next safe point; once more stops at once.\n")


def _now(number: int, frame: FrameType | None) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise Interrupted(f"stopped by {signal.Signals(number).name}")
