"""Textual's driver, sending only what changes, and taking over a screen that is entered already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.drivers.linux_driver import LinuxDriver

from engramcka.tui.cell_diff import CellDiff


class DiffDriver(LinuxDriver):
    """Sends of every output the cells that it changes."""

    restore: Callable[[], None] | None = None
    """Makes the terminal as it was before the first frame; set where that was drawn."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._cells = CellDiff()
        self._entered = self.restore is not None  # until the screen is taken over

    def start_application_mode(self) -> None:
        """Take over the terminal; a first frame on it stays until the app's own."""
        if self._entered and self.restore is not None:
            self.restore()  # what the driver finds now is what it leaves behind
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def write(self, data: str) -> None:
        """Send what changes."""
        if self._entered and data == "\x1b[?1049h":
            self._entered = False
        else:
            super().write(self._cells.reduced(data))

    def forget(self) -> None:
        """The terminal may have changed what it shows: send everything from here on."""
        self._cells.forget()


def driver_for(restore: Callable[[], None] | None) -> type[DiffDriver]:
    """The driver, over the first frame where ``restore`` says that there is one."""
    if restore is None:
        return DiffDriver
    return type("TakingOverDriver", (DiffDriver,), {"restore": staticmethod(restore)})
