"""The terminal app: maps and sweeps of runs, over SSH, while jobs write.

Computes nothing, and imports neither torch nor transformers. Importing this package imports no
Textual either; `browse` does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from engramcka.errors import ConfigError

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
    from engramcka.tui.catalog import find_runs

    refs = find_runs(paths)
    if once:
        from engramcka.tui.once import print_first

        print_first(refs)
        return
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise ConfigError("browse needs a terminal; with --once it prints the first result instead")
    from engramcka.tui.app import BrowseApp
    from engramcka.tui.session import load_session, save_session, state_file
    from engramcka.tui.terminal import capabilities

    session = load_session(paths, state_file())
    app = BrowseApp(paths, refs, capabilities(os.environ), session)
    app.run()
    save_session(paths, app.last_session, state_file())
