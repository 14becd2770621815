"""One run a directory: who holds it is said, and a dead holder does not hold it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from command import CONFIG, Forked, here

from engramcka.errors import StoreError
from engramcka.stores.lock import hold


def wait_for_lock(run: Path, process: object) -> None:
    import time

    for _ in range(1200):
        if (run / ".lock").is_file() and (run / ".lock").stat().st_size:
            return
        time.sleep(0.05)
    pytest.fail("the run did not begin")


def test_a_second_run_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    first = Forked("run", "config.toml", cwd=tmp_path)
    try:
        wait_for_lock(tmp_path / "run", first)
        second = here("run", "config.toml", cwd=tmp_path)
        assert second.returncode == 2
        assert second.stderr.count("\n") == 1
        assert f"held by process {first.pid} on {os.uname().nodename} since 2" in second.stderr
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    third = here("run", "config.toml", "--only", "tokenizer", cwd=tmp_path)
    assert third.returncode == 0, third.stderr


def test_shares_hold_a_directory_together_but_not_with_the_whole(tmp_path: Path) -> None:
    with hold(tmp_path, (0, 2)):
        with hold(tmp_path, (1, 2)), pytest.raises(StoreError, match="held by process"):
            hold(tmp_path).__enter__()
        with pytest.raises(StoreError, match="held by process"), hold(tmp_path, (0, 2)):
            pass
    with hold(tmp_path):
        pass


def test_a_lock_file_of_someone_elses_making_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(b"\xff\x00[[[")
    with hold(tmp_path), pytest.raises(StoreError, match="held by process"), hold(tmp_path):
        pass
