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
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from engramcka.config import load_config
    from engramcka.pipeline import make_plan
    from engramcka.pipeline.checks import advice
    from engramcka.pipeline.context import Context
    from engramcka.pipeline.estimate import check_room, drawn, estimate, shared_out
    from engramcka.pipeline.plan import unnamed_models

    loaded = load_config(config, set_ or [])
    pieces = make_plan(loaded)
    context = Context(loaded)
    costs = estimate(loaded, pieces, context)
    table = Table("stage", "piece", "work", "FLOPs", "bytes", "", box=None, pad_edge=False)
    to_do = 0
    for piece, cost in zip(pieces, costs, strict=True):
        done = piece.is_done()
        to_do += not done
        table.add_row(
            piece.stage,
            escape(piece.name),
            f"{piece.total} {piece.unit}",
            f"{cost.flops:.1e}" if cost.flops else "",
            _bytes(cost.bytes),
            "done" if done else "to do",
            style="dim" if done else None,
        )
    console = Console(highlight=False)
    console.print(f"{config}: valid; the run goes to {loaded.run.dir}", markup=False)
    console.print(table)
    for line in filter(None, (drawn(context), *_totals(pieces, costs), *shared_out(loaded))):
        console.print(line, markup=False)
    counted = zip(pieces, costs, strict=True)
    if any(piece.makes.startswith("lens/") and not cost.flops for piece, cost in counted):
        console.print("lens: curves without FLOPs are read in the extraction's own pass")
    for name in unnamed_models(loaded):
        told = "no map, lens, gates or sweep names it; its hidden states are stored all the same"
        console.print(f"models.{name}: {told}", markup=False)
    for line in advice(loaded):
        console.print(f"Note: {line}.", markup=False)
    console.print(f"{to_do} of {len(pieces)} pieces to do; FLOPs and bytes are estimates.")
    for line in _left_by_others(Path(loaded.run.dir), pieces):
        console.print(line, markup=False)
    check_room(loaded, pieces)


def _totals(pieces: Sequence[Task], costs: Sequence[Cost]) -> Iterator[str]:
    """A line a stage of several pieces: what they cost together, and what of it is left."""
    for stage in dict.fromkeys(piece.stage for piece in pieces):
        mine = [pair for pair in zip(pieces, costs, strict=True) if pair[0].stage == stage]
        flops = sum(cost.flops for _, cost in mine)
        if len(mine) < 2 or not flops:
            continue
        left = sum(cost.flops for piece, cost in mine if not piece.is_done())
        size = _bytes(sum(cost.bytes for _, cost in mine))
        told = f"{stage}: {len(mine)} pieces, {flops:.1e} FLOPs ({left:.1e} left)"
        yield ", ".join(filter(None, (told, size)))


def _left_by_others(run: Path, pieces: Sequence[Task]) -> Iterator[str]:
    """A line for each training that was begun under another config: its state may be large."""
    from engramcka.stores import layout

    ours = {layout.work_folder(run / layout.CHECKPOINTS / piece.makes) for piece in pieces}
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
