"""``engramcka export``: a stored result as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engramcka.errors import ConfigError


def command(
    run: Annotated[Path, typer.Argument(help="A run directory.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="File to write: .png, .pdf or .svg.", show_default=False
        ),
    ],
    what: Annotated[
        str | None,
        typer.Option(help="cka/NAME or sweep/NAME; the only result if left out."),
    ] = None,
) -> None:
    """Draw one result of RUN into a file."""
    from engramcka import figures
    from engramcka.stores import open_run

    stored = open_run(run)
    names = [f"cka/{name}" for name in stored.cka] + [f"sweep/{name}" for name in stored.sweep]
    chosen = what or (names[0] if len(names) == 1 else None)
    if chosen not in names:
        problem = f"no result {what!r}" if what else "which result? name it with --what"
        raise ConfigError(f"{run}: {problem}; there is {', '.join(names) or 'none'}")
    kind, name = chosen.split("/", 1)
    if kind == "cka":
        figures.save_cka_map(stored.cka[name], output)
    else:
        figures.save_sweep(stored.sweep[name], output)
    print(f"Wrote {output}")
