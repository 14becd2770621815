"""The terminal app: maps and sweeps of runs, over SSH, while jobs write.

Computes nothing, and imports neither torch nor transformers. Importing this package imports no
Textual either; `browse` does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engramcka.errors import ConfigError

if TYPE_CHECKING:
    from textual.driver import Driver

    from engramcka.tui.catalog import Place
    from engramcka.tui.memory import Memory

__all__ = ["browse"]


def browse(paths: Sequence[Path], *, once: bool = False) -> None:
    """Open run directories, folders of them, or results stores in the terminal app.

    Args:
        paths: what to open.
        once: print the first result to standard output instead.

    Raises:
        ConfigError: a path is none of these, or there is no terminal to open the app in.
        StoreError: with ``once``, the result cannot be read.
    """
    from engramcka.tui.catalog import find_places

    places = find_places(paths)
    if once:
        from engramcka.tui.once import print_first

        print_first(places)
        return
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise ConfigError("browse needs a terminal; with --once it prints the first result instead")
    from engramcka.tui import memory
    from engramcka.tui.first_frame import first_frame

    left = memory.recall(paths, memory.state_file())
    with first_frame(places, left) as restore:
        left = _run(paths, places, left, staying_driver(restore) if restore else None)
    memory.remember(paths, left, memory.state_file())


def _run(
    paths: Sequence[Path], places: Sequence[Place], left: Memory, driver: type[Driver] | None
) -> Memory:
    """Run the app, over what is drawn already; returns where the user left off."""
    from rich.console import Console

    from engramcka.tui.app import BrowseApp
    from engramcka.tui.terminal import capabilities

    system = Console(force_terminal=True).color_system
    app = BrowseApp(
        paths, places, capabilities(os.environ, system), left,
        driver_class=driver,
    )  # fmt: skip
    app.run()
    return app.left_off


def staying_driver(restore: Callable[[], None]) -> type[Driver]:
    """Textual's driver, which does not clear a screen that was entered already."""
    from textual.drivers.linux_driver import LinuxDriver

    class StayingDriver(LinuxDriver):
        _entered = True

        def start_application_mode(self) -> None:
            restore()  # what the driver finds now is what it leaves behind
            super().start_application_mode()  # type: ignore[no-untyped-call]

        def write(self, data: str) -> None:
            if self._entered and data == "\x1b[?1049h":
                self._entered = False
            else:
                super().write(data)

    return StayingDriver
