"""``engramcka run``: do what is left of a config."""

from __future__ import annotations

import os
import signal
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from engramcka.errors import Interrupted


class StageChoice(StrEnum):
    """The stages a run may be confined to."""

    tokenizer = "tokenizer"
    train = "train"
    extract = "extract"
    cka = "cka"
    sweep = "sweep"
    figures = "figures"


def command(
    config: Annotated[Path, typer.Argument(help="The config file.", show_default=False)],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set a key after reading the file, e.g. data.samples=1024.",
        ),
    ] = None,
    only: Annotated[
        StageChoice | None, typer.Option(help="Do one stage; what it needs must be there.")
    ] = None,
) -> None:
    """Do what is left of CONFIG; a second run does nothing."""
    from rich.console import Console

    from engramcka.config import load_config
    from engramcka.pipeline import run_config
    from engramcka.progress import Reporter
    from engramcka.stores import layout

    loaded = load_config(config, set_ or [])
    # Our own bars say what is going on; transformers' would break them.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Threads that wait for each other must not spin: with another job on the same cores, a training
    # step of a small model took over 5 s spinning and 0.36 s sleeping (two cores, torch 2.13).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _stop)
    reporter = Reporter(Path(loaded.run.dir) / layout.LOG)
    try:
        outcome = run_config(loaded, reporter, only.value if only else None)
    except (KeyboardInterrupt, Interrupted) as stop:
        raise Interrupted(
            f"stopped; what was finished is in {loaded.run.dir}, the same command goes on"
        ) from stop
    console = Console(highlight=False)
    if not outcome.done:
        console.print(
            f"{loaded.run.dir}: nothing to do, all {outcome.found} pieces are there.", markup=False
        )
    else:
        console.print(
            f"{loaded.run.dir}: pieces made: {outcome.done}, found: {outcome.found}; "
            f"{outcome.seconds:.0f} s",
            markup=False,
        )
    print_findings(console, Path(loaded.run.dir))
    console.print(f"Look at it with: engramcka browse {loaded.run.dir}", markup=False)


def print_findings(console: Any, run: Path) -> None:
    """A table of what the run found, and the figure that shows each."""
    from rich.markup import escape
    from rich.table import Table

    from engramcka.pipeline import findings

    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings(run):
        table.add_row(escape(finding.name), escape(finding.text))
        table.add_row("", escape(finding.figure), style="dim")
    if table.row_count:
        console.print(table)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Interrupted(f"stopped by signal {number}")
