"""What a finished run's checkpoints can suffer, and what the next run makes of it, in process."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import CONFIG, here
from rich.console import Console

from engramcka import open_run
from engramcka.config import Config, load_config
from engramcka.errors import StoreError
from engramcka.pipeline import Outcome, make_plan, run_config
from engramcka.progress import Reporter
from engramcka.stores import layout
from engramcka.stores.verify import verify

pytestmark = pytest.mark.xdist_group("whole-run")


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engramcka.pipeline.plan.figure_tasks", lambda config, run: [])


@pytest.fixture
def config(finished: Path, tmp_path: Path) -> Config:
    """The config of a copy of the finished run, times and all."""
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "config.toml").write_text(CONFIG)
    return load_config(tmp_path / "config.toml", [f'run.dir="{tmp_path}/run"'])


def run(config: Config, only: str | None = None) -> Outcome:
    log = Path(config.run.dir) / layout.LOG
    return run_config(config, Reporter(log, Console(file=io.StringIO())), only)  # type: ignore[arg-type]


def to_do(config: Config) -> list[str]:
    return [f"{p.stage} {p.name}" for p in make_plan(config) if not p.is_done()]


def one(config: Config, pattern: str) -> Path:
    (path,) = Path(config.run.dir).glob(f"{layout.CHECKPOINTS}/{pattern}")
    return path


def flip(path: Path, *, silently: bool = False) -> None:
    """Change a bit; silently: as a disk does, with no new time of change."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if silently:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def broken(config: Config) -> list[str]:
    return [line for checked in verify(Path(config.run.dir)) for line in checked.broken]


def chunks(config: Config) -> dict[str, bytes]:
    run = Path(config.run.dir)
    return {str(p): p.read_bytes() for p in run.rglob("*") if p.is_file() and "/c/" in str(p)}


@pytest.mark.parametrize("how", ["flip", "cut", "delete", "no manifest"])
def test_a_damaged_model_is_noticed_and_trained_anew_alone(config: Config, how: str) -> None:
    weights = one(config, "moe-tiny-seed0-*/model.safetensors")
    good, before = weights.read_bytes(), chunks(config)
    assert to_do(config) == []
    if how == "flip":
        flip(weights)
    elif how == "cut":
        weights.write_bytes(good[:-1])
    elif how == "delete":
        weights.unlink()
    else:
        weights.with_name("manifest.json").unlink()
    assert to_do(config) == ["train moe"]
    (line,) = broken(config)
    assert str(weights if how != "no manifest" else weights.with_name("manifest.json")) in line
    if how != "flip":  # the others are made again in the same way
        return
    assert run(config).done == 1
    assert weights.read_bytes() == good
    assert chunks(config) == before
    assert broken(config) == []
    assert to_do(config) == []


def test_a_model_that_rotted_unseen_is_refused_when_it_is_loaded(config: Config) -> None:
    weights, before = one(config, "moe-tiny-engram2-*/model.safetensors"), chunks(config)
    flip(weights, silently=True)
    shutil.rmtree(Path(config.run.dir) / "activations/engram.zarr")
    assert to_do(config) == ["extract engram"]
    with pytest.raises(StoreError, match=r"model.safetensors: cannot be read \(not what was wri"):
        run(config)
    assert to_do(config) == ["train engram", "extract engram"]
    assert run(config).done == 2
    assert chunks(config) == before


def test_a_loss_that_rotted_unseen_is_refused_when_it_is_read(config: Config) -> None:
    record, before = one(config, "moe-tiny-engram1-*/training.json"), chunks(config)
    flip(record, silently=True)
    shutil.rmtree(Path(config.run.dir) / "results.zarr/sweep/insertion-layer")
    with pytest.raises(StoreError, match=r"training.json: cannot be read .*; run stage train"):
        run(config)
    assert "sweep layer 1" in to_do(config)
    run(config)
    assert to_do(config) == []
    assert chunks(config) == before


def test_a_damaged_tokenizer_is_made_again(config: Config) -> None:
    path = one(config, "tokenizer/inputs.json")
    good = path.read_bytes()
    path.write_bytes(b"\xff" + good)
    assert to_do(config) == ["tokenizer python-stdlib"]
    assert run(config).done == 1
    assert path.read_bytes() == good


def test_states_of_finished_trainings_are_deleted_and_those_of_others_named(
    config: Config, tmp_path: Path
) -> None:
    folder = Path(config.run.dir) / layout.CHECKPOINTS
    unit = one(config, "moe-tiny-seed0-*")
    ours, other = layout.work_folder(unit), layout.work_folder(folder / "moe-tiny-seed9-abc")
    for work in (ours, other):
        (work / "state").mkdir(parents=True)
        (work / "state/model.safetensors").write_bytes(bytes(2000))
    said = here("check", "config.toml", cwd=tmp_path)  # its run.dir is run
    assert said.returncode == 0, said.stderr
    name = "run/checkpoints/.moe-tiny-seed9-abc.training"
    assert f"{name}: 2 kB of a training begun under another config" in said.stdout
    assert str(ours.name) not in said.stdout
    assert run(config).done == 0
    assert not ours.exists()
    assert (other / "state/model.safetensors").is_file()


def test_only_the_sweep_trains_all_its_points(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    config = load_config(tmp_path / "config.toml", [f'run.dir="{tmp_path}/run"'])
    with pytest.raises(StoreError, match="run stage tokenizer first"):
        run(config, "sweep")
    run(config, "tokenizer")
    assert run(config, "sweep").done == 4  # baseline, layers 1 and 2, the result
    found = open_run(tmp_path / "run").sweep["insertion-layer"]
    assert found.warnings == ()
    whole = open_run(finished / "run").sweep["insertion-layer"]
    assert np.array_equal(found.loss, whole.loss)
    assert np.array_equal(found.baseline, whole.baseline)
    assert run(config, "sweep").done == 0
    done = [e for e in open_run(tmp_path / "run").log() if e["event"] == "done"]
    assert json.dumps(done).count('"extract"') == 0
