"""The sbatch scripts, with stand-ins for srun and scontrol: requeued on 75 alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "sample_configs" / "slurm"


def run_script(name: str, folder: Path, code: int, **environment: str) -> tuple[int, list[str]]:
    """A script's exit code, and every call of srun and scontrol it made."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    calls = folder / "calls"
    calls.write_text("")
    for tool, ends in (("srun", code), ("scontrol", 0)):
        path = tools / tool
        path.write_text(f'#!/bin/sh\necho {tool} "$@" >> {calls}\nexit {ends}\n')
        path.chmod(0o755)
    result = subprocess.run(
        ["bash", str(SCRIPTS / name), "my.toml"],
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not result.stderr
    return result.returncode, calls.read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "srun"),
    [
        ("one_gpu.sbatch", "srun engramcka run my.toml"),
        ("one_node.sbatch", "srun -K1 engramcka run my.toml"),
        ("four_nodes.sbatch", "srun -K1 engramcka run my.toml"),
        ("sweep_array.sbatch", "srun engramcka run my.toml --share 3/8"),
    ],
)
def test_a_script_starts_the_run_and_is_queued_again_when_its_state_was_saved(
    tmp_path: Path, name: str, srun: str
) -> None:
    job = {
        "SLURM_JOB_ID": "77",
        "SLURM_ARRAY_JOB_ID": "70",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_ARRAY_TASK_COUNT": "8",
    }
    again = "70_3" if "array" in name else "77"
    assert run_script(name, tmp_path, 75, **job) == (75, [srun, f"scontrol requeue {again}"])
    for code in (0, 1, 2):
        assert run_script(name, tmp_path, code, **job) == (code, [srun])


def test_every_script_is_tested() -> None:
    assert {path.name for path in SCRIPTS.iterdir()} == {
        "one_gpu.sbatch",
        "one_node.sbatch",
        "four_nodes.sbatch",
        "sweep_array.sbatch",
    }
