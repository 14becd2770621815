"""Reading results and watching the disk in worker threads, for the screen that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event

from textual.screen import Screen

from engramcka.tui import loading
from engramcka.tui.catalog import Entry, RunFacts, signature
from engramcka.tui.loading import Broken, Loaded
from engramcka.tui.messages import EntryChanged, EntryRead, RunsChanged
from engramcka.tui.watch import look, watch


class ReadingScreen(Screen[None]):
    """Posts `EntryRead`, `EntryChanged` and `RunsChanged`; what they do is the subclass's."""

    def __init__(self, paths: Sequence[Path], pause: float) -> None:
        super().__init__()
        self.paths, self.pause = list(paths), pause
        self._leaving = Event()
        self.runs: tuple[RunFacts, ...] = ()
        self.found: Loaded | Broken | None = None  # what is on screen
        self.other: Loaded | Broken | None = None  # what it is compared with

    def read(self, entry: Entry) -> None:
        """Read an entry in a thread; a later call for another entry makes this one moot."""
        self.run_worker(
            lambda: self.post_message(EntryRead(loading.load(entry))), thread=True, group="read"
        )

    def start_watching(self) -> None:
        """Look at the disk until the app ends."""
        self.run_worker(self._watch, thread=True, group="watch")

    def _watch(self) -> None:
        watch(self.look_once, self._leaving, self.pause)

    def on_unmount(self) -> None:
        """Watch no longer."""
        self._leaving.set()

    def look_once(self) -> None:
        """Compare the disk with the screen; in the watching thread."""
        runs = look(self.paths, self.runs)
        if runs != self.runs:
            self.post_message(RunsChanged(runs))
        for found in (self.found, self.other):
            if found is not None and signature(found.entry) != found.signature:
                self.post_message(EntryChanged(found.entry))
