"""Stage figures: every stored result drawn into files, each with its caption."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from engramcka.config import Config
from engramcka.errors import EngramckaError
from engramcka.figures.subjects import DrawOptions, Subject, caption, draw, worth_drawing
from engramcka.own_files import is_regular
from engramcka.pipeline.context import Context
from engramcka.pipeline.tasks import Task
from engramcka.progress import TaskProgress
from engramcka.stores import inventory, is_run, layout, open_run

FIGURE_FORMATS = ("png", "pdf")


def figure_tasks(config: Config, run: Path) -> Iterator[Task]:
    """One task: whatever is stored when its turn comes, drawn again where the result is newer.

    None for a config that leaves no result, such as one that only extracts.
    """
    analyses = (config.maps, config.lens, config.gates, config.sweeps)
    if not any(analyses) and not any(
        m.source in ("train", "graft") for m in config.models.values()
    ):
        return
    yield Task(
        stage="figures",
        name="all",
        total=1,
        unit="parts",
        inputs={},
        is_done=partial(_all_drawn, run),
        work=draw_all,
    )


def draw_all(context: Context, progress: TaskProgress) -> None:
    """Draw what is not drawn yet.

    Raises:
        EngramckaError: the first that could not be drawn, after all the others were.
    """
    wanted = [subject for subject in worth_drawing(open_run(context.run))
              if not _is_drawn(context.run, subject)]  # fmt: skip
    failed: EngramckaError | None = None
    for index, subject in enumerate(wanted):
        try:
            _draw(context.run, subject)
        except EngramckaError as error:
            failed = failed or type(error)(f"{subject.name}: {error}")
        progress.update(index + 1, len(wanted), info=subject.name)
    if failed is not None:
        raise failed


def _draw(run: Path, subject: Subject) -> None:
    """One figure in every format, and its caption."""
    from engramcka import figures

    stored = open_run(run)
    how = DrawOptions(figures.Style.named(width="page" if subject.is_wide else "column"))
    figure = draw(stored, subject, how)
    for target in _targets(run, subject):
        if target.suffix == ".txt":
            figures.write_text(target, caption(stored, subject, how) + "\n")
        else:
            figures.save_figure(figure, target)
        _age(target, subject.files(run))


def _age(target: Path, sources: Iterable[Path]) -> None:
    """Let a figure be no older than what it shows, also where the clock went back between them."""
    newest = max(source.stat().st_mtime_ns for source in sources)
    if target.stat().st_mtime_ns < newest:
        os.utime(target, ns=(newest, newest))


def _targets(run: Path, subject: Subject) -> list[Path]:
    names = [f"{subject.stem}.{form}" for form in (*FIGURE_FORMATS, "txt")]
    return [run / layout.FIGURES / name for name in names]


def _all_drawn(run: Path) -> bool:
    if not is_run(run):
        return False
    wanted = worth_drawing(open_run(run))
    return bool(wanted) and all(_is_drawn(run, subject) for subject in wanted)


def _is_damaged(run: Path, target: Path) -> bool:
    """Whether a figure is empty, or changed since the run that drew it ended."""
    name = target.relative_to(run).as_posix()
    return not target.stat().st_size or inventory.differs(run, name)


def _is_drawn(run: Path, subject: Subject) -> bool:
    """Whether every file is there, holds something, and is no older than what it shows."""
    targets, sources = _targets(run, subject), subject.files(run)
    if not all(is_regular(path) for path in (*targets, *sources)):
        return False
    if any(_is_damaged(run, target) for target in targets):
        return False
    oldest = min(target.stat().st_mtime_ns for target in targets)
    return oldest >= max(source.stat().st_mtime_ns for source in sources)
