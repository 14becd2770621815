"""The GPU benchmark's small form runs on any machine, so that the script never rots."""

import subprocess
import sys
from pathlib import Path

from command import ENVIRONMENT


def test_the_gpu_benchmark_in_small() -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
    result = subprocess.run(
        [sys.executable, str(script), "--small"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    for line in ("moe-tiny: build", "engram-tiny-hyper (host tables)", "map, debiased", "engine"):
        assert line in result.stdout
