"""``engramcka browse``: the terminal app."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from engramcka import stopping


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Run directories, or folders of them; here if left out."),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print the first result as text and leave.")
    ] = False,
) -> None:
    """Look at maps and sweeps in the terminal."""
    from engramcka.tui import browse

    if not once:  # until the app takes the signals itself
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = browse(paths or [Path()], once=once)
    except KeyboardInterrupt as stop:
        raise typer.Exit(stopping.INTERRUPTED) from stop
    if code:
        raise typer.Exit(code)
