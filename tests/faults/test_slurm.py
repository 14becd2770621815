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
from slurm_cluster import NODES, Slurm, lacking, slurm

SCRIPTS = Path(__file__).parents[2] / "sample_configs/slurm"
STAGES = ("train", "extract", "cka", "lens", "sweep", "figures")
SMALL = "--mem=2G --cpus-per-task=1"  # what a node of the tests has
ONE = f"{SMALL} --gpus=0"
TWO_NODES = f"{SMALL} --gpus-per-node=0 --nodes=2 --ntasks-per-node=1"
LONG = ("--set", "training.steps=4000")
LITTLE = [part for table in ("gates", "sweep") for part in ("--set", f"{table}=[]")]
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
    """Wait until a task of a stage begins, not counting so many first events."""
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


def submit(cluster: Slurm, script: str, folder: Path, options: str, *more: str) -> str:
    return cluster.submit(SCRIPTS / script, "config.toml", *more, cwd=folder, options=options)


def errors_of(job: str, folder: Path) -> str:
    return (folder / f"{job}.err").read_text()


def require_end(job: dict[str, str], state: str, code: str, errors: str = "") -> None:
    assert (job["JobState"], job["ExitCode"]) == (state, code), errors


def test_two_nodes_answer_a_signal_go_back_to_the_queue_and_leave_together(
    cluster: Slurm, finished: Path, folder: Path, full: bool
) -> None:
    job = submit(cluster, "four_nodes.sbatch", folder, TWO_NODES, *([] if full else LITTLE))
    wait_for_stage(folder, "train")
    second = submit(cluster, "one_gpu.sbatch", folder, ONE)
    require_end(cluster.wait(second), "FAILED", "2:0")
    (refused,) = require_quiet(errors_of(second, folder))
    assert "held by process" in refused
    stages = STAGES if full else ("cka",)
    after = 0
    for stage in stages:
        cluster.wait(job, "RUNNING")
        wait_for_stage(folder, stage, after)
        cluster.do("scancel", "--signal=USR1", job)  # what --signal sends, and to whom
        found = cluster.wait(job, "PENDING", "FAILED")
        assert found["JobState"] == "PENDING", errors_of(job, folder)
        after = len(events(folder / "run"))
    ended, errors = cluster.wait(job), errors_of(job, folder)
    require_end(ended, "COMPLETED", "0:0", errors)
    assert ended["Restarts"] == str(len(stages))
    assert require_quiet(errors) == [STOPPED] * len(stages)
    assert (folder / f"{job}.out").read_text().count("tasks done") == 1
    assert 1 in {event.get("rank") for event in events(folder / "run")}
    made, expected = chunks(folder / "run"), chunks(finished / "run")
    assert made == (expected if full else {name: expected[name] for name in made})


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


@pytest.mark.parametrize("killed", [1, 0])
def test_a_rank_killed_ends_the_job_at_once(
    cluster: Slurm, folder: Path, killed: int, full: bool
) -> None:
    if not full:
        pytest.skip("with --full")
    job = submit(cluster, "four_nodes.sbatch", folder, TWO_NODES, *LONG)
    wait_for_stage(folder, "train")
    os.kill(pids_of(job)[killed], signal.SIGKILL)
    began = time.monotonic()
    ended, errors = cluster.wait(job, seconds=40), errors_of(job, folder)
    assert time.monotonic() - began < 20
    require_end(ended, "FAILED", "137:0", errors)
    assert len(require_quiet(errors)) <= 1
    assert "Killed" in errors  # srun's word


@pytest.mark.parametrize("killed", [0, 1])
def test_srun_without_its_option_k_does_not_wait_for_a_killed_rank(
    cluster: Slurm, finished: Path, folder: Path, killed: int, full: bool
) -> None:
    if not full:
        pytest.skip("with --full")
    (folder / "job.sh").write_text("#!/bin/sh\nsrun engramcka run config.toml\n")
    job = cluster.submit(folder / "job.sh", cwd=folder, options=f"{SMALL} --ntasks=2")
    wait_for_stage(folder, "train")
    os.kill(pids_of(job)[killed], signal.SIGKILL)
    require_end(cluster.wait(job, seconds=60), "FAILED", "137:0")
    (line,) = require_quiet(errors_of(job, folder))
    assert "gone" in line or "lost contact" in line


