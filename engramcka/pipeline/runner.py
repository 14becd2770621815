"""Doing what is left of a plan, in order, and keeping the record of it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engramcka.config import Config, dump_config
from engramcka.errors import EngramckaError, StoreError
from engramcka.pipeline.context import Context
from engramcka.pipeline.pieces import Piece, Stage
from engramcka.pipeline.plan import make_plan
from engramcka.progress import Reporter
from engramcka.stores import layout, provenance
from engramcka.stores.results import open_root


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    done: int  # pieces made now
    found: int  # pieces that were there already
    seconds: float


def left(pieces: Sequence[Piece], only: Stage | None = None) -> list[Piece]:
    """The pieces that are not done, of one stage or of all."""
    chosen = [piece for piece in pieces if only in (None, piece.stage)]
    return [piece for piece in chosen if not piece.is_done()]


def run_config(config: Config, reporter: Reporter, only: Stage | None = None) -> Outcome:
    """Do what is left of a run.

    Args:
        config: the run.
        reporter: where progress goes; entered only if there is something to do.
        only: one stage; what it needs must be there.

    Raises:
        EngramckaError: of the piece that failed; what was finished before it stays.
    """
    started = time.monotonic()
    pieces = make_plan(config)
    todo = left(pieces, only)
    run = Path(config.run.dir)
    if todo:
        _prepare(run, config)
        with reporter:
            _work_through(todo, Context(config), reporter)
    return Outcome(len(todo), len(pieces) - len(todo), time.monotonic() - started)


def _prepare(run: Path, config: Config) -> None:
    """Make the run directory, clear what a killed process left, write the resolved config."""
    try:
        for folder in (layout.ACTIVATIONS, layout.CHECKPOINTS, layout.FIGURES):
            (run / folder).mkdir(parents=True, exist_ok=True)
        layout.remove_scratch(run)
        layout.write_text_atomically(run / layout.CONFIG, dump_config(config))
    except OSError as error:
        raise StoreError(
            f"{run}: cannot be written ({error.strerror or error}); choose another run.dir"
        ) from error


def _work_through(todo: Sequence[Piece], context: Context, reporter: Reporter) -> None:
    root = open_root(context.results)
    root.attrs["provenance"] = {
        **root.attrs.get("provenance", {}),  # type: ignore[dict-item]
        "config": context.config.to_dict(),
        "versions": provenance.versions(),
        "device": context.device,
        "git_commit": provenance.git_commit(Path(__file__).parent),
        "seed": context.config.run.seed,
    }
    reporter.log("run", pid=os.getpid(), pieces=len(todo), **root.attrs["provenance"])  # type: ignore[arg-type]
    for piece in todo:
        with reporter.task(piece.stage, piece.name, piece.total, piece.unit) as task:
            try:
                piece.work(context, task)
            except EngramckaError:
                raise
            except OSError as error:
                raise StoreError(f"{piece.stage} {piece.name}: {error}") from error
        seconds = dict(root.attrs.get("seconds", {}))  # type: ignore[arg-type]
        seconds[f"{piece.stage}/{piece.name}"] = round(task.seconds, 3)
        root.attrs["seconds"] = seconds
    reporter.log("finished")
