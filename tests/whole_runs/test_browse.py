"""The terminal app as a user has it: installed, in tmux, on a run made by the command line."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import ENVIRONMENT, here

from engramcka.stores import open_run

COLUMNS, LINES = 100, 30


class Tmux:
    """A program in a tmux of its own."""

    def __init__(self, socket: Path, command: str) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        self.do("new-session", "-d", "-s", "s", "-x", str(COLUMNS), "-y", str(LINES), command)

    def do(self, *arguments: str) -> str:
        known = {k: v for k, v in ENVIRONMENT.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        return subprocess.run(
            [*self._tmux, *arguments],
            capture_output=True, text=True, check=True, timeout=60, env=known,
        ).stdout  # fmt: skip

    def press(self, *keys: str) -> None:
        self.do("send-keys", "-t", "s", *keys)

    def wait_for(self, *texts: str) -> str:
        """The screen once it shows all of the texts."""
        shown = ""
        for _ in range(600):
            shown = self.do("capture-pane", "-p", "-t", "s")
            if all(text in shown for text in texts):
                return shown
            time.sleep(0.1)
        raise AssertionError(f"{texts} did not appear:\n{shown}")


@pytest.fixture
def tmux(finished: Path, tmp_path: Path) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    environ = f"TERM=xterm-256color COLORTERM=truecolor LANG=C.UTF-8 XDG_STATE_HOME={tmp_path}"
    program = f"{environ} {sys.executable} -m engramcka browse {finished / 'run'}"
    session = Tmux(tmp_path / "socket", f"{program}; echo left $?; cat")
    yield session
    session.do("kill-server")


def test_a_user_looks_at_a_real_run(finished: Path, tmux: Tmux):
    run = open_run(finished / "run")
    cka = run.cka["engram-vs-moe"]
    tmux.wait_for("cka/engram-vs-moe", f"CKA      {cka.similarity[0, 0]:.3f}", "rows MoE")
    tmux.press("Right", "Up")
    tmux.wait_for(f"CKA      {cka.similarity[1, 1]:.3f}", "Engram [red]")
    tmux.press("d")
    other = run.cka["self"].similarity[1, 1]
    tmux.wait_for(f"A {cka.similarity[1, 1]:.3f}", f"B {other:.3f}")
    tmux.press("Escape")
    tmux.wait_for("95 %")
    tmux.press("/")
    tmux.wait_for("name kind:")
    tmux.press(*"insertion", "Enter")
    sweep = run.sweep["insertion-layer"]
    tmux.wait_for("insertion layer;", f"loss     {sweep.mean[0]:.4f}")
    tmux.do("resize-window", "-t", "s", "-x", "20", "-y", "5")
    tmux.wait_for("40 x 12")
    tmux.do("resize-window", "-t", "s", "-x", "80", "-y", "24")
    tmux.wait_for("insertion layer;", f"loss {sweep.mean[0]:.4f}")
    tmux.press("n")
    tmux.wait_for("training/")
    tmux.press("q")
    screen = tmux.wait_for("left 0")
    assert "Traceback" not in screen


def test_every_result_of_a_real_run_prints(finished: Path):
    results = finished / "run" / "results.zarr"
    groups = sorted(path.parent for path in results.glob("[!.]*/[!.]*/zarr.json"))
    assert len(groups) >= 3
    for group in groups:
        printed = here("browse", "--once", str(group), cwd=finished)
        assert printed.returncode == 0, printed.stderr
        assert f"{group.parent.name}/{group.name}" in printed.stdout
        assert "Traceback" not in printed.stderr
