"""``engramcka run``: do what is left of a config."""

from __future__ import annotations

import errno
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engramcka.errors import ConfigError, Interrupted
from engramcka.pipeline.tasks import Stage

if TYPE_CHECKING:
    from engramcka.pipeline import Outcome


_PATIENCE = 10.0  # seconds that the other ranks of a machine leave its first to speak
_QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # our own bars say what is going on
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # c10d warns, with a trace of C++, of a rank that is gone
}


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
        Stage | None,
        typer.Option(
            help="Do one stage; what it needs must be there, but for a sweep's own trainings."
        ),
    ] = None,
    share: Annotated[
        str,
        typer.Option(
            metavar="I/N",
            help="Only the trainings I, I+N, .. (from 0), for a job array; a run without it "
            "finishes the rest.",
        ),
    ] = "0/1",
) -> None:
    """Do what is left of CONFIG; a second run does nothing."""
    silence_libraries()
    from rich.console import Console

    from engramcka import stopping
    from engramcka.config import load_config
    from engramcka.distributed import PeerFailed
    from engramcka.launch import join_world, rank_of
    from engramcka.pipeline import run_config
    from engramcka.progress import Reporter
    from engramcka.stores import layout

    try:
        loaded, part = load_config(config, set_ or []), _parse_share(share)
    except ConfigError as error:
        if rank_of(os.environ)[2]:  # the machine's first rank says it, if it is not ended for us
            time.sleep(_PATIENCE)
            raise typer.Exit(error.exit_code) from error
        raise
    # Threads that wait for each other must not spin: with another job on the same cores, a training
    # step of a small model took over 5 s spinning and 0.36 s sleeping (two cores, torch 2.13).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    stopping.listen()
    try:
        world = join_world()
    except (KeyboardInterrupt, Interrupted) as stop:
        raise Interrupted("stopped; nothing was begun") from stop
    reporter = Reporter(Path(loaded.run.dir) / layout.LOG, rank=world.rank)
    try:
        outcome = run_config(loaded, reporter, only, world=world, share=part)
    except (KeyboardInterrupt, Interrupted) as stop:
        raise Interrupted(
            f"stopped; what was finished is in {loaded.run.dir}, the same command goes on"
        ) from stop
    except PeerFailed as error:
        if not error.is_said:
            raise
        raise typer.Exit(error.exit_code) from error
    finally:
        stopping.end()
    if world.first:
        try:
            _report(Console(highlight=False), loaded.run.dir, outcome)
        except OSError as error:
            if error.errno != errno.EIO:  # the terminal is gone, the run is done
                raise
    if outcome.failures:
        raise typer.Exit(1)


def _report(console: Any, run: str, outcome: Outcome) -> None:
    """What a run did and found; each failure as a line on stderr, last."""
    if not outcome.done and not outcome.failures:
        console.print(f"{run}: nothing to do, all {outcome.found} tasks are done.", markup=False)
    else:
        console.print(
            f"{run}: tasks done: {outcome.done}, found: {outcome.found}"
            + (f", failed: {len(outcome.failures)}" if outcome.failures else "")
            + (f", not made for lack of those: {outcome.skipped}" if outcome.skipped else "")
            + f"; {outcome.seconds:.0f} s",
            markup=False,
        )
    print_findings(console, Path(run))
    console.print(f"Look at it with: engramcka browse {run}", markup=False)
    for line in outcome.failures:
        print(f"engramcka: {line}", file=sys.stderr)


def print_findings(console: Any, run: Path) -> None:
    """A table of what the run found, what is doubtful of it, and the figure that shows each."""
    from rich.markup import escape
    from rich.table import Table

    from engramcka.figures.subjects import findings

    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings(run, parts=False):
        table.add_row(escape(finding.name), escape(finding.text))
        for warning in finding.warnings:
            table.add_row("", escape(f"warning: {warning}"), style="yellow")
        table.add_row("", escape(finding.figure), style="dim")
    if table.row_count:
        console.print(table)


def _parse_share(text: str) -> tuple[int, int]:
    """ "3/8" as (3, 8)."""
    which, _, parts = text.partition("/")
    if not (which.isdecimal() and parts.isdecimal() and int(which) < int(parts)):
        raise ConfigError(f"--share: found {text!r}; allowed: I/N with 0 <= I < N, e.g. 3/8")
    return int(which), int(parts)


def silence_libraries() -> None:
    """Silence libraries that are not loaded yet, unless the environment asks for their words.

    None of it belongs into a job's log. Python's warnings of what a library will change are for
    who calls it; all others are heard.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:  # -W or PYTHONWARNINGS
        warnings.simplefilter("ignore", FutureWarning)
