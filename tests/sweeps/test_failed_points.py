"""A training that fails is told of, is NaN in the result, and is the only one tried again."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
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
from engramcka.results import LossSweep
from engramcka.results.statistics import student_quantile

TABLES = """
seeds = [0, 1]
references = ["moe", "engram"]
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
    assert len(trained) == 9
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
    check_differences(sweep, records.values(), without)
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
    difference, low, high = sweep.variant_differences["without gating"]
    lost = f"({difference:+.3f}, 95 % {low:+.3f} to {high:+.3f})"
    said_of_it = (
        f"in brackets less Engram [red]: without gating {sweep.variants['without gating']:.3f}"
    )
    assert f"{said_of_it} {lost}" in said["sweep/insertion-layer"]
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


def check_differences(
    sweep: LossSweep, records: Iterable[dict[str, Any]], without: list[dict[str, Any]]
) -> None:
    """An ablation less the model it is made of, and the interval a second way.

    Over documents one at a time left out of the mean over seeds, and over seeds; errors added.
    """
    whole = [
        record
        for record in records
        if (record["inputs"]["engram"] or {}).get("layers") == [2]
        and record not in without
        and "experts" not in record["inputs"]
    ]
    assert len(whole) == len(without) == 2
    apart = []
    for one, other in zip(*(sorted(r, key=seed_of) for r in (without, whole)), strict=True):
        assert one["sequence_documents"] == other["sequence_documents"]
        apart.append(np.subtract(one["sequence_losses"], other["sequence_losses"]))
    documents = np.array(whole[0]["sequence_documents"])
    each = np.mean(apart, axis=0)
    left = np.array([each[documents != one].mean() for one in np.unique(documents)])
    count = len(left)
    of_text = (count - 1) / count * ((left - left.mean()) ** 2).sum()
    of_seeds = np.var(np.mean(apart, axis=1), ddof=1) / 2
    freedom = (of_text + of_seeds) ** 2 / (of_text**2 / (count - 1) + of_seeds**2)
    difference, low, high = sweep.variant_differences["without gating"]
    assert sweep.whole == "Engram [red]"
    assert difference == pytest.approx(each.mean(), abs=1e-9)
    assert (low + high) / 2 == pytest.approx(difference, abs=1e-9)
    quantile = (high - low) / 2 / np.sqrt(of_text + of_seeds)
    assert quantile == pytest.approx(student_quantile(int(freedom)), rel=1e-6)


def seed_of(record: dict[str, Any]) -> int:
    return int(record["inputs"]["seed"])
