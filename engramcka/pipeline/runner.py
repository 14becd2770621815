"""Doing what is left of a plan, in order, on one rank or several, and keeping the record of it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

from safetensors import SafetensorError

from engramcka import stopping
from engramcka.atomic import atomic_path
from engramcka.config import Config, LoadedModel, dump_config
from engramcka.distributed import ALONE, World
from engramcka.errors import EngramckaError, Interrupted, StoreError, in_words
from engramcka.pipeline.context import Context
from engramcka.pipeline.failures import Failed, Failures, failure
from engramcka.pipeline.folders import cannot_write, check_parts, clear, make_folders
from engramcka.pipeline.pieces import Piece, Stage
from engramcka.pipeline.plan import make_plan
from engramcka.pipeline.room import check_room
from engramcka.progress import Reporter
from engramcka.stores import inventory, layout, provenance
from engramcka.stores.lock import hold
from engramcka.stores.results import open_root, update_root

WHOLE = (0, 1)


@dataclass(frozen=True)
class Outcome:
    """What a run did, on this rank."""

    done: int  # pieces made now
    found: int  # pieces that were there already, or that others made
    seconds: float
    failures: tuple[str, ...] = ()  # one line a training that failed, on any rank
    skipped: int = 0  # pieces that need one of those


def run_config(
    config: Config,
    reporter: Reporter,
    only: Stage | None = None,
    *,
    world: World = ALONE,
    share: tuple[int, int] = WHOLE,
) -> Outcome:
    """Do what is left of a run.

    Args:
        config: the run.
        reporter: where progress goes; entered only if there is something to do.
        only: one stage, with the trainings that its results are points of; what else it needs must
            be there.
        world: the ranks that do it together.
        share: (which, of how many), from 0: of the trainings, only every how-many-th, and nothing
            that needs them all; for processes that know nothing of each other (a job array).

    A training that fails is told of in the outcome; what does not need it is made all the same.

    Raises:
        EngramckaError: of any other piece that failed; what was finished before it stays.
    """
    started = time.monotonic()
    try:
        check_parts(Path(config.run.dir))
        pieces = make_plan(config) if only is None else _of_stage(make_plan(config), only)
        if share != WHOLE:
            pieces = _share_of(pieces, share)
        left = not all(piece.is_done() for piece in pieces)
        failures, made = Failures(), 0
        if world.meet(left, any):
            made = _work(config, reporter, pieces, world, share, failures)
        if world.first:
            _tidy(config, pieces, share)
        world.leave()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):  # stopped where it was
            ending = world.fail(Interrupted(str(error)))
        else:
            ending = world.fail(error)
        if ending is error:
            raise
        raise ending from error
    found = len(pieces) - made - len(failures.lines) - failures.skipped
    seconds = time.monotonic() - started
    return Outcome(made, found, seconds, tuple(failures.lines), failures.skipped)


def _of_stage(pieces: Sequence[Piece], stage: Stage) -> list[Piece]:
    """The pieces of one stage, and trainings of another that are points of its results too."""
    points = {unit for piece in pieces if piece.stage == stage for unit in piece.uses}
    return [piece for piece in pieces if piece.stage == stage or piece.makes in points]


def _share_of(pieces: Sequence[Piece], share: tuple[int, int]) -> list[Piece]:
    """The tokenizer, which every training needs, and every how-many-th of the trainings."""
    which, parts = share
    trainings = [piece for piece in pieces if piece.unit == "steps"]
    return [piece for piece in pieces if piece.stage == "tokenizer"] + trainings[which::parts]


def _work(
    config: Config,
    reporter: Reporter,
    pieces: Sequence[Piece],
    world: World,
    share: tuple[int, int],
    failures: Failures,
) -> int:
    context = Context(config, world)
    if world.size == 1:
        _refuse_as_one(config, pieces)
    if any("data" in p.inputs and p.stage == "extract" and not p.is_done() for p in pieces):
        _ = context.samples  # too few entities must not be found out after the training
    check_room(config, pieces)
    try:
        make_folders(context.run)
        with hold(context.run, share) if world.first else nullcontext():
            return _work_held(context, reporter, pieces, share, failures)
    except OSError as error:
        raise cannot_write(context.run, error) from error


def _work_held(
    context: Context,
    reporter: Reporter,
    pieces: Sequence[Piece],
    share: tuple[int, int],
    failures: Failures,
) -> int:
    """Make what is left, between putting the run's inventory away and taking it anew."""
    world = context.world
    if world.first:
        inventory.delete_changed_figures(context.run)
        inventory.mark_unfinished(context.run)
        _write_config(context.run, context.config, alone=share == WHOLE)
        _record_provenance(context, reporter, len(pieces))
    world.meet()
    with reporter:
        made = _work_through(pieces, context, reporter, failures, alone=share == WHOLE)
    if world.first and share == WHOLE:
        inventory.record(context.run)
    return made


