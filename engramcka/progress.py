"""How a long job talks: bars on a terminal, dated lines elsewhere, and events in log.jsonl.

One interface for all three, so that the code that works says what it did once.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from engramcka import stopping
from engramcka.own_files import open_descriptor

LINE_SECONDS = 10.0  # between two lines about one task when there are no bars
LOG_SECONDS = 1.0  # between two progress events of one task in the log


class TaskProgress:
    """One task under way; `advance` it as it gets done."""

    def __init__(self, reporter: Reporter, stage: str, name: str, total: int, unit: str) -> None:
        self.stage, self.name, self.total, self.unit = stage, name, total, unit
        self.done = 0
        self._info = ""
        self._reporter = reporter
        self._started = self._line_at = self._log_at = time.monotonic()
        self._bar: TaskID | None = None
        if reporter.bars is not None:
            self._bar = reporter.bars.add_task(
                f"{stage:<9} {name}", total=total or None, unit=unit, info=""
            )

    @property
    def seconds(self) -> float:
        """Time since the work began."""
        return time.monotonic() - self._started

    def advance(self, steps: int = 1, info: str = "") -> None:
        """Say that ``steps`` more are done; ``info`` is a short reading, e.g. the loss."""
        self.update(self.done + steps, info=info)

    def update(self, done: int, total: int | None = None, info: str = "") -> None:
        """Say how many steps are done, and how many there are if that is only known now.

        Called between steps, where the state is whole: a run that was asked to stop does so here.

        Raises:
            Interrupted: a signal has asked the run to stop.
        """
        self.done, self.total, self._info = done, total or self.total, info
        now = time.monotonic()
        if self._bar is not None and self._reporter.bars is not None:
            self._reporter.bars.update(self._bar, completed=done, total=self.total, info=info)
        elif now - self._line_at >= LINE_SECONDS:
            self._line_at = now
            count = f"{done}/{self.total} {self.unit}"
            self._reporter.line(f"{self.stage} {self.name}: {count} {info}".rstrip())
        if now - self._log_at >= LOG_SECONDS:
            self._log_at = now
            self._reporter.log("progress", **self._facts(), info=info)
        stopping.check()

    def note(self, event: str, info: str, **facts: Any) -> None:
        """Say a sentence about the work that is to stay: a line, and an event with its numbers."""
        self._reporter.line(f"{self.stage} {self.name}: {info}")
        self._reporter.log(event, stage=self.stage, name=self.name, **facts, info=info)

    def _facts(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "name": self.name,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
        }

    def _end(self, event: str, info: str) -> None:
        """Its end, in the words of the last update where it has none of its own."""
        info = info or self._info
        if self._bar is not None and self._reporter.bars is not None:
            if event == "done":
                self._reporter.bars.update(self._bar, completed=self.total, total=self.total)
            self._reporter.bars.stop_task(self._bar)
        else:
            word = "done" if event == "done" else "not finished"
            self._reporter.line(
                f"{self.stage} {self.name}: {word} in {self.seconds:.1f} s {info}".rstrip()
            )
        self._reporter.log(event, **self._facts(), seconds=round(self.seconds, 3), info=info)


class _Unbroken:
    """A stream that may vanish, as a terminal does with its connection: no reason to stop work."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Reporter:
    """Where progress goes: bars if the console is a terminal, and always the log if there is one.

    Use it as a context manager, so that the bars are put away before anything else is printed. Of
    several ranks only the first talks; each logs, with its number.
    """

    def __init__(
        self, log: Path | None = None, console: Console | None = None, rank: int = 0
    ) -> None:
        stderr: Any = _Unbroken(sys.stderr)
        self.console = console or Console(file=stderr, highlight=False, quiet=rank > 0)
        self.bars: Progress | None = None
        self._log, self._rank = log, rank

    def __enter__(self) -> Reporter:
        if self.console.is_terminal and not self.console.quiet:
            self.bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}", markup=False),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[info]}", markup=False),
                console=self.console,
                expand=True,
            )
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars is not None:
            self.bars.stop()
            self.bars = None

    @contextmanager
    def task(self, stage: str, name: str, total: int, unit: str) -> Iterator[TaskProgress]:
        """One task: its start, its progress and its end are told and logged."""
        task = TaskProgress(self, stage, name, total, unit)
        self.log("start", stage=stage, name=name, total=total, unit=unit)
        if self.bars is None:
            self.line(f"{stage} {name}: started")
        try:
            yield task
        except BaseException as error:
            with suppress(OSError):  # what is told is why it failed
                task._end("failed", type(error).__name__)
            raise
        task._end("done", "")

    def line(self, text: str) -> None:
        """One plain, dated line."""
        now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
        self.console.print(f"{now} {text}", markup=False, soft_wrap=True)

    def log(self, event: str, **facts: Any) -> None:
        """One event in log.jsonl."""
        if self._log is None:
            return
        entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
        if self._rank:
            facts["rank"] = self._rank
        try:
            self._append(self._log, json.dumps({**entry, **facts}) + "\n")
        except OSError as error:
            error.filename = str(self._log)
            raise

    @staticmethod
    def _append(log: Path, line: str) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        with os.fdopen(open_descriptor(log, flags), "rb+", buffering=0) as file:
            end = os.fstat(file.fileno()).st_size
            cut_off = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"  # by a kill
            file.write(("\n" * cut_off + line).encode())
