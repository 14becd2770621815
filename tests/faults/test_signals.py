"""Signals at any moment after the start: a run ends with 75 or done, other commands quietly."""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from command import CONFIG, ENVIRONMENT, Forked, here

from engramcka.stopping import SIGNALS
from engramcka.stores.verify import verify

pytestmark = [pytest.mark.xdist_group("kills"), pytest.mark.timeout(7200)]

SCRIPT = [str(Path(sys.executable).with_name("engramcka"))]
MODULE = [sys.executable, "-m", "engramcka"]
TOLD = (
    "engramcka: stopped; what was finished is in run, the same command goes on",
    *(f"engramcka: stopped by {number.name}; nothing was begun" for number in SIGNALS),
)


def begin(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """The real command, as soon as it takes signals: Python's own first steps are not ours."""
    process = subprocess.Popen(
        arguments,
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    last = SIGNALS[-1] if "run" in arguments else SIGNALS[0]
    while process.poll() is None and not takes(process.pid, last, "SigCgt", "SigIgn"):
        time.sleep(0.0005)
    if last == signal.SIGINT:  # which Python itself takes a moment before we do
        time.sleep(0.06)
    return process


def takes(pid: int, number: signal.Signals, *kinds: str) -> bool:
    """Whether a process catches ("SigCgt") or ignores ("SigIgn") a signal."""
    lines = [line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    masks = [int(line[1], 16) for line in lines if line[0].rstrip(":") in kinds]
    return any(mask >> (number - 1) & 1 for mask in masks)


def moments(full: bool) -> list[tuple[float, signal.Signals]]:
    """Seconds after the start, and what is sent then."""
    if not full:
        return list(zip((0.3, 1.6), SIGNALS[:2], strict=True))
    draw = random.Random(7)
    return [(draw.uniform(0, 18) ** 2 / 18, number) for _ in range(60) for number in SIGNALS]


def test_a_signal_at_any_moment_of_a_run(tmp_path: Path, full: bool) -> None:
    codes: Counter[int] = Counter()
    (tmp_path / "config.toml").write_text(CONFIG)
    for turn, (moment, number) in enumerate(moments(full)):
        command = (MODULE, SCRIPT)[turn % 2]
        process = begin(*command, "run", "config.toml", cwd=tmp_path)
        time.sleep(moment)
        process.send_signal(number)
        out, errors = process.communicate(timeout=120)
        told = f"{number.name} after {moment:.2f} s: {process.returncode}, {errors}"
        assert process.returncode in (0, 75), told
        assert "Traceback" not in errors, told
        if process.returncode == 75:
            assert errors.splitlines()[-1] in TOLD, told
        else:
            assert "Look at it with" in out, told
            os.rename(tmp_path / "run", tmp_path / f"done{turn}")
        codes[process.returncode] += 1
    print(dict(codes))
    assert codes[75] > len(moments(full)) // 2


def test_a_hang_up_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    process = begin("nohup", *MODULE, "run", "config.toml", "--only", "tokenizer", cwd=tmp_path)
    assert takes(process.pid, signal.SIGHUP, "SigIgn")
    for _ in range(20):
        process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def test_a_terminal_that_goes_away(tmp_path: Path) -> None:
    """The session's leader is hung up when the other end of its terminal is closed."""
    (tmp_path / "config.toml").write_text(CONFIG)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*MODULE, "run", "config.toml", "--set", "training.steps=4000"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(theirs), os.O_RDWR)),
    )
    os.close(theirs)
    seen = b""
    while b"train" not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)
    assert process.wait(120) == 75
    again = here("run", "config.toml", "--only", "tokenizer", cwd=tmp_path)
    assert "nothing to do" in again.stdout


COMMANDS = (
    "check config.toml",
    "info run",
    "verify run",
    "browse run --once",
    "export run --what cka/self -o a.pdf",
    "import map.npy --as cka --into imported",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_in_another_command_is_quiet(
    finished: Path, tmp_path: Path, command: str, full: bool
) -> None:
    import numpy as np

    for name in ("config.toml", "run"):
        (tmp_path / name).symlink_to(finished / name)
    np.save(tmp_path / "map.npy", np.eye(4))
    before = sorted(path.name for path in tmp_path.iterdir())
    count = 40 if full else 2
    for turn in range(count):
        process = begin(*MODULE, *command.split(), cwd=tmp_path)
        time.sleep(1.5 * turn / count)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        told = f"after {1.5 * turn / count:.2f} s: {process.returncode}, {errors}"
        if not turn and process.returncode in (1, -signal.SIGINT):
            continue  # still in Python's own first steps
        assert process.returncode in (0, 130), told
        assert "Traceback" not in errors, told
        if process.returncode == 130:
            assert errors in ("", "Aborted.\n"), told
            there = sorted(path.name for path in tmp_path.iterdir())
            if there == [*sorted(set(before) | {"imported"})]:  # it came after the last write
                assert not [line for c in verify(tmp_path / "imported") for line in c.broken], told
                os.rename(tmp_path / "imported", tmp_path / f"imported.{turn}")
                before = sorted(path.name for path in tmp_path.iterdir())
            else:
                assert there == before, told
        else:
            for name in ("a.pdf", "imported"):
                if (tmp_path / name).exists():
                    os.rename(tmp_path / name, tmp_path / f"{name}.{turn}")
            before = sorted(path.name for path in tmp_path.iterdir())


def test_a_signal_while_a_module_is_imported_waits_for_its_end(tmp_path: Path) -> None:
    """A run that is told twice is stopped where it is, but not within an import."""
    (tmp_path / "slow.py").write_text(
        "import os, signal\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "except BaseException:\n"
        "    print('swallowed')\n"
        "print('imported')\n"
    )
    code = (
        "from engramcka import stopping; stopping.listen(); import slow, time\n"
        "try: time.sleep(10)\n"
        "except KeyboardInterrupt as stop: print(stop)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "imported\nstopped by SIGTERM\n", done.stderr


def test_two_hang_ups_are_one_request(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    process = Forked("run", "config.toml", "--set", "training.steps=4000", cwd=tmp_path)
    log = tmp_path / "run" / "log.jsonl"
    while not (log.is_file() and '"train"' in log.read_text()):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert errors.splitlines()[-1] == TOLD[0]
