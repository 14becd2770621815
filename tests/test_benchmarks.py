"""The benchmarks' small forms run on any machine, so that the scripts never rot."""

import subprocess
import sys
from pathlib import Path

import pytest
from command import ENVIRONMENT


@pytest.mark.parametrize(
    ("script", "options", "lines"),
    [
        (
            "gpu.py",
            (),
            (
                "moe-tiny: build",
                "engram-tiny-hyper (host tables)",
                "map, debiased",
                "engine",
            ),
        ),
        (
            "first_contact.py",
            ("--step", "extraction"),
            ("extraction, moe-tiny, torch.float32: 0.0e+00", "engram-tiny-hyper waits at: no GPU"),
        ),
        (
            "first_contact.py",
            ("--step", "maps"),
            ("map, torch.float32, plain, gram: ", "a map waits at: no GPU"),
        ),
        ("tables.py", (), ("| dense | ", "| by rows | ")),
        (
            "coverage.py",
            (),
            (
                "| minibatch | 20 | 1 to 64 samples |",
                "| debiased | 20 | 16 samples |",
                "| biased | 20 | 1 sample |",
            ),
        ),
        ("coverage.py", ("--scores",), ("| layers all the same | 20 |",)),
        (
            "coverage.py",
            ("--only", "mutual-knn"),
            ("| mutual-knn | 20 | 16 samples | - |",),
        ),
        (
            "extraction.py",
            ("--rounds", "1"),
            (
                "| bare forward pass |",
                "| extract |",
                "| usual script |",
                "Most host memory in extraction",
                "| write, store |",
                "| read, store, 1 thread |",
            ),
        ),
    ],
)
def test_a_benchmark_in_small(
    script: str, options: tuple[str, ...], lines: tuple[str, ...]
) -> None:
    path = Path(__file__).parents[1] / "benchmarks" / script
    result = subprocess.run(
        [sys.executable, str(path), "--small", *options],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    assert "ABOVE" not in result.stdout
    for line in lines:
        assert line in result.stdout
