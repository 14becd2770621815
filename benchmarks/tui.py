"""What the terminal app costs, in a pseudo-terminal: first frame, bytes and time of a cursor move.

    python benchmarks/tui.py [--moves 200] [--runs 5]

First frame: from the start of the process to the first cell of a map, and to the readout of the
cell under the cursor, against the first frame of an empty Textual app, interleaved. A folder is
usable when the readout is there. Cursor moves: random arrow keys, each sent when the terminal was
quiet; bytes written and time to the last of them. Run it on a quiet machine. Goals: the readout
within 2.5 of the empty app, at most 1 kB and 10 ms a move, 1,000 runs within 2 s and 300 MB.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import random
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import numpy as np

QUIET = 0.1  # seconds without a byte: the app is done
KEYS = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "right", b"\x1b[D": "left"}
EMPTY = "from textual.app import App; App().run()"
FIRST = {"empty": b"\x1b[48;2;", "map": "▀".encode(), "app": b"null"}


class Terminal:
    """A program in a pseudo-terminal of a size."""

    def __init__(self, command: list[str], columns: int, lines: int, state: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environ = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor",
                   "LANG": "C.UTF-8", "XDG_STATE_HOME": state}  # fmt: skip
        environ.pop("NO_COLOR", None)
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True
        )
        os.close(slave)

    def read(self, timeout: float) -> bytes:
        """Bytes that are there within the timeout; b"" for none."""
        if not select.select([self.master], [], [], timeout)[0]:
            return b""
        try:
            return os.read(self.master, 1 << 16)
        except OSError:
            return b""

    def until(self, mark: bytes, limit: float = 20.0) -> float:
        """Seconds from the start to the first output with this mark."""
        seen = b""
        while time.perf_counter() - self.started < limit:
            seen += self.read(0.5)
            if mark in seen:
                return time.perf_counter() - self.started
        raise SystemExit(f"no {mark!r} within {limit} s; the end of the output: {seen[-2000:]!r}")

    def drain(self, quiet: float = QUIET) -> tuple[int, float]:
        """(bytes, seconds to the last of them) until nothing comes any more."""
        started = last = time.perf_counter()
        count = 0
        while chunk := self.read(quiet):
            count += len(chunk)
            last = time.perf_counter()
        return count, last - started

    def send(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def memory(self) -> float:
        """Resident memory, in MB (Linux)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    def close(self) -> None:
        """End the program."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.master)


def make_run(run: Path, size: int) -> None:
    """A run with one map of size x size layers, with intervals and a null, as the engine's."""
    from engramcka.results import CkaMap
    from engramcka.stores import write_cka
    from engramcka.stores.results import open_root

    rng = np.random.default_rng(0)
    rows, columns = np.indices((size, size))
    similarity = np.exp(-(((rows - columns) / size * 4) ** 2)) + rng.normal(0, 0.02, (size, size))
    null = rng.normal(0, 0.003, (20, size, size))
    run.mkdir(parents=True)
    open_root(run / "results.zarr")
    ends = {"ci_low": similarity - 0.01, "ci_high": similarity + 0.01}
    groups = similarity + rng.normal(0, 0.002, (16, size, size))
    cka = CkaMap(similarity, **ends, null=null, jackknife=groups)
    write_cka(run / "results.zarr", "map", cka, {})


def browse(run: Path) -> list[str]:
    """The command that opens a run."""
    code = (
        f"from pathlib import Path; from engramcka.tui import browse; browse([Path({str(run)!r})])"
    )
    return [sys.executable, "-c", code, str(run)]


def first_frames(run: Path, repeats: int, state: str) -> None:
    """Empty app and map in turn."""
    found: dict[str, list[float]] = {name: [] for name in FIRST}
    for _ in range(repeats):
        terminal = Terminal([sys.executable, "-c", EMPTY], 100, 30, state)
        found["empty"].append(terminal.until(FIRST["empty"]))
        terminal.close()
        terminal = Terminal(browse(run), 100, 30, state)
        for name in ("map", "app"):
            found[name].append(terminal.until(FIRST[name]))
        terminal.close()
    empty = min(found["empty"])
    print(f"first frame of an empty Textual app: {empty:.3f} s")
    for name, what in (("map", "the map"), ("app", "the app with its readout")):
        pairs = zip(found[name], found["empty"], strict=True)
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"{what}: {min(found[name]):.3f} s, ratio {min(found[name]) / empty:.2f} "
              f"(median of pairs {ratio:.2f})")  # fmt: skip


def cursor_moves(run: Path, size: int, moves: int, state: str) -> None:
    """Bytes and time of single moves, then of a key held down."""
    terminal = Terminal(browse(run), 100, 30, state)
    terminal.until(FIRST["app"])
    terminal.drain(2.5)
    terminal.send(b"llllllllllllllkkkkkkkkkkkkkk")
    terminal.drain(0.5)
    chosen = random.Random(0)
    sent, took = [], []
    for _ in range(moves):
        terminal.send(chosen.choice(list(KEYS)))
        count, seconds = terminal.drain()
        sent.append(count)
        took.append(seconds * 1000)
    print(f"{size} x {size}: {statistics.median(sent):.0f} bytes, "
          f"{statistics.median(took):.1f} ms a move (median of {moves}; "
          f"9 of 10 under {sorted(sent)[moves * 9 // 10]} bytes, "
          f"{sorted(took)[moves * 9 // 10]:.1f} ms; most {max(sent)} bytes)")  # fmt: skip
    held = 0.0
    for key in (b"\x1b[C", b"\x1b[D") * 5:
        for _ in range(12):
            terminal.send(key)
            time.sleep(1 / 30)
        held = max(held, terminal.drain()[1])
    print(f"{size} x {size}: after a key held at 30 a second, still {held * 1000:.1f} ms at most")
    terminal.close()


def many_runs(folder: Path, count: int, state: str) -> None:
    """A folder of many runs: until the map is there, and the memory then."""
    for index in range(count):
        make_run(folder / f"run-{index:04d}", 6)
    terminal = Terminal(browse(folder), 100, 30, state)
    seconds = terminal.until(FIRST["app"])
    terminal.drain(1.5)
    print(f"{count} runs: usable after {seconds:.2f} s, {terminal.memory():.0f} MB")
    terminal.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5, help="first frames of each kind")
    parser.add_argument("--folder", type=int, default=1000, help="runs in the folder; 0 for none")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for size in (30, 80):
            make_run(root / f"run{size}", size)
        first_frames(root / "run30", given.runs, scratch)
        for size in (30, 80):
            cursor_moves(root / f"run{size}", size, given.moves, scratch)
        if given.folder:
            many_runs(root / "folder", given.folder, scratch)


if __name__ == "__main__":
    main()
