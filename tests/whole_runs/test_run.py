"""The whole path through the real command: text to figures, twice, stopped, killed, and refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xarray
from command import CONFIG, Forked, engramcka, here

from engramcka import open_run
from engramcka.similarity.documents import (
    distinct_batches,
    document_numbers,
    groups_left_out,
    jackknife_groups,
)

# One process makes the finished run once for all of these.
pytestmark = pytest.mark.xdist_group("whole-run")


def test_every_stage_leaves_what_it_should(finished: Path) -> None:
    run = finished / "run"
    names = {path.relative_to(run).as_posix() for path in run.glob("*/*")}
    assert {
        "activations/moe.zarr",
        "activations/engram.zarr",
        "checkpoints/tokenizer",
        "figures/cka-engram-vs-moe.png",
        "figures/cka-engram-vs-moe.pdf",
        "figures/sweep-insertion-layer.png",
        "figures/sweep-insertion-layer.pdf",
    } <= names
    # Layer 2 and the baseline of the sweep are the two models: four trainings, not six.
    units = [name for name in names if re.match(r"checkpoints/moe-tiny", name)]
    assert len(units) == 3
    assert [path.name for path in run.rglob(".*")] == [".lock"]


def test_a_models_map_with_itself_has_a_diagonal_of_one(finished: Path) -> None:
    cka = open_run(finished / "run").cka["self"]
    assert np.diag(cka.similarity) == pytest.approx(1.0, abs=1e-6)
    assert cka.similarity == pytest.approx(cka.similarity.T, abs=1e-6)
    assert cka.n_samples == 64
    assert cka.batch_size == 16


def test_the_stored_map_is_that_of_the_stored_states(finished: Path) -> None:
    run = open_run(finished / "run")
    y, x = (
        [layer[0:64].astype(np.float64) for layer in run.activations(model).layers.values()]
        for model in ("moe", "engram")
    )

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        k, m = a @ a.T, b @ b.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        n = len(k)
        one = np.ones(n)
        cross = one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2))
        return (np.trace(k @ m) + cross - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))

    documents = document_numbers(run.activations("moe").samples["document"])
    count = max(int(np.bincount(documents).max()), 4)
    groups = jackknife_groups(documents, groups_left_out(64 // count))
    batches = distinct_batches(documents, 16, 0, groups)
    assert all(len(set(documents[batch])) == len(batch) for batch in batches)

    def total(a: np.ndarray, b: np.ndarray) -> float:
        return sum(hsic(a[batch], b[batch]) for batch in batches)

    expected = np.array([[total(a, b) / np.sqrt(total(a, a) * total(b, b)) for b in x] for a in y])
    assert run.cka["engram-vs-moe"].similarity == pytest.approx(expected, abs=1e-5)


def test_the_sweep_holds_the_losses_of_its_trainings(finished: Path) -> None:
    run = finished / "run"
    sweep = open_run(run).sweep["insertion-layer"]
    records = {
        path.parent.name: json.loads(path.read_text())["validation_loss"]
        for path in run.glob("checkpoints/*/training.json")
    }
    assert sweep.layers == (1, 2)
    by_layer = {
        layer: next(loss for name, loss in records.items() if f"-engram{layer}-" in name)
        for layer in (1, 2)
    }
    assert sweep.loss[:, 0].tolist() == [by_layer[1], by_layer[2]]
    assert sweep.baseline.tolist() == [
        next(loss for name, loss in records.items() if "-engram" not in name)
    ]


def test_the_interval_of_a_layer_is_students_over_documents(finished: Path) -> None:
    run = finished / "run"
    sweep = open_run(run).sweep["insertion-layer"]
    losses = {}
    for key in ("-engram1-", "moe-tiny-seed0"):
        path = next(path for path in run.glob("checkpoints/*/training.json") if key in str(path))
        record = json.loads(path.read_text())
        assert len(set(record["sequence_documents"])) == 4
        losses[key] = np.array(record["sequence_losses"])
    differences = losses["-engram1-"] - losses["moe-tiny-seed0"]
    half = 3.182446 * differences.std(ddof=1) / 2
    ends = sweep.difference_low[0], sweep.difference_high[0]
    assert ends == pytest.approx((differences.mean() - half, differences.mean() + half), rel=1e-5)
    assert differences.mean() == pytest.approx(sweep.difference[0], rel=1e-9)


def test_each_model_has_its_training_curve(finished: Path) -> None:
    run = finished / "run"
    curves = open_run(run).training
    assert sorted(curves) == ["engram", "moe"]
    curve = curves["engram"]
    assert curve.label == "Engram [red]"
    assert curve.step.tolist() == [1, 2, 3]
    record = json.loads(next(run.glob("checkpoints/*engram2*/training.json")).read_text())
    assert curve.loss.tolist() == [loss for _, loss in record["training_loss"]]
    assert curve.validation_step.tolist() == [3]
    assert curve.validation_loss.tolist() == [record["validation_loss"]]
    assert len(curve.provenance["expert_imbalance"]) == 3


def test_provenance_is_recorded(finished: Path) -> None:
    run = finished / "run"
    root = xarray.open_zarr(run / "results.zarr", consolidated=False).attrs
    assert root["provenance"]["config"]["data"]["samples"] == 64
    assert root["provenance"]["versions"]["torch"]
    assert root["provenance"]["device"] == "cpu"
    assert root["seconds"]["cka/self"] >= 0
    cka = open_run(run).cka["engram-vs-moe"]
    assert cka.provenance["x"]["label"] == "Engram [red]"
    events = open_run(run).log()
    done = [(e["stage"], e["name"]) for e in events if e["event"] == "done"]
    assert done[0] == ("tokenizer", "python-stdlib")
    assert ("sweep", "insertion-layer") in done
    assert events[-1]["event"] == "finished"
    resolved = tomllib.loads((run / "config.toml").read_text())
    assert resolved["training"]["weight_decay"] == 0.1


def test_what_is_printed(finished: Path) -> None:
    out = (finished / "stdout.txt").read_text()
    assert "cka/engram-vs-moe" in out
    assert "MoE x Engram [red], 6 x 6 layers, n = 64" in out
    assert "run/figures/sweep-insertion-layer.png" in out
    assert "engramcka browse run" in out
    lines = (finished / "stderr.txt").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    assert "\x1b" not in out


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_second_run_does_nothing_and_says_so(finished: Path) -> None:
    before = snapshot(finished / "run")
    result = here("run", "config.toml", cwd=finished)
    assert result.returncode == 0
    assert "nothing to do, all 15 tasks are done" in result.stdout
    assert snapshot(finished / "run") == before


def test_another_config_in_the_way_is_refused_and_nothing_touched(finished: Path) -> None:
    before = snapshot(finished / "run")
    result = here("run", "config.toml", "--set", "data.passage_length=100", cwd=finished)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "made with data.passage_length = 120, now data.passage_length = 100" in result.stderr
    assert snapshot(finished / "run") == before


def test_a_changed_map_is_made_anew_alone(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "config.toml").write_text(CONFIG)
    result = here("run", "config.toml", "--set", "cka.self.batch_size=32", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "tasks done: 2, found: 13" in result.stdout  # the map and its figure
    assert open_run(tmp_path / "run").cka["self"].batch_size == 32


def arrays(run: Path) -> dict[str, bytes]:
    """Every chunk of every result and hidden state, and every loss."""
    chunks = {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and "/c/" in path.as_posix()
    }
    losses = {
        path.relative_to(run).as_posix(): json.loads(path.read_text())["training_loss"]
        for path in run.glob("checkpoints/*/training.json")
    }
    return {**chunks, **{name: str(curve).encode() for name, curve in losses.items()}}


def wait_for(log: Path, stage: str, event: str, after: int, process: object) -> int:
    """Wait for an event of a stage past ``after`` lines; returns the lines there are then."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lines = log.read_text().splitlines() if log.is_file() else []
        for number, line in enumerate(lines[after:], start=after + 1):
            entry = json.loads(line) if line.endswith("}") else {}
            if (entry.get("stage"), entry.get("event")) == (stage, event):
                return number
        if process.poll() is not None:  # type: ignore[attr-defined]
            pytest.fail(f"the run ended before {stage} {event}")
        time.sleep(0.01)
    pytest.fail(f"{stage} {event} did not come")


