"""Several ranks under torchrun: the same bits as one, and a killed rank is no loss."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from command import CONFIG, engramcka, here, start

from engramcka.config import load_config
from engramcka.stores import results

pytestmark = [pytest.mark.xdist_group("ranks"), pytest.mark.timeout(1200)]


def chunks(run: Path) -> dict[str, bytes]:
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and "/c/" in path.as_posix()
    }


def events(run: Path, kind: str) -> list[dict[str, object]]:
    log = run / "log.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    return [entry for entry in map(json.loads, lines) if entry["event"] == kind]


def test_a_rank_killed_ends_the_job_and_another_number_of_ranks_goes_on(
    finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    run = tmp_path / "run"
    job = start("run", "config.toml", cwd=tmp_path, ranks=2)
    deadline = time.monotonic() + 200
    while not [e for e in events(run, "start") if e.get("rank") == 1]:
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    rank_1 = next(pid for pid in children(job.pid) if environment_of(pid).get("RANK") == "1")
    os.kill(rank_1, signal.SIGKILL)
    _, errors = job.communicate(timeout=300)
    assert job.returncode != 0
    assert "Signal 9" in errors or "SIGKILL" in errors
    again = start("run", "config.toml", cwd=tmp_path, ranks=3)
    out, errors = again.communicate(timeout=900)
    assert again.returncode == 0, errors
    assert out.count("tasks done") == 1  # one rank talks
    assert chunks(run) == chunks(finished / "run")
    trained = [e["name"] for e in events(run, "done") if e["unit"] == "steps"]
    assert len(trained) == len(set(trained)) == 3


def test_a_mistake_in_the_config_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG.replace("samples = 64", "sampels = 64"))
    job = start("run", "config.toml", cwd=tmp_path, ranks=2)
    _, errors = job.communicate(timeout=300)
    assert job.returncode != 0
    assert errors.count("unknown key") == 1, errors


@pytest.mark.parametrize(("stage", "killed"), [("extract", 1), ("cka", 0)])
def test_a_rank_killed_in_a_stage_ends_the_others_and_the_same_command_goes_on(
    finished: Path, tmp_path: Path, stage: str, killed: int
) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    (run / "log.jsonl").unlink()
    for made in run.glob("activations/*.zarr" if stage == "extract" else "results.zarr/cka/*/"):
        shutil.rmtree(made)
    job = start("run", "config.toml", "--only", stage, cwd=tmp_path, ranks=2)
    deadline = time.monotonic() + 100
    while not [e for e in events(run, "start") if e["stage"] == stage]:
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    pids = {environment_of(pid).get("RANK"): pid for pid in children(job.pid)}
    os.kill(pids[str(killed)], signal.SIGKILL)
    sent = time.monotonic()
    _, errors = job.communicate(timeout=100)
    assert time.monotonic() - sent < 30
    assert job.returncode == 1
    assert len([line for line in errors.splitlines() if line.startswith("engramcka: ")]) <= 1
    assert "c10d]" not in errors
    again = here("run", "config.toml", "--only", stage, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert chunks(run) == chunks(finished / "run")


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def environment_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def test_an_error_on_a_rank_is_said_once_with_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    job = start("run", "config.toml", "--only", "cka", cwd=tmp_path, ranks=2)
    _, errors = job.communicate(timeout=120)
    ours = [line for line in errors.splitlines() if line.startswith("engramcka: ")]
    assert ours == [
        "engramcka: run/activations/moe.zarr: moe is not extracted yet; run stage extract first"
    ]
    assert job.returncode != 0


def test_shares_of_a_job_array_and_then_the_whole(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    jobs = [start("run", "config.toml", "--share", f"{i}/2", cwd=tmp_path) for i in range(2)]
    for job in jobs:
        _, errors = job.communicate(timeout=900)
        assert job.returncode == 0, errors
    assert not list((tmp_path / "run/activations").iterdir())
    root = results.read_root(tmp_path / "run/results.zarr")
    assert root["provenance"]["config"] == load_config(tmp_path / "config.toml").to_dict()
    assert "seconds" not in root  # two shares that add theirs would lose some; the log has all
    result = engramcka("run", "config.toml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert chunks(tmp_path / "run") == chunks(finished / "run")
    done = [e["name"] for e in events(tmp_path / "run", "done") if e["unit"] == "steps"]
    assert len(done) == len(set(done)) == 3


def test_a_training_of_all_ranks_that_fails_is_said_once_and_the_others_are_tried(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    tables = [f"{table}=[]" for table in ("cka", "lens", "gates", "sweep")]
    settings = ("training.data_parallel=true", "training.learning_rate=1e30", *tables)
    changes = [part for setting in settings for part in ("--set", setting)]
    job = start("run", "config.toml", *changes, cwd=tmp_path, ranks=2)
    out, errors = job.communicate(timeout=600)
    assert job.returncode == 1, errors
    lines = [line for line in errors.splitlines() if line.startswith("engramcka: ")]
    assert [line.split(":")[1].strip() for line in lines] == ["train moe", "train engram"]
    assert "failed: 2, not made for lack of those: 2" in out
    assert len(events(tmp_path / "run", "error")) == 2


def test_a_share_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    for share in ("2/2", "x", "-1/2", "1"):
        result = here("run", "config.toml", "--share", share, cwd=tmp_path)  # refused at once
        assert result.returncode == 2
        assert "allowed: I/N with 0 <= I < N" in result.stderr
    assert not (tmp_path / "run").exists()
