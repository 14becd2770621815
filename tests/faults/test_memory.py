"""Maps too large for memory: refused beforehand, or in a line; never a killed process."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import psutil
import pytest
from command import CONFIG, ENVIRONMENT

from engramcka import cka_map, ram
from engramcka.cli import check
from engramcka.config import load_config
from engramcka.errors import ComparisonError, ConfigError
from engramcka.pipeline import estimate, make_plan, run_config
from engramcka.similarity import minibatch

LARGE = """
import sys
import numpy as np
from engramcka import cka_map
from engramcka.errors import ComparisonError
layers = [np.zeros((40_000, 1), np.float32)] * 4
try:
    cka_map(layers, layers, batch_size=40_000)
except ComparisonError as error:
    sys.exit(str(error))
"""


def test_a_map_that_does_not_fit_is_refused_in_a_real_process() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

    command = [sys.executable, "-c", LARGE]
    found = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, preexec_fn=limit, timeout=240
    )
    # 8 layers of 40,000^2 / 2 numbers of 4 bytes, and 1/32 more for strips of 32 groups: 24.6 GiB
    assert found.stderr.startswith("a batch of 40000 samples of 4 + 4 layers needs 24.6 GiB")
    assert "a smaller batch_size needs less" in found.stderr
    assert found.returncode == 1


def test_the_same_map_in_smaller_batches_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    y, x = ([random.normal(size=(512, 8)) for _ in range(3)] for _ in range(2))
    monkeypatch.setattr(minibatch, "CHECKED_BYTES", 0)
    monkeypatch.setattr(minibatch, "free_bytes", lambda device: 1e7)
    with pytest.raises(ComparisonError, match=r"batch of 512 .* a smaller batch_size needs less"):
        cka_map(y, x, batch_size=512)
    assert np.isfinite(cka_map(y, x, batch_size=64).similarity).all()


def test_a_run_and_check_refuse_it_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    large = [
        "data.samples=4096",
        "data.per_document=4096",
        "cka.engram-vs-moe.batch_size=4096",
        "data.documents=3000",
    ]
    settings = [f'run.dir="{tmp_path}/run"', *large]
    # 12 layers of half of 4096^2 numbers of 4 bytes and little more: 0.38 GiB
    monkeypatch.setattr(estimate, "total_bytes", lambda device: 0.1 * ram.GIB)
    expected = (
        r"cka.engram-vs-moe.batch_size=4096: a batch of 4096 samples of 6 \+ 6 layers "
        r"needs 0.4 GiB of memory, there are 0.1 GiB here; 1024 would fit"
    )
    for action in (
        lambda: check.command(tmp_path / "config.toml", settings),
        lambda: run_config(load_config(tmp_path / "config.toml", settings), Mock()),
    ):
        with pytest.raises(ConfigError, match=expected):
            action()
    assert "tasks to do" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    config = load_config(tmp_path / "config.toml", settings)
    estimate.check_room(config, make_plan(config))


def test_what_the_kernel_says_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = SimpleNamespace(total=8192 << 10, available=4096 << 10)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    (tmp_path / "cgroup").write_text("4:memory:/job/7\n0::/job/7\n")
    job = tmp_path / "fs/job/7"
    job.mkdir(parents=True)
    (job / "memory.max").write_text("max\n")
    (job.parent / "memory.max").write_text("6000000\n")
    (job.parent / "memory.current").write_text("5000000\n")
    (job.parent / "memory.stat").write_text("inactive_file 1000000\nactive_file 500000\n")
    for name, place in (("CGROUPS", "cgroup"), ("CGROUP_ROOT", "fs")):
        monkeypatch.setattr(ram, name, tmp_path / place)
    assert ram.total_bytes() == 6_000_000
    assert ram.free_bytes() == 2_500_000
    old = tmp_path / "fs/memory/job/7"  # the first version of control groups
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("3000000\n")
    (old / "memory.usage_in_bytes").write_text("2000000\n")
    assert ram.total_bytes() == 3_000_000
    assert ram.free_bytes() == 1_000_000
    machine.total, machine.available = 2048, 1024
    assert (ram.total_bytes(), ram.free_bytes()) == (2048, 1024)
