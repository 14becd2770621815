"""Names that are none, links where a run has parts, and who may write into a run at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import CONFIG, ENVIRONMENT, Forked, here

from engramcka import open_run
from engramcka.progress import Reporter

PARTS = ("activations", "checkpoints", "figures", "results.zarr", "results.zarr/cka")
FILES = ("config.toml", "log.jsonl", ".lock")


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("engramcka: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "setting",
    [
        'run.dir="a\\u0000b"',
        'run.dir="a\\nb"',
        f"run.dir=runs/{'n' * 300}/a",
        'data.path="a\\u0000"',
        'models.moe={source="hf",path="a\\u0007"}',
        'models={"a\\u0000b"={source="train"}}',
        'cka.self.name="a\\u0000b"',
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_name_that_is_none(tmp_path: Path, setting: str, command: str) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    said = one_line(here(command, "config.toml", "--set", setting, cwd=tmp_path), 2)
    assert "--set" in said or "config.toml" in said
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_a_name_that_is_too_long_on_the_command_line(finished: Path, tmp_path: Path) -> None:
    long = "n" * 300
    np.save(tmp_path / "map.npy", np.eye(4))
    for command in (
        f"run {long}",
        f"check {long}",
        f"init {long}",
        f"init {long} --template paper",
        f"info {long}",
        f"verify {long}",
        f"browse {long} --once",
        f"export {finished}/run --what cka/self -o {long}.pdf",
        f"import {long}.npy --as cka --into run",
        f"import map.npy --as cka --into {long}",
    ):
        done = here(*command.split(), cwd=tmp_path)
        assert one_line(done, done.returncode)
        assert done.returncode == 2, command
        assert [path.name for path in tmp_path.iterdir()] == ["map.npy"]


@pytest.mark.parametrize("part", [*PARTS, *FILES])
@pytest.mark.parametrize("what", ["link", "pipe", "other"])
def test_a_part_that_leads_elsewhere_is_refused(tmp_path: Path, part: str, what: str) -> None:
    """By runs and imports; what it leads to is as it was."""
    (tmp_path / "config.toml").write_text(CONFIG)
    np.save(tmp_path / "map.npy", np.eye(4))
    victim, path = tmp_path / "victim", tmp_path / "run" / part
    path.parent.mkdir(parents=True)
    if part in FILES:
        victim.write_text("precious")
    else:
        victim.mkdir()
    if what == "link":
        path.symlink_to(victim)
    elif what == "pipe":
        os.mkfifo(path)
    elif part in FILES:
        path.mkdir()
    else:
        path.touch()
    before = sorted(str(found) for found in tmp_path.rglob("*"))
    for command in ("run config.toml", "import map.npy --as cka --into run"):
        said = one_line(here(*command.split(), cwd=tmp_path), 2)
        assert f"run/{part}: a" in said
    assert sorted(str(found) for found in tmp_path.rglob("*")) == before
    assert victim.is_dir() or victim.read_text() == "precious"


def test_a_run_directory_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to("elsewhere")
    done = here("run", "config.toml", "--only", "tokenizer", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "elsewhere" / "checkpoints" / "tokenizer").is_dir()


def test_nothing_is_drawn_through_a_link(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "victim.csv").write_text("precious")
    (tmp_path / "a.csv").symlink_to("victim.csv")
    done = here("export", f"{finished}/run", "--what", "cka/self", "-o", "a.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "victim.csv").read_text() == "precious"
    assert not (tmp_path / "a.csv").is_symlink()


def test_a_line_that_a_kill_cut_off_swallows_no_event(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    Reporter(log).log("first")
    with log.open("a") as file:
        file.write('{"time": "2026-')
    for name in ("second", "third"):
        Reporter(log).log(name)
    events = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    assert [event["event"] for event in events] == ["first", "second", "third"]


HELD_IMPORT = """
import sys, time
from pathlib import Path
from engramcka.stores import manifest
finalize = manifest.finalize
def wait(*arguments, **more):  # before its rename
    finalize(*arguments, **more)
    Path("sealed").touch()
    while not Path("go").exists():
        time.sleep(0.01)
manifest.finalize = wait
from engramcka.__main__ import main
main()
"""


def test_a_run_does_not_disturb_an_import_beside_it(tmp_path: Path) -> None:
    """The import holds the run; what it has half-written is left alone."""
    (tmp_path / "config.toml").write_text(CONFIG)
    np.save(tmp_path / "map.npy", np.eye(4))
    arguments = ["import", "map.npy", "--as", "cka", "--into", "run"]
    process = subprocess.Popen(
        [sys.executable, "-c", HELD_IMPORT, *arguments],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "sealed").exists():
        assert process.poll() is None
        time.sleep(0.01)
    only = ("run", "config.toml", "--only", "tokenizer")
    said = one_line(here(*only, cwd=tmp_path), 2)
    assert f"held by process {process.pid}" in said
    (tmp_path / "go").touch()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert here(*only, cwd=tmp_path).returncode == 0
    assert list(open_run(tmp_path / "run").cka) == ["map"]


def test_an_import_waits_for_a_run_and_then_says_who_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engramcka.cli import importing

    (tmp_path / "config.toml").write_text(CONFIG)
    np.save(tmp_path / "map.npy", np.eye(4))
    process = Forked("run", "config.toml", "--set", "training.steps=4000", cwd=tmp_path)
    lock = tmp_path / "run" / ".lock"
    while not (lock.is_file() and lock.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    arguments = ("import", "map.npy", "--as", "cka", "--into", "run")
    monkeypatch.setattr(importing, "PATIENCE", 0.2)
    assert f"held by process {process.pid}" in one_line(here(*arguments, cwd=tmp_path), 2)
    monkeypatch.setattr(importing, "PATIENCE", 60.0)
    process.send_signal(signal.SIGKILL)
    done = here(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    process.communicate()


@pytest.mark.parametrize("hours", [-24 * 365, 24])
def test_a_clock_that_jumps_makes_nothing_anew(finished: Path, tmp_path: Path, hours: int) -> None:
    """Between two runs, and between the making of a map and its drawing."""
    shutil.copytree(finished, tmp_path / "a", symlinks=True)
    run = tmp_path / "a" / "run"
    for path in run.rglob("*"):
        found = path.stat()
        then = found.st_mtime_ns + hours * 3600 * 10**9
        os.utime(path, ns=(then, then))
    assert "nothing to do" in here("run", "config.toml", cwd=run.parent).stdout
    (run / "figures" / "cka-self.png").unlink()
    drawn = here("run", "config.toml", cwd=run.parent)
    assert "tasks done: 1," in drawn.stdout, drawn.stderr
    assert "nothing to do" in here("run", "config.toml", cwd=run.parent).stdout
    damaged = run / "results.zarr" / "cka" / "self" / "similarity" / "c" / "0" / "0"
    damaged.write_bytes(b"")
    os.utime(damaged, ns=(0, 0))
    made = here("run", "config.toml", cwd=run.parent)
    assert "cka self: done" in made.stderr
    assert damaged.stat().st_size
