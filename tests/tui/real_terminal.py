"""The program in a terminal of its own (a pty): what it writes, keys as bytes, signals."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.cells import cell_len

BROWSE = (sys.executable, "-m", "engramcka", "browse")
QUIET = 1.0  # without a byte: the app waits
SECONDS = 100  # for what takes a few, on a busy machine
FIRST_CELLS = "▀"


class Screen:
    """A terminal of few words: its cells as they look."""

    _TOKEN = re.compile(
        r"\x1b\[(?P<place>\d+;\d+)H|\x1b\[(?P<style>[\d;]*)m|\x1b\][^\x07\x1b]*(\x07|\x1b\\\\)"
        r"|\x1b\[[<>?]?[\d;]*[\$ ]?[A-Za-z]|\x1b[^\[\]]|(?P<text>[^\x00-\x1f])|[\x00-\x1a]"
    )

    def __init__(self) -> None:
        self.cells: dict[tuple[int, int], tuple[str, frozenset[str]]] = {}
        self.cursor = (1, 1)
        self.sent: set[tuple[int, int]] = set()  # the cells written since it was emptied
        self._rest = ""
        self._look: dict[str, str] = {}

    def show(self, data: str) -> None:
        """Act on what is sent; what is cut off waits for its end."""
        data, at = self._rest + data, 0
        while found := self._TOKEN.match(data, at):
            at = found.end()
            if found["place"]:
                y, x = found["place"].split(";")
                self.cursor = int(y), int(x)
            elif found["style"] is not None:
                self._wear(found["style"])
            elif text := found["text"]:
                self._write(text)
        self._rest = data[at:]

    def _wear(self, style: str) -> None:
        codes = style.split(";")
        while codes:
            code = codes.pop(0)
            if code in ("38", "48"):
                count = 4 if codes[0] == "2" else 2
                self._look[code] = ";".join(codes[:count])
                del codes[:count]
            elif code in ("39", "49"):
                self._look.pop(f"{code[0]}8", None)
            elif code in ("", "0"):
                self._look.clear()
            elif len(code) > 1:  # a named colour of the character or the ground
                self._look["38" if code[0] in "39" else "48"] = code
            else:
                self._look[code] = ""

    def _write(self, text: str) -> None:
        y, x = self.cursor
        seen = self._look
        if text == " " and not {"4", "7"} & set(seen):  # of a blank only the ground is seen
            seen = {key: value for key, value in seen.items() if key == "48"}
        self.sent.add((y, x))
        self.cells[y, x] = text, frozenset(f"{key} {value}" for key, value in seen.items())
        self.cursor = y, x + cell_len(text)

    @property
    def text(self) -> str:
        """The lines of the screen."""
        rows: dict[int, str] = {}
        for (y, x), (text, _) in sorted(self.cells.items()):
            rows[y] = rows.get(y, "").ljust(x - 1) + text
        return "\n".join(rows.values())


class Terminal:
    """A program and the terminal's other end."""

    def __init__(self, program: subprocess.Popen[bytes], master: int) -> None:
        self.program, self.master = program, master
        self.before = termios.tcgetattr(master)
        self.written = b""
        self.screen = Screen()
        self._decode = getincrementaldecoder("utf-8")("replace").decode

    def type(self, keys: bytes) -> None:
        """Send keys as a terminal would."""
        os.write(self.master, keys)

    def read_to(self, mark: bytes | str) -> bytes:
        """What is written from now on until the mark is in it, or a text comes to be on screen."""
        text = mark if isinstance(mark, str) else None
        mark = mark.encode() if isinstance(mark, str) else mark
        ends, found = time.monotonic() + SECONDS, b""
        there = text is not None and text in self.screen.text
        while mark not in found and (text is None or there or text not in self.screen.text):
            assert time.monotonic() < ends, found[-3000:]
            if select.select([self.master], [], [], 0.2)[0]:
                found += self._read()
            else:
                assert self.program.poll() is None, found[-3000:]
        return found

    def read_all(self) -> bytes:
        """What is written from now on until nothing more comes."""
        found = b""
        while select.select([self.master], [], [], QUIET if found else SECONDS)[0]:
            found += self._read()
        return found

    def _read(self) -> bytes:
        try:
            found = os.read(self.master, 1 << 16)
        except OSError:  # the terminal's end
            found = b""
        assert found, self.written[-3000:]
        self.written += found
        self.screen.show(self._decode(found))
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
    path: Path | str, *options: str, size: tuple[int, int] = (100, 30), **environ: str
) -> Iterator[Terminal]:
    """`engramcka browse OPTIONS PATH` in a terminal of so many columns and lines."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    own = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    known = {**own, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environ}
    program = subprocess.Popen(
        [*BROWSE, *options, str(path)],
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
