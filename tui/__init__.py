"""The terminal app: maps and sweeps of runs, over SSH, while jobs write.

Computes nothing, and imports neither torch nor transformers. Importing this package imports no
Textual either; `browse` does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engramcka.errors import ConfigError

if TYPE_CHECKING:
    from engramcka.tui.catalog import Place
    from engramcka.tui.first_frame import Taken
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
    with first_frame(places, left) as taken:
        left = _run(paths, places, left, taken)
    memory.remember(paths, left, memory.state_file())


def _run(paths: Sequence[Path], places: Sequence[Place], left: Memory, taken: Taken) -> Memory:
    """Run the app, over what is drawn already; returns where the user left off."""
    from engramcka.tui.app import BrowseApp
    from engramcka.tui.capabilities import capabilities
    from engramcka.tui.driver import driver_for

    known = capabilities(os.environ)
    app = BrowseApp(paths, places, known, left, driver_class=driver_for(taken))
    app.run()
    return app.left_off
