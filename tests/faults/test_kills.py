"""kill -9 at random moments, signals, Ctrl-C: finished work stays, the bits are the same."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from command import CONFIG, Forked

from engramcka.config import load_config
from engramcka.pipeline import make_plan

pytestmark = [pytest.mark.xdist_group("kills"), pytest.mark.timeout(7200)]


def chunks(run: Path) -> dict[str, bytes]:
    """Every array's bytes, and every model's weights."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and ("/c/" in path.as_posix() or path.suffix == ".safetensors")
    }


def events(run: Path) -> list[dict[str, object]]:
    """Whole lines of the log."""
    log = run / "log.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def wait_for_start(run: Path, runs: int, process: Forked) -> bool:
    """Wait until the run at work is the runs-th; False if it ended before."""
    deadline = time.monotonic() + 120
    while len([entry for entry in events(run) if entry["event"] == "run"]) < runs:
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return True


def test_killed_at_random_moments_it_ends_with_the_same_bits(
    finished: Path, tmp_path: Path, full: bool
) -> None:
    seed = random.randrange(2**31)
    print(f"random moments from seed {seed}")
    moments = random.Random(seed)
    kills = 0
    for turn in range(17 if full else 1):
        folder = tmp_path / str(turn)
        folder.mkdir()
        (folder / "config.toml").write_text(CONFIG)
        run = folder / "run"
        for attempt in range(1, 40):
            process = Forked("run", "config.toml", cwd=folder)
            begun = wait_for_start(run, attempt, process)
            # Short enough that a run takes several kills, each at another place.
            patience = time.monotonic() + moments.uniform(0.0, 4.0)
            while begun and process.poll() is None and time.monotonic() < patience:
                time.sleep(0.005)
            if attempt <= (12 if full else 2) and process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
            _, errors = process.communicate(timeout=900)
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, errors
        assert chunks(run) == chunks(finished / "run")
        done = Counter(
            (entry["stage"], entry["name"])
            for entry in events(run)
            if entry["event"] == "done" and entry["stage"] in ("train", "extract", "sweep", "cka")
        )
        assert set(done.values()) == {1}, done  # nothing that was finished was done again
        config = load_config(folder / "config.toml", [f'run.dir="{run}"'])
        assert all(task.is_done() for task in make_plan(config))
    print(f"kills survived: {kills}")
    assert kills >= (50 if full else 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_the_state_within_ten_seconds(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    run = tmp_path / "run"
    process = Forked("run", "config.toml", "--set", "training.steps=4000", cwd=tmp_path)
    assert wait_for_start(run, 1, process)
    while not any(entry.get("stage") == "train" for entry in events(run)):
        time.sleep(0.05)
        assert process.poll() is None
    sent = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 75
    assert time.monotonic() - sent < 60  # ten, and more for a busy machine
    assert errors.splitlines()[-1] == (
        "engramcka: stopped; what was finished is in run, the same command goes on"
    )
    assert "Traceback" not in errors
    assert not list(run.glob("checkpoints/moe-tiny*"))
    config = load_config(tmp_path / "config.toml", [f'run.dir="{run}"'])
    assert [p.stage for p in make_plan(config) if p.is_done()] == ["tokenizer"]


def test_ctrl_c_twice_stops_at_once(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    process = Forked("run", "config.toml", "--set", "training.steps=4000", cwd=tmp_path)
    assert wait_for_start(tmp_path / "run", 1, process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 75
    assert "Traceback" not in errors
