"""Doing what is left of a plan, in order, and keeping the record of it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engramcka.config import Config, dump_config
from engramcka.errors import StoreError
from engramcka.pipeline.context import Context
from engramcka.pipeline.pieces import Piece, Stage
from engramcka.pipeline.plan import make_plan
from engramcka.progress import Reporter
from engramcka.stores import layout, provenance
from engramcka.stores.results import open_root
from engramcka.whole import remove_scratch, whole


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    done: int  # pieces made now
    found: int  # pieces that were there already
    seconds: float


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
    pieces = [piece for piece in make_plan(config) if only in (None, piece.stage)]
    todo = [piece for piece in pieces if not piece.is_done()]
    made = 0
    if todo:
        context = Context(config)
        if any(piece.stage == "extract" for piece in todo):
            _ = context.samples  # too few entities must not be found out after the training
        _prepare(context.run, config)
        with reporter:
            made = _work_through(pieces, context, reporter)
    return Outcome(made, len(pieces) - made, time.monotonic() - started)


def _prepare(run: Path, config: Config) -> None:
    """Make the run directory, clear what a killed process left, write the resolved config."""
    try:
        for folder in (layout.ACTIVATIONS, layout.CHECKPOINTS, layout.FIGURES):
            (run / folder).mkdir(parents=True, exist_ok=True)
        remove_scratch(run)
        with whole(run / layout.CONFIG) as scratch:
            scratch.write_text(dump_config(config), encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"{run}: cannot be written ({error.strerror or error}); choose another run.dir"
        ) from error


def _work_through(pieces: Sequence[Piece], context: Context, reporter: Reporter) -> int:
    """Make every piece that is not done when its turn comes; returns how many that were."""
    root = open_root(context.results)
    root.attrs["provenance"] = {
        **root.attrs.get("provenance", {}),  # type: ignore[dict-item]
        "config": context.config.to_dict(),
        "versions": provenance.versions(),
        "device": context.device,
        "git_commit": provenance.git_commit(Path(__file__).parent),
        "seed": context.config.run.seed,
    }
    reporter.log("run", pid=os.getpid(), pieces=len(pieces), **root.attrs["provenance"])  # type: ignore[arg-type]
    made = 0
    for piece in pieces:
        if piece.is_done():  # asked again here: what a piece before it made can undo it
            continue
        with reporter.task(piece.stage, piece.name, piece.total, piece.unit) as task:
            try:
                piece.work(context, task)
            except OSError as error:
                raise StoreError(f"{piece.stage} {piece.name}: {error}") from error
        seconds = dict(root.attrs.get("seconds", {}))  # type: ignore[arg-type]
        seconds[f"{piece.stage}/{piece.name}"] = round(task.seconds, 3)
        root.attrs["seconds"] = seconds
        made += 1
    reporter.log("finished")
    return made
