"""What a run does after a task has failed, with tasks that only write down that they were done."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from command import CONFIG
from rich.console import Console

from engramcka.config import load_config
from engramcka.errors import StoreError, TrainingError
from engramcka.pipeline import Outcome, Task, run_config, runner
from engramcka.progress import Reporter


def run_in(folder: Path) -> Outcome:
    (folder / "config.toml").write_text(CONFIG)
    config = load_config(folder / "config.toml", [f'run.dir="{folder}/run"'])
    return run_config(config, Reporter(folder / "run/log.jsonl", Console(file=io.StringIO())))


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A plan of tasks that write their names here; the training of `a` fails."""
    made: list[str] = []

    def task(stage: Any, name: str, **facts: Any) -> Task:
        def work(context: Any, progress: Any) -> None:
            if (stage, name) == ("train", "a"):
                raise TrainingError("the training loss is nan at step 2")
            made.append(f"{stage} {name}")

        return Task(stage, name, 1, "steps", {}, lambda: False, work, **facts)

    tasks = [
        task("train", "a", ranks="each", makes="unit-a"),
        task("train", "b", ranks="each", makes="unit-b"),
        task("extract", "a", needs=("unit-a",)),
        task("extract", "b", needs=("unit-b",)),
        task("cka", "map", needs=("extract/a", "extract/b")),
        task("cka", "self", needs=("extract/b", "extract/b")),
        task("sweep", "points"),
        task("figures", "cka-map", needs=("cka/map",)),
    ]
    monkeypatch.setattr(runner, "make_plan", lambda config, context: tasks)
    return made


def test_what_needs_a_failed_model_is_left_and_the_rest_is_made(
    tmp_path: Path, plan: list[str]
) -> None:
    outcome = run_in(tmp_path)
    assert outcome.failures == ("train a: the training loss is nan at step 2",)
    assert plan == ["train b", "extract b", "cka self", "sweep points"]
    assert (outcome.done, outcome.found, outcome.skipped) == (4, 0, 3)


def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(context: Any, progress: Any) -> None:
        raise OSError(28, "No space left on device")

    task = Task("train", "a", 1, "steps", {}, lambda: False, full, ranks="each")
    monkeypatch.setattr(runner, "make_plan", lambda config, context: [task])
    with pytest.raises(StoreError, match="No space left"):
        run_in(tmp_path)