def test_killed_at_every_stage_it_goes_on_to_the_same_bits(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    log = tmp_path / "run" / "log.jsonl"
    seen = 0
    for stage, event in (
        ("tokenizer", "start"),
        ("train", "start"),
        ("extract", "start"),
        ("cka", "start"),
        ("lens", "start"),
        ("sweep", "start"),
        ("figures", "start"),
    ):
        process = Forked("run", "config.toml", cwd=tmp_path)
        seen = wait_for(log, stage, event, seen, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        seen = len(log.read_text().splitlines())
    result = engramcka("run", "config.toml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert arrays(tmp_path / "run") == arrays(finished / "run")
    trained = [
        (entry["stage"], entry["name"])
        for entry in open_run(tmp_path / "run").log()
        if entry["event"] == "done" and entry["unit"] == "steps"
    ]
    assert len(trained) == len(set(trained)) == 3  # no training that was finished is done again


def test_only_a_stage_whose_needs_are_missing_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    result = here("run", "config.toml", "--only", "cka", cwd=tmp_path)
    assert result.returncode == 1
    assert "moe is not extracted yet; run stage extract first" in result.stderr.splitlines()[-1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    tmp_path.chmod(0o500)
    try:
        result = here("run", "config.toml", cwd=tmp_path)
    finally:
        tmp_path.chmod(0o700)
    assert result.returncode == 1
    assert "cannot be written" in result.stderr


def test_a_run_dir_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "run").write_text("in the way")
    result = here("run", "config.toml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "run: cannot be written" in result.stderr
