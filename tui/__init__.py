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
    from engramcka.tui.session import Session

__all__ = ["browse"]

NO_CURSOR = ("dumb", "unknown")  # terminals (TERM) that can only print line after line


def browse(paths: Sequence[Path], *, once: bool = False) -> int:
    """Open run directories, folders of them, or results stores in the terminal app.

    Args:
        paths: what to open.
        once: print the first result to standard output instead.

    Returns:
        The exit code: 0, 1 where the app has failed, 128 + N where signal N ended it.

    Raises:
        ConfigError: a path is none of these, or there is no terminal to open the app in.
        StoreError: with ``once``, the result cannot be read.
    """
    from engramcka.tui.catalog import find_runs

    refs = find_runs(paths)
    if once:
        from engramcka.tui.once import print_first

        print_first(refs)
        return 0
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise ConfigError("browse needs a terminal; with --once it prints the first result instead")
    if (term := os.environ.get("TERM", "").strip().lower()) in NO_CURSOR:
        raise ConfigError(
            f"TERM is {term}: browse needs a terminal whose cursor can be moved; set TERM to what "
            "yours is (xterm-256color), or print the first result with --once"
        )
    from engramcka.tui.app import BrowseApp
    from engramcka.tui.session import load_session, save_session, state_file
    from engramcka.tui.signals import leave_on_signals
    from engramcka.tui.terminal import capabilities

    def keep(session: Session) -> None:
        save_session(paths, session, state_file())

    session = load_session(paths, state_file())
    app = BrowseApp(paths, refs, capabilities(os.environ), session, keep=keep)
    leave_on_signals(app.leave)
    app.run()
    return app.return_code or 0
