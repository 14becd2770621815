"""A config that goes through every stage in seconds, and a way to run the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONFIG = """
[run]
dir = "run"

[data]
samples = 64
passage_length = 120
vocabulary = 400

[models.moe]
source = "train"
label = "MoE"

[models.engram]
source = "train"
label = "Engram [red]"
engram = { layers = [2], table_size = 64, d_mem = 32 }

[training]
steps = 3
batch_size = 2
sequence_length = 16
warmup_steps = 1
validation_sequences = 4

[[cka]]
name = "engram-vs-moe"
y = "moe"
x = "engram"
batch_size = 16

[[cka]]
name = "self"
y = "moe"
x = "moe"
batch_size = 16

[[lens]]
models = ["moe", "engram"]
memory_off = ["engram"]

[[gates]]
models = ["engram"]
passages = 16

[[sweep]]
name = "insertion-layer"
model = "engram"
layers = [1, 2]
"""

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


def engramcka(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "engramcka", *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=900,
    )


def start(*arguments: str, cwd: Path, ranks: int = 1) -> subprocess.Popen[str]:
    """Start the command, under torchrun if there are several ranks, and leave it running."""
    launcher = [sys.executable]
    if ranks > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return subprocess.Popen(
        [*launcher, "-m", "engramcka", *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
