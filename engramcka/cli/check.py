"""``engramcka check``: validate a config and print the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engramcka.pipeline import Task
    from engramcka.pipeline.estimate import Cost


def command(
    config: Annotated[Path, typer.Argument(help="The config file.", show_default=False)],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a key after reading the file."),
    ] = None,
) -> None:
    """Validate CONFIG and print what a run would do, what it costs and what is done already."""
    from engramcka.cli.run import silence_libraries

    silence_libraries()
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from engramcka.config import load_config
    from engramcka.pipeline import make_plan
    from engramcka.pipeline.checks import advice, remarks
    from engramcka.pipeline.context import Context
    from engramcka.pipeline.estimate import check_room, drawn, estimate, shared_out
    from engramcka.pipeline.machine import machine
    from engramcka.pipeline.plan import unnamed_models
    from engramcka.pipeline.spec import RunSpec
    from engramcka.pipeline.where import check_where

    loaded = load_config(config, set_ or [])
    context = Context(loaded)
    tasks = make_plan(loaded, context)
    costs = estimate(loaded, tasks, context)
    check_where(RunSpec(loaded, context), context, fetch=False)
    table = Table("stage", "task", "work", "FLOPs", "bytes", "", box=None, pad_edge=False)
    to_do = 0
    for task, cost in zip(tasks, costs, strict=True):
        done = task.is_done()
        to_do += not done
        table.add_row(
            task.stage,
            escape(task.name),
            f"{task.total or 'all'} {task.unit}",
            f"{cost.flops:.1e}" if cost.flops else "",
            _bytes(cost.bytes),
            "done" if done else "to do",
            style="dim" if done else None,
        )
    console = Console(highlight=False)
    console.print(f"{config}: valid; the run goes to {loaded.run.dir}", markup=False)
    console.print(table)
    facts = (*_totals(tasks, costs), *shared_out(loaded), *machine(loaded, tasks, costs))
    for line in filter(None, (drawn(context), *facts)):
        console.print(line, markup=False)
    counted = zip(tasks, costs, strict=True)
    if any(task.makes.startswith("lens/") and not cost.flops for task, cost in counted):
        console.print("lens: curves without FLOPs are read in the extraction's own pass")
    for line in RunSpec(loaded).notes():
        console.print(line, markup=False)
    for name in unnamed_models(loaded):
        remark = "no map, lens, gates or sweep names it; its hidden states are stored all the same"
        console.print(f"models.{name}: {remark}", markup=False)
    for line in (*advice(loaded), *remarks(loaded)):
        console.print(f"Note: {line}.", markup=False)
    console.print(f"{to_do} of {len(tasks)} tasks to do; FLOPs and bytes are estimates.")
    for line in _left_by_others(Path(loaded.run.dir), tasks):
        console.print(line, markup=False)
    check_room(loaded, tasks)


def _totals(tasks: Sequence[Task], costs: Sequence[Cost]) -> Iterator[str]:
    """A line a stage of several tasks: what they cost together, and what of it is left."""
    for stage in dict.fromkeys(task.stage for task in tasks):
        mine = [pair for pair in zip(tasks, costs, strict=True) if pair[0].stage == stage]
        flops = sum(cost.flops for _, cost in mine)
        if len(mine) < 2 or not flops:
            continue
        left = sum(cost.flops for task, cost in mine if not task.is_done())
        size = _bytes(sum(cost.bytes for _, cost in mine))
        text = f"{stage}: {len(mine)} tasks, {flops:.1e} FLOPs ({left:.1e} left)"
        yield ", ".join(filter(None, (text, size)))


def _left_by_others(run: Path, tasks: Sequence[Task]) -> Iterator[str]:
    """A line for each training that was begun under another config: its state may be large."""
    from engramcka.stores import layout

    ours = {layout.work_folder(run / layout.CHECKPOINTS / task.makes) for task in tasks}
    for folder in layout.work_folders(run):
        if folder not in ours:
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            yield (
                f"{folder}: {_bytes(size)} of a training begun under another config; delete it if "
                "nothing is to go on there"
            )


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if count else ""
        count /= 1000
    return ""
