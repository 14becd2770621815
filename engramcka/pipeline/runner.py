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
from engramcka.config import Config, dump_config
from engramcka.distributed import ALONE, World
from engramcka.errors import EngramckaError, Interrupted, StoreError, in_words
from engramcka.pipeline.context import Context, cannot_write, check_parts, clear, make_folders
from engramcka.pipeline.estimate import check_room
from engramcka.pipeline.plan import make_plan
from engramcka.pipeline.spec import RunSpec
from engramcka.pipeline.tasks import Failed, Failures, Stage, Task, failure
from engramcka.pipeline.where import check_where
from engramcka.progress import Reporter
from engramcka.stores import inventory, layout, provenance
from engramcka.stores.lock import hold
from engramcka.stores.results import open_root, update_root

ONE_SHARE = (0, 1)  # no job array


@dataclass(frozen=True)
class Outcome:
    """What a run did, on this rank."""

    done: int  # tasks made now
    found: int  # tasks that were there already, or that others made
    seconds: float
    failures: tuple[str, ...] = ()  # one line a training that failed, on any rank
    skipped: int = 0  # tasks that need one of those


def run_config(
    config: Config,
    reporter: Reporter,
    only: Stage | None = None,
    *,
    world: World = ALONE,
    share: tuple[int, int] = ONE_SHARE,
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

    A training that fails is named in the outcome; what does not need it is made all the same.

    Raises:
        EngramckaError: of any other task that failed; what was finished before it stays.
    """
    started = time.monotonic()
    try:
        check_parts(Path(config.run.dir))
        context = Context(config, world)
        tasks = make_plan(config, context)
        if only is not None:
            tasks = _of_stage(tasks, only)
        if share != ONE_SHARE:
            tasks = _share_of(tasks, share)
        left = not all(task.is_done() for task in tasks)
        failures, made = Failures(), 0
        if world.meet(left, any):
            made = _work(context, reporter, tasks, share, failures)
        if world.first:
            _tidy(config, tasks, share)
        world.leave()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):  # stopped where it was
            ending = world.fail(Interrupted(str(error)))
        else:
            ending = world.fail(error)
        if ending is error:
            raise
        raise ending from error
    found = len(tasks) - made - len(failures.lines) - failures.skipped
    seconds = time.monotonic() - started
    return Outcome(made, found, seconds, tuple(failures.lines), failures.skipped)


def _of_stage(tasks: Sequence[Task], stage: Stage) -> list[Task]:
    """The tasks of one stage, and trainings of another that are points of its results too."""
    points = {name for task in tasks if task.stage == stage for name in task.uses}
    return [task for task in tasks if task.stage == stage or task.makes in points]


def _share_of(tasks: Sequence[Task], share: tuple[int, int]) -> list[Task]:
    """The tokenizer, which every training needs, and every how-many-th of the trainings."""
    which, parts = share
    trainings = [task for task in tasks if task.is_training]
    return [task for task in tasks if task.stage == "tokenizer"] + trainings[which::parts]


def _work(
    context: Context,
    reporter: Reporter,
    tasks: Sequence[Task],
    share: tuple[int, int],
    failures: Failures,
) -> int:
    config, world = context.config, context.world
    if world.size == 1:
        _refuse_as_one(config, tasks)
    if any("data" in p.inputs and p.stage == "extract" and not p.is_done() for p in tasks):
        _ = context.samples  # too few entities must not be found out after the training
    if any(task.stage == "extract" and not task.is_done() for task in tasks):
        check_where(RunSpec(config, context), context)
    check_room(config, tasks)
    try:
        make_folders(context.run)
        with hold(context.run, share) if world.first else nullcontext():
            return _work_held(context, reporter, tasks, share, failures)
    except OSError as error:
        raise cannot_write(context.run, error) from error


def _work_held(
    context: Context,
    reporter: Reporter,
    tasks: Sequence[Task],
    share: tuple[int, int],
    failures: Failures,
) -> int:
    """Do what is left, between putting the run's inventory away and taking a new one."""
    world = context.world
    if world.first:
        inventory.delete_changed_figures(context.run)
        inventory.mark_unfinished(context.run)
        _write_config(context.run, context.config, alone=share == ONE_SHARE)
        _record_provenance(context, reporter, len(tasks))
    world.meet()
    with reporter:
        made = _work_through(tasks, context, reporter, failures, alone=share == ONE_SHARE)
    if world.first and share == ONE_SHARE:
        inventory.record(context.run)
    return made


def _refuse_as_one(config: Config, tasks: Sequence[Task]) -> None:
    """A model that all ranks hold as one cannot be worked with by one process.

    Raises:
        ConfigError: names the model.
    """
    if not any(task.ranks == "as one" and not task.is_done() for task in tasks):
        return
    models = RunSpec(config).models
    name = next(name for name, source in models.items() if source.is_shared_out)
    raise config.error(
        ("models", name, "parallel"),
        "found 'tp', and this is one process alone",
        "start it with torchrun or srun, a process a GPU; one process takes 'auto' or 'none'",
    )


def _tidy(config: Config, tasks: Sequence[Task], share: tuple[int, int]) -> None:
    """Do what a kill at the very end left undone: states of trainings, and the inventory.

    States of trainings that are done are deleted. Those of other configs stay: they may be days of
    work, and `check` names them.
    """
    run = Path(config.run.dir)
    there = set(layout.work_folders(run))
    left = [
        folder
        for task in tasks
        for folder in [layout.work_folder(run / layout.CHECKPOINTS / task.makes)]
        if task.is_training and folder in there and task.is_done()
    ]
    unfinished = share == ONE_SHARE and not inventory.is_current(run)
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


def _record_provenance(context: Context, reporter: Reporter, tasks: int) -> None:
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
    reporter.log("run", pid=os.getpid(), tasks=tasks, ranks=context.world.size, **facts)


def _work_through(
    tasks: Sequence[Task],
    context: Context,
    reporter: Reporter,
    failures: Failures,
    alone: bool,
) -> int:
    """Make every task that is not done when its turn comes; returns how many this rank made.

    Unless it is alone, other shares of a job array may be writing to the root of the results too.
    """
    world, made = context.world, 0
    for ranks, turn in _in_turn(tasks):
        runnable = failures.runnable(turn)
        # Asked again here: what an earlier task made can undo it. The first rank's answer counts.
        left = [n for n, task in enumerate(runnable) if not task.is_done()]
        todo: list[int] = world.meet(left, lambda by_rank: by_rank[0])
        mine = [runnable[number] for number in todo]
        if ranks == "each":
            mine = list(world.share(mine))
        elif ranks == "first" and not world.first:
            mine = []
        failed: list[Failed] = []
        for task in mine:
            try:
                seconds = _make(task, context, reporter)
            except EngramckaError as error:
                failed_task = failure(task, error)
                if failed_task is None:
                    raise
                if world.first or ranks == "each":  # else all ranks have failed in the same words
                    failed.append(failed_task)
                    reporter.log("error", message=failed_task[1])
                continue
            if world.first and alone:
                _record_seconds(context, task, seconds)
            made += 1
        failures.add(world.meet(failed, lambda by_rank: list(chain.from_iterable(by_rank))))
    if world.first:
        reporter.log("finished")
    return made


def _in_turn(tasks: Sequence[Task]) -> Iterator[tuple[str, list[Task]]]:
    """Tasks one by one, but those that ranks share out together."""
    for ranks, group in groupby(tasks, key=lambda task: task.ranks):
        if ranks == "each":
            yield ranks, list(group)
        else:
            yield from ((ranks, [task]) for task in group)


def _make(task: Task, context: Context, reporter: Reporter) -> float:
    try:
        with reporter.task(task.stage, task.name, task.total, task.unit) as progress:
            stopping.check()
            task.work(context, progress)
    except (OSError, SafetensorError) as error:  # a full disk, in Python's or Rust's words
        reason = in_words(error) if isinstance(error, OSError) else str(error)
        raise StoreError(f"{task.stage} {task.name}: {reason}") from error
    return progress.seconds


def _record_seconds(context: Context, task: Task, seconds: float) -> None:
    before = open_root(context.results).get("seconds", {})
    this = {f"{task.stage}/{task.name}": round(seconds, 3)}
    update_root(context.results, seconds={**before, **this})
