"""Textual's driver, sending only what changes, and taking over a screen that is entered already."""

from __future__ import annotations

from typing import Any

from textual.drivers.linux_driver import LinuxDriver

from engramcka.tui.cell_diff import CellDiff
from engramcka.tui.first_frame import Taken


class DiffDriver(LinuxDriver):
    """Sends of every output the cells that it changes."""

    taken = Taken(False, None)
    """What the terminal was before the first frame."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._cells = CellDiff()
        self._entered = self.taken.entered  # until the app's own screen

    def start_application_mode(self) -> None:
        """Take over the terminal; a first frame on it stays until the app's own."""
        super().start_application_mode()  # type: ignore[no-untyped-call]
        if self.taken.attributes is not None:
            self.attrs_before = self.taken.attributes

    def write(self, data: str) -> None:
        """Send what changes."""
        if self._entered and data == "\x1b[?1049h":
            self._entered = False
        else:
            super().write(self._cells.reduced(data))

    def forget(self) -> None:
        """The terminal may have changed what it shows: send everything from here on."""
        self._cells.forget()


def driver_for(taken: Taken) -> type[DiffDriver]:
    """The driver of a terminal that the first frame may be on."""
    return type("TakingDriver", (DiffDriver,), {"taken": taken})