def _refuse_as_one(config: Config, pieces: Sequence[Piece]) -> None:
    """A model that all ranks hold as one cannot be worked with by one process.

    Raises:
        ConfigError: names the model.
    """
    if not any(piece.ranks == "as one" and not piece.is_done() for piece in pieces):
        return
    name = next(
        name
        for name, model in config.models.items()
        if isinstance(model, LoadedModel) and model.parallel == "tp"
    )
    raise config.error(
        ("models", name, "parallel"),
        "found 'tp', and this is one process alone",
        "start it with torchrun or srun, a process a GPU; one process takes 'auto' or 'none'",
    )


def _tidy(config: Config, pieces: Sequence[Piece], share: tuple[int, int]) -> None:
    """Do what a kill at the very end left undone: states of trainings, and the inventory.

    States of trainings that are done are deleted. Those of other configs stay: they may be days of
    work, and `check` names them.
    """
    run = Path(config.run.dir)
    there = set(layout.work_folders(run))
    left = [
        folder
        for piece in pieces
        for folder in [layout.work_folder(run / layout.CHECKPOINTS / piece.makes)]
        if piece.unit == "steps" and folder in there and piece.is_done()
    ]
    unfinished = share == WHOLE and not inventory.is_current(run)
    if left or unfinished:
        with suppress(OSError, StoreError), hold(run, share):  # else whoever holds it does it
            for folder in left:
                shutil.rmtree(folder, ignore_errors=True)
            if unfinished:
                _write_config(run, config, alone=True)
                inventory.record(run)


def _write_config(run: Path, config: Config, alone: bool) -> None:
    """Clear what a killed process left, unless others may be writing; write the resolved config."""
    if alone:
        clear(run)
    with atomic_path(run / layout.CONFIG) as scratch:
        scratch.write_text(dump_config(config), encoding="utf-8")


def _record_provenance(context: Context, reporter: Reporter, pieces: int) -> None:
    before = open_root(context.results).get("provenance", {})
    facts = {
        "config": context.config.to_dict(),
        "versions": provenance.versions(),
        "device": context.device,
        "git_commit": provenance.git_commit(Path(__file__).parent),
        "seed": context.config.run.seed,
    }
    if {**before, **facts} != before:  # shares of a job array, which all come here, say the same
        update_root(context.results, provenance={**before, **facts})
    reporter.log("run", pid=os.getpid(), pieces=pieces, ranks=context.world.size, **facts)


def _work_through(
    pieces: Sequence[Piece],
    context: Context,
    reporter: Reporter,
    failures: Failures,
    alone: bool,
) -> int:
    """Make every piece that is not done when its turn comes; returns how many this rank made.

    Unless it is alone, other shares of a job array may be writing to the root of the results too.
    """
    world, made = context.world, 0
    for ranks, turn in _in_turn(pieces):
        together = failures.spare(turn)
        # Asked again here: what a piece before it made can undo it. The first rank's word counts.
        left = [n for n, piece in enumerate(together) if not piece.is_done()]
        todo: list[int] = world.meet(left, lambda by_rank: by_rank[0])
        mine = [together[number] for number in todo]
        if ranks == "each":
            mine = list(world.share(mine))
        elif ranks == "first" and not world.first:
            mine = []
        failed: list[Failed] = []
        for piece in mine:
            try:
                seconds = _make(piece, context, reporter)
            except EngramckaError as error:
                told = failure(piece, error)
                if told is None:
                    raise
                if world.first or ranks == "each":  # else all ranks have failed in the same words
                    failed.append(told)
                    reporter.log("error", message=told[1])
                continue
            if world.first and alone:
                _record_seconds(context, piece, seconds)
            made += 1
        failures.add(world.meet(failed, lambda by_rank: list(chain.from_iterable(by_rank))))
    if world.first:
        reporter.log("finished")
    return made


def _in_turn(pieces: Sequence[Piece]) -> Iterator[tuple[str, list[Piece]]]:
    """Pieces one by one, but those that ranks share out together."""
    for ranks, group in groupby(pieces, key=lambda piece: piece.ranks):
        if ranks == "each":
            yield ranks, list(group)
        else:
            yield from ((ranks, [piece]) for piece in group)


def _make(piece: Piece, context: Context, reporter: Reporter) -> float:
    try:
        with reporter.task(piece.stage, piece.name, piece.total, piece.unit) as task:
            stopping.check()
            piece.work(context, task)
    except (OSError, SafetensorError) as error:  # a full disk, in Python's or Rust's words
        told = in_words(error) if isinstance(error, OSError) else str(error)
        raise StoreError(f"{piece.stage} {piece.name}: {told}") from error
    return task.seconds


def _record_seconds(context: Context, piece: Piece, seconds: float) -> None:
    before = open_root(context.results).get("seconds", {})
    this = {f"{piece.stage}/{piece.name}": round(seconds, 3)}
    update_root(context.results, seconds={**before, **this})
