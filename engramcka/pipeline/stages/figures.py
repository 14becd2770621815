"""Stage figures: every result drawn into files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engramcka.config import Config
from engramcka.pipeline.context import Context
from engramcka.pipeline.pieces import Piece
from engramcka.progress import Task
from engramcka.stores import layout

FIGURE_FORMATS = ("png", "pdf")


def figure_pieces(config: Config, run: Path) -> Iterator[Piece]:
    """A figure of every result, in every format; drawn anew when the result is newer."""
    wanted = [("cka", cka.name) for cka in config.cka]
    wanted += [("sweep", sweep.name) for sweep in config.sweep]
    for kind, name in wanted:
        source = run / layout.RESULTS / kind / name / "zarr.json"
        targets = [run / layout.FIGURES / f"{kind}-{name}.{form}" for form in FIGURE_FORMATS]
        yield Piece(
            stage="figures",
            name=f"{kind}-{name}",
            total=len(targets),
            unit="files",
            inputs={},
            is_done=partial(_newer, source, targets),
            work=partial(draw, kind=kind, name=name, targets=targets),
            needs=(f"{kind}/{name}",),
        )


def _newer(source: Path, targets: list[Path]) -> bool:
    """Whether every target is there and no older than its source."""
    if not source.is_file() or not all(target.is_file() for target in targets):
        return False
    return min(target.stat().st_mtime_ns for target in targets) >= source.stat().st_mtime_ns


def draw(context: Context, task: Task, *, kind: str, name: str, targets: list[Path]) -> None:
    """Draw one stored result into files."""
    from engramcka import figures
    from engramcka.stores import open_run

    run = open_run(context.run)
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == "cka":
            figures.save_cka_map(run.cka[name], target)
        else:
            figures.save_sweep(run.sweep[name], target)
        task.advance()
