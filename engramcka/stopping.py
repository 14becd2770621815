"""Stopping at a safe point: a signal asks, and the work answers where its state is whole.

From the first line of the command on (`begin`) a signal ends it quietly; while nothing is begun, at
once. A run then listens (`listen`): long work calls `check` (through its progress) between steps. A
first signal is a request; work that does not reach a safe point within `GRACE` seconds is stopped
where it is, and so it is by a second signal: what is written is whole or absent all the same.
Nothing is raised while a module is being imported, where libraries swallow what is raised and leave
halves behind.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType

from engramcka.errors import Interrupted

GRACE = 8.0  # seconds; Slurm and Kubernetes give 30 before they kill
_AGAIN = 0.05  # seconds
# USR1: Slurm's warning (--signal); HUP: the terminal is gone.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
INTERRUPTED = 128 + signal.SIGINT  # exit code of a command that keeps no state, as of a shell

_IMPORT = "<frozen importlib._bootstrap>"
_asked: signal.Signals | None = None
_terminals: list[int] = []  # what of standard output and error was one at the start


def begin(is_run: bool) -> None:
    """Take the signals while nothing is begun: before anything heavy is imported.

    Args:
        is_run: whether the command is one that a signal asks to stop; others hear Ctrl-C alone.
    """
    _terminals[:] = [number for number in (1, 2) if os.isatty(number)]
    for number in SIGNALS if is_run else SIGNALS[:1]:
        _take(number, _leave if is_run else _interrupt)


def listen() -> None:
    """Take the signals that ask a run to stop; in the main thread, once a process."""
    for number in SIGNALS:
        _take(number, _ask)
    signal.signal(signal.SIGALRM, _now)
    sys.unraisablehook = _unraisable


def check() -> None:
    """Stop here if a signal has asked for it.

    Raises:
        Interrupted: there was a signal; in the main thread only.
    """
    if _asked is not None and threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)  # the state is being saved: no second interruption
        raise Interrupted(f"stopped by {_asked.name}")


def was_interrupted() -> bool:
    """Whether Ctrl-C has ended a command that keeps no state."""
    return _asked is not None and signal.getsignal(signal.SIGINT) is _interrupt


def end() -> None:
    """Nothing is left to stop: a signal must not change the exit code of what has ended.

    When one rank ends, its launcher sends the others a signal, and Python while it shuts down would
    die of it.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in SIGNALS:
        if signal.getsignal(number) in (_ask, _leave, _interrupt):
            signal.signal(number, signal.SIG_IGN)


def _take(number: signal.Signals, handler: signal._HANDLER) -> None:
    """Handle a signal; a hang-up that was ignored at the start (nohup) stays ignored."""
    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    """End here, as nothing is begun: an exception could be swallowed by what is being imported."""
    told = f"engramcka: stopped by {signal.Signals(number).name}; nothing was begun\n"
    with suppress(OSError):
        os.write(2, told.encode())
    os._exit(Interrupted.exit_code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C in a command that keeps no state."""
    global _asked
    if _is_importing(frame):
        os._exit(INTERRUPTED)
    _asked = signal.Signals(number)
    raise KeyboardInterrupt


def _unraisable(hook: sys.UnraisableHookArgs) -> None:
    """A stop that came inside a destructor is lost there: ask again, and say nothing."""
    if isinstance(hook.exc_value, (Interrupted, KeyboardInterrupt)):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
    else:
        sys.__unraisablehook__(hook)


def _ask(number: int, frame: FrameType | None) -> None:
    global _asked
    again = _asked is not None
    if number == signal.SIGHUP:
        _silence()
        if again:  # the kernel and the shell both send it: one request
            return
    if again:
        _now(number, frame)
        return
    _asked = signal.Signals(number)
    signal.setitimer(signal.ITIMER_REAL, GRACE)
    with suppress(OSError):
        if os.isatty(2):
            os.write(2, b"\nStopping at the next safe point; once more stops at once.\n")


def _now(number: int, frame: FrameType | None) -> None:
    """Stop where the work is; no `except Exception` on the way takes it for its own."""
    if _is_importing(frame):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise KeyboardInterrupt(f"stopped by {(_asked or signal.Signals(number)).name}")


def _silence() -> None:
    """What is said to a terminal that is gone from here on goes nowhere, and is no error."""
    for number in _terminals:
        if not os.isatty(number):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported where the main thread is."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            return True
        frame = frame.f_back
    return False