def require_stopped(job: str, folder: Path) -> None:
    """Its ranks saved their states; srun, which was ended too, may not pass on what they say."""
    while pids_of(job):
        time.sleep(0.1)
    assert require_quiet(errors_of(job, folder)) in ([], [STOPPED])
    assert [event["info"] for event in events(folder / "run")[-2:]] == ["Interrupted"] * 2


def test_what_ends_a_job_from_outside_leaves_its_state(
    cluster: Slurm, finished: Path, folder: Path, full: bool
) -> None:
    if not full:
        pytest.skip("with --full")
    job = submit(cluster, "four_nodes.sbatch", folder, TWO_NODES, *LONG)
    wait_for_stage(folder, "train")
    cluster.do("scancel", job)
    assert cluster.wait(job, seconds=40)["JobState"] == "CANCELLED"
    require_stopped(job, folder)
    after = len(events(folder / "run"))
    assert list((folder / "run/checkpoints").iterdir())
    limit = f"{TWO_NODES} --time=1 --signal=USR1@0"
    job = submit(cluster, "four_nodes.sbatch", folder, limit, *LONG)
    wait_for_stage(folder, "train", after)
    assert cluster.wait(job, seconds=200)["JobState"] == "TIMEOUT"
    require_stopped(job, folder)
    after = len(events(folder / "run"))
    job = submit(cluster, "four_nodes.sbatch", folder, TWO_NODES)
    wait_for_stage(folder, "train", after)
    drain = ("scontrol", "update", f"NodeName={NODES[1]}", "Reason=test")
    cluster.do(*drain, "State=drain")  # the job there goes on
    try:
        require_end(cluster.wait(job), "COMPLETED", "0:0", errors_of(job, folder))
    finally:
        cluster.do(*drain, "State=resume")
    assert chunks(folder / "run") == chunks(finished / "run")


def test_a_node_that_is_lost_puts_the_job_back_into_the_queue(
    cluster: Slurm, finished: Path, folder: Path, full: bool
) -> None:
    if not full:
        pytest.skip("with --full")
    job = submit(cluster, "four_nodes.sbatch", folder, TWO_NODES)
    wait_for_stage(folder, "train")
    node = ("scontrol", "update", f"NodeName={NODES[1]}", "Reason=test")
    cluster.do(*node, "State=down")
    assert cluster.wait(job, "PENDING")["JobState"] == "PENDING"
    cluster.do(*node, "State=resume")
    require_end(cluster.wait(job), "COMPLETED", "0:0", errors_of(job, folder))
    assert chunks(folder / "run") == chunks(finished / "run")


def test_an_array_and_the_job_that_gathers(
    cluster: Slurm, finished: Path, folder: Path, full: bool
) -> None:
    if not full:
        pytest.skip("with --full")
    array = submit(cluster, "sweep_array.sbatch", folder, f"{ONE} --array=0-1")
    gathering = f"{ONE} --dependency=afterok:{array}"
    job = submit(cluster, "one_gpu.sbatch", folder, gathering)
    require_end(cluster.wait(job, seconds=200), "COMPLETED", "0:0", errors_of(job, folder))
    assert chunks(folder / "run") == chunks(finished / "run")


def test_two_runs_side_by_side_in_one_job(
    cluster: Slurm, finished: Path, folder: Path, full: bool
) -> None:
    if not full:
        pytest.skip("with --full")
    step = "srun --exact --ntasks=2 --mem=1G engramcka run config.toml"
    both = "\n".join(f"{step} --set 'run.dir=\"run{name}\"' &" for name in "ab")
    (folder / "job.sh").write_text(f"#!/bin/bash\n{both}\nwait -n && wait -n\n")
    options = "--nodes=2 --ntasks=4 --mem=4G --cpus-per-task=1"
    job = cluster.submit(folder / "job.sh", cwd=folder, options=options)
    require_end(cluster.wait(job, seconds=200), "COMPLETED", "0:0", errors_of(job, folder))
    for name in ("runa", "runb"):
        assert chunks(folder / name) == chunks(finished / "run")
