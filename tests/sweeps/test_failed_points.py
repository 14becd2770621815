"""A training that fails is told of, is NaN in the result, and is the only one tried again."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import CONFIG, engramcka
from rich.console import Console

from engramcka import open_run, training
from engramcka.config import load_config
from engramcka.figures.subjects import findings
from engramcka.pipeline import Outcome, run_config
from engramcka.progress import Reporter

TABLES = """
seeds = [0, 1]
references = ["moe"]
ablations = ["gating"]

[[allocation]]
name = "shares"
model = "engram"
rho = [1.0, 0.5]
"""
SETTINGS = ("cka=[]", "lens=[]", "gates=[]", "sweep.0.layers=[1]")


def run(folder: Path, *settings: str, tables: str = "") -> Outcome:
    (folder / "config.toml").write_text(CONFIG + tables)
    config = load_config(folder / "config.toml", [f'run.dir="{folder}/run"', *settings])
    return run_config(config, Reporter(folder / "run/log.jsonl", Console(file=io.StringIO())))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders that were trained; those that hold `engram1` and `seed1` fail."""
    names: list[str] = []
    real = training.train_model

    def train_model(*arguments: Any, folder: Path, **options: Any) -> Any:
        names.append(folder.name)
        if "engram1-seed1" in folder.name:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")
        return real(*arguments, folder=folder, **options)

    monkeypatch.setattr(training, "train_model", train_model)
    return names


def test_the_other_points_and_pieces_are_made(
    tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run(tmp_path, *SETTINGS, tables=TABLES)
    (line,) = outcome.failures
    start = "sweep insertion-layer: layer 1, seed 1: out of memory (DefaultCPUAllocator"
    assert line.startswith(start)
    assert "\n" not in line
    assert len(trained) == 8
    sweep = open_run(tmp_path / "run").sweep["insertion-layer"]
    assert np.isnan(sweep.loss).tolist() == [[False, True]]
    assert sweep.mean[0] == sweep.loss[0, 0]
    assert sweep.reference_losses["MoE"] == tuple(sweep.baseline)
    assert sweep.warnings == ("layer 1, seed 1 is missing: it failed or is to do",)
    assert (tmp_path / "run/figures/sweep-insertion-layer.png").is_file()
    check_against_records(tmp_path / "run")
    messages = [e["message"] for e in open_run(tmp_path / "run").log() if e["event"] == "error"]
    assert messages == [line]

    trained.clear()
    monkeypatch.undo()
    again = run(tmp_path, *SETTINGS, tables=TABLES)
    assert again.failures == ()
    assert again.done == 3  # the point, the result, its figure
    assert np.isfinite(open_run(tmp_path / "run").sweep["insertion-layer"].loss).all()
    assert open_run(tmp_path / "run").sweep["insertion-layer"].warnings == ()
    assert run(tmp_path, *SETTINGS, tables=TABLES).done == 0


def check_against_records(run: Path) -> None:
    """Ablations and allocations hold what their trainings' own records say."""
    records = {
        path.parent.name: json.loads(path.read_text())
        for path in run.glob("checkpoints/*/training.json")
    }
    stored = open_run(run)
    without = [r for r in records.values() if (r["inputs"]["engram"] or {}).get("gating") == "none"]
    by_seed = {r["inputs"]["seed"]: r["validation_loss"] for r in without}
    sweep = stored.sweep["insertion-layer"]
    assert sweep.variant_losses == {"without gating": (by_seed[0], by_seed[1])}
    assert sweep.variants == {"without gating": pytest.approx((by_seed[0] + by_seed[1]) / 2)}
    facts = sweep.provenance["trainings"].values()
    assert {fact["tokens"] for fact in facts} == {3 * 2 * 16}
    assert all(len(fact["training_loss"]) == 3 for fact in facts)
    shares = stored.allocation["shares"]
    half = next(r for r in records.values() if "experts" in r["inputs"])
    assert shares.experts == (8, half["inputs"]["experts"]) == (8, 5)
    assert shares.loss[:, 0].tolist() == [sweep.baseline[0], half["validation_loss"]]
    assert shares.rho.tolist() == [1.0, pytest.approx(0.5, abs=0.05)]
    assert shares.parameters[1] == pytest.approx(shares.parameters[0], rel=2e-3)
    said = {finding.name: finding.text for finding in findings(run)}
    assert "without gating" in said["sweep/insertion-layer"]
    assert "layer 1, seed 1 is missing" in said["sweep/insertion-layer"]
    assert "experts alone" in said["allocation/shares"]


def test_a_loss_that_is_no_number_everywhere_is_a_line_a_training(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    settings = ("training.learning_rate=1e30", "cka=[]", "lens=[]", "gates=[]")
    changes = [part for setting in settings for part in ("--set", setting)]
    result = engramcka("run", "config.toml", *changes, cwd=tmp_path)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("engramcka: ")]
    assert [line.split(":")[1].strip() for line in lines] == [
        "train moe",
        "train engram",
        "sweep layer 1",
    ]
    assert all("nan" in line or "inf" in line for line in lines)
    assert "Traceback" not in result.stderr
    assert "failed: 3, not made for lack of those: " in result.stdout
    assert np.isnan(open_run(tmp_path / "run").sweep["insertion-layer"].loss).all()
