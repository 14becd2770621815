"""``engramcka browse``: the terminal app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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

    browse(paths or [Path()], once=once)
