"""A training that fails is told of, is NaN in the result, and is the only one tried again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import CONFIG
from rich.console import Console

import engramcka.training
from engramcka import open_run
from engramcka.config import load_config
from engramcka.errors import StoreError, TrainingError
from engramcka.pipeline import Outcome, run_config
from engramcka.pipeline.stages import train as train_stage
from engramcka.progress import Reporter

TABLES = """
seeds = [0, 1]
references = ["moe"]
"""


def run(folder: Path, *settings: str) -> Outcome:
    (folder / "config.toml").write_text(CONFIG + TABLES)
    config = load_config(folder / "config.toml", [f'run.dir="{folder}/run"', *settings])
    return run_config(config, Reporter(folder / "run/log.jsonl", Console(file=io.StringIO())))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders that were trained; those that hold `engram1` and `seed1` fail."""
    names: list[str] = []
    real = engramcka.training.train_model

    def train_model(*arguments: Any, folder: Path, **options: Any) -> Any:
        names.append(folder.name)
        if "engram1-seed1" in folder.name:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")
        return real(*arguments, folder=folder, **options)

    monkeypatch.setattr(engramcka.training, "train_model", train_model)
    return names


def test_the_other_points_and_pieces_are_made(
    tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run(tmp_path)
    (line,) = outcome.failures
    assert line.startswith("sweep layer 1, seed 1: out of memory (DefaultCPUAllocator")
    assert "\n" not in line
    assert len(trained) == 6
    sweep = open_run(tmp_path / "run").sweep["insertion-layer"]
    assert np.isnan(sweep.loss).tolist() == [[False, True], [False, False]]
    assert sweep.mean[0] == sweep.loss[0, 0]
    assert sweep.reference_losses["MoE"] == tuple(sweep.baseline)
    assert sweep.warnings == ("layer 1, seed 1 is missing: it failed or is to do",)
    assert (tmp_path / "run/figures/sweep-insertion-layer.png").is_file()
    messages = [e["message"] for e in open_run(tmp_path / "run").log() if e["event"] == "error"]
    assert messages == [line]

    trained.clear()
    monkeypatch.undo()
    again = run(tmp_path)
    assert again.failures == ()
    assert again.done == 3  # the point, the result, its figure
    assert np.isfinite(open_run(tmp_path / "run").sweep["insertion-layer"].loss).all()
    assert open_run(tmp_path / "run").sweep["insertion-layer"].warnings == ()
    assert run(tmp_path).done == 0


def test_what_needs_a_failed_model_is_left_and_the_rest_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = train_stage.train_unit

    def train_unit(context: Any, task: Any, *, unit: Any, **options: Any) -> None:
        if unit.engram is not None and unit.engram.layers == (2,):
            raise TrainingError("the training loss is nan at step 2")
        real(context, task, unit=unit, **options)

    monkeypatch.setattr(train_stage, "train_unit", train_unit)
    outcome = run(tmp_path)
    assert [line.partition(":")[0] for line in outcome.failures] == [
        "train engram",
        "sweep layer 2, seed 1",
    ]
    assert outcome.skipped == 3  # its hidden states, the map that needs them, the map's figure
    stored = open_run(tmp_path / "run")
    assert list(stored.cka) == ["self"]
    assert np.isnan(stored.sweep["insertion-layer"].loss).tolist() == [[False] * 2, [True] * 2]


def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train_unit(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train_stage, "train_unit", train_unit)
    with pytest.raises(StoreError, match="No space left"):
        run(tmp_path)
