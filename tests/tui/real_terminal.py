"""The program in a terminal of its own (a pty): what it writes, keys as bytes, signals."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BROWSE = (sys.executable, "-m", "engramcka", "browse")
SECONDS = 100  # for what takes a few, on a busy machine
FIRST_CELLS = "▀"


class Terminal:
    """A program and the terminal's other end."""

    def __init__(self, program: subprocess.Popen[bytes], master: int) -> None:
        self.program, self.master = program, master
        self.before = termios.tcgetattr(master)
        self.written = b""

    def type(self, keys: bytes) -> None:
        """Send keys as a terminal would."""
        os.write(self.master, keys)

    def read_to(self, mark: bytes | str) -> bytes:
        """What is written from now on until the mark is in it."""
        mark = mark.encode() if isinstance(mark, str) else mark
        ends, found = time.monotonic() + SECONDS, b""
        while mark not in found:
            assert time.monotonic() < ends, found[-3000:]
            if select.select([self.master], [], [], 0.2)[0]:
                found += self._read()
            else:
                assert self.program.poll() is None, found[-3000:]
        return found

    def _read(self) -> bytes:
        try:
            found = os.read(self.master, 1 << 16)
        except OSError:  # the terminal's end
            found = b""
        assert found, self.written[-3000:]
        self.written += found
        return found

    def end(self, number: signal.Signals | None = None) -> int:
        """The exit code, after a signal if one is given; all that was written is in `written`."""
        if number is not None:
            self.program.send_signal(number)
        with suppress(OSError, AssertionError):
            while True:
                self._read()
        return self.program.wait(SECONDS)

    @property
    def is_given_back(self) -> bool:
        """Whether modes, screen, mouse and cursor are as they were before the program."""
        screen = self.written
        undone = all(
            0 <= screen.rfind(b"\x1b[?%dh" % mode) < screen.rfind(b"\x1b[?%dl" % mode)
            for mode in (1000, 1003, 1006, 1049, 2004)
        )
        shown = screen.rfind(b"\x1b[?25h") > screen.rfind(b"\x1b[?25l")
        return undone and shown and termios.tcgetattr(self.master) == self.before


@contextmanager
def terminal(
    path: Path | str, *, size: tuple[int, int] = (100, 30), **environ: str
) -> Iterator[Terminal]:
    """`engramcka browse PATH` in a terminal of so many columns and lines."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    known = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environ}
    program = subprocess.Popen(
        [*BROWSE, str(path)],
        stdin=slave, stdout=slave, stderr=slave, env=known, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    found = Terminal(program, master)
    try:
        yield found
    finally:
        program.kill()
        program.wait()
        with suppress(OSError):
            os.close(master)
