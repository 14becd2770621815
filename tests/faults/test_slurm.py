"""The sample scripts on a real Slurm of two nodes: signals, kills, requeues, arrays.

Skipped where no Slurm is installed. ``--full`` signals every stage and waits for a time limit.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import CONFIG
from slurm_cluster import Slurm, lacking, slurm

SCRIPTS = Path(__file__).parents[2] / "sample_configs/slurm"
STAGES = ("tokenizer", "train", "extract", "cka", "lens", "sweep", "figures")
SMALL = "--mem=2G --cpus-per-task=1"  # what a node of the tests has
ONE = f"{SMALL} --gpus=0"
TWO_NODES = f"{SMALL} --gpus-per-node=0 --nodes=2 --ntasks-per-node=1"
STOPPED = "engramcka: stopped; what was finished is in run, the same command goes on"

pytestmark = [
    pytest.mark.xdist_group("slurm"),
    pytest.mark.timeout(1200),
    pytest.mark.skipif(lacking() is not None, reason=str(lacking())),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG)
    return tmp_path


def chunks(run: Path) -> dict[str, bytes]:
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and "/c/" in path.as_posix()
    }


def events(run: Path) -> list[dict[str, object]]:
    log = run / "log.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def wait_for_stage(folder: Path, stage: str, after: int = 0) -> None:
    """Wait until a piece of a stage begins, not counting so many first events."""
    end = time.monotonic() + 120
    while not any(
        (e["event"], e.get("stage")) == ("start", stage) for e in events(folder / "run")[after:]
    ):
        assert time.monotonic() < end, (folder / "run/log.jsonl").read_text()
        time.sleep(0.01)


def require_quiet(log: str) -> list[str]:
    """The lines of ours in what a job wrote; beside them only its progress and Slurm's words."""
    ours = [line for line in log.splitlines() if line.startswith("engramcka: ")]
    known = re.compile(r"20\d\d-\d\d-\d\d |engramcka: |srun: |slurmstepd")
    assert [line for line in log.splitlines() if not known.match(line)] == []
    return ours


def test_ranks_of_two_nodes_leave_together_and_a_second_job_on_the_run_is_refused(
    cluster: Slurm, finished: Path, folder: Path
) -> None:
    first = cluster.submit(
        SCRIPTS / "four_nodes.sbatch", "config.toml", cwd=folder, options=TWO_NODES
    )
    wait_for_stage(folder, "train")
    second = cluster.submit(SCRIPTS / "one_gpu.sbatch", "config.toml", cwd=folder, options=ONE)
    job = cluster.wait(second)
    assert (job["JobState"], job["ExitCode"]) == ("FAILED", "2:0")
    refused = require_quiet((folder / f"{second}.err").read_text())
    assert len(refused) == 1
    assert "held by process" in refused[0]
    job = cluster.wait(first)
    errors = (folder / f"{first}.err").read_text()
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), errors
    assert require_quiet(errors) == []
    assert (folder / f"{first}.out").read_text().count("pieces made") == 1
    assert {e["rank"] for e in events(folder / "run") if "rank" in e} >= {1}
    assert chunks(folder / "run") == chunks(finished / "run")


def test_signals_are_answered_by_going_back_to_the_queue(
    cluster: Slurm, finished: Path, folder: Path, full: bool
) -> None:
    job = cluster.submit(
        SCRIPTS / "one_node.sbatch",
        "config.toml",
        cwd=folder,
        options=f"{SMALL} --gpus-per-node=0 --ntasks-per-node=2",
    )
    stages = STAGES if full else ("cka",)
    after = 0
    for stage in stages:
        wait_for_stage(folder, stage, after)
        cluster.do("scancel", "--signal=USR1", job)  # what --signal sends, and to whom
        found = cluster.wait(job, "PENDING", "FAILED")
        assert found["JobState"] == "PENDING", (folder / f"{job}.err").read_text()
        after = len(events(folder / "run"))
    ended = cluster.wait(job)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", str(len(stages)))
    assert require_quiet((folder / f"{job}.err").read_text()) == [STOPPED] * len(stages)
    assert chunks(folder / "run") == chunks(finished / "run")


def pids_of(job: str) -> dict[int, int]:
    """The process of each rank of a job's step."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            entries = (folder / "environ").read_bytes().decode().split("\0")
            command = (folder / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        environment = dict(entry.split("=", 1) for entry in entries if "=" in entry)
        is_ours = environment.get("SLURM_JOB_ID") == job and b"engramcka" in command
        if is_ours and "SLURM_STEP_ID" in environment and b"srun" not in command.split(b"\0")[0]:
            found[int(environment["SLURM_PROCID"])] = int(folder.name)
    return found


@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_killed_ends_the_job_at_once(cluster: Slurm, folder: Path, killed: int) -> None:
    (folder / "config.toml").write_text(CONFIG.replace("steps = 3", "steps = 4000"))
    job = cluster.submit(
        SCRIPTS / "four_nodes.sbatch", "config.toml", cwd=folder, options=TWO_NODES
    )
    wait_for_stage(folder, "train")
    os.kill(pids_of(job)[killed], signal.SIGKILL)
    began = time.monotonic()
    ended = cluster.wait(job, seconds=40)
    assert time.monotonic() - began < 30
    errors = (folder / f"{job}.err").read_text()
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "137:0"), errors
    assert len(require_quiet(errors)) <= 1
    assert "Killed" in errors  # srun's word


def test_a_cancelled_job_saves_its_state(cluster: Slurm, folder: Path) -> None:
    (folder / "config.toml").write_text(CONFIG.replace("steps = 3", "steps = 4000"))
    job = cluster.submit(
        SCRIPTS / "four_nodes.sbatch", "config.toml", cwd=folder, options=TWO_NODES
    )
    wait_for_stage(folder, "train")
    cluster.do("scancel", job)
    assert cluster.wait(job, seconds=40)["JobState"] == "CANCELLED"
    assert require_quiet((folder / f"{job}.err").read_text()) == [STOPPED]
    assert [e["event"] for e in events(folder / "run")].count("stop") == 2
