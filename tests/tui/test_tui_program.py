"""The installed program: what it imports, --once, refusals, and a session in tmux."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import full_map

from engramcka.errors import ConfigError, StoreError
from engramcka.tui import browse

FIRST_FRAME = """
import sys
from pathlib import Path
from engramcka.tui.app import BrowseApp
from engramcka.tui.terminal import Capabilities
from engramcka.tui.catalog import find_runs
from engramcka.tui.widgets.panel import DetailsPanel

set_lines = DetailsPanel.set_lines
heavy = ("torch", "transformers", "zarr", "numcodecs", "matplotlib", "PIL", "pydantic")

def first(self, lines):
    set_lines(self, lines)
    said = " ".join(text.strip() for line in lines for text, _ in line)
    print(said[:200], "said with", [name for name in heavy if name in sys.modules])
    self.app.exit()

DetailsPanel.set_lines = first
paths = [Path("paper")]
BrowseApp(paths, find_runs(paths), Capabilities()).run(headless=True, size=(100, 30))
"""


def call(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engramcka", "browse", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=plain(**environ), check=False
    )


def plain(**environ: str) -> dict[str, str]:
    """The environment without what would say how large the terminal is or what it can show."""
    known = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    return {**known, **environ}


def test_nothing_heavy_is_imported_before_all_of_a_cell_is_known(run):
    command = [sys.executable, "-c", FIRST_FRAME]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    first = done.stdout.splitlines()[0]
    assert first.endswith("said with []"), done.stdout + done.stderr
    assert "CKA 0.900 95 % .890–.920 null .003" in first


def test_importing_the_package_imports_no_textual():
    code = "import sys, engramcka.tui; print({'textual', 'torch', 'zarr'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_once_prints_the_map_as_text_without_colours_into_a_pipe(run):
    done = call("--once", str(run), COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "paper  cka/engram-vs-moe  12 x 12  minibatch  n=2048"
    row = next(line for line in lines if line.startswith(" 1 "))
    values = [f"{v:.2f}"[1:] for v in full_map().similarity[0].clip(0)]
    assert row.split()[1:] == values
    assert "warning: MoE layer 3: 71 % of the variance is in one dimension" in lines
    assert max(map(len, lines[:16])) <= 80


def test_once_in_ascii(run):
    assert call("--once", str(run), LC_ALL="C", PYTHONUTF8="1").stdout.isascii()


def test_once_of_a_sweep_lists_its_points(run, capsys):
    shutil.rmtree(run / "results.zarr" / "cka")
    browse([run], once=True)
    printed = capsys.readouterr().out
    assert "layer 2  loss 1.9900  s.d. 0.0141  to base −0.5200" in printed
    assert "without gating 2.0200" in printed


def test_once_refuses_what_it_cannot_print(run):
    (run / "results.zarr" / "cka" / "engram-vs-moe" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="engram-vs-moe"):
        browse([run], once=True)
    empty = Path("empty")
    empty.mkdir()
    (empty / "config.toml").touch()
    with pytest.raises(ConfigError, match="no result"):
        browse([empty], once=True)


def test_refusals_are_one_sentence_and_exit_code_2(run):
    for arguments in (("nowhere",), (str(run),)):  # no such folder; no terminal
        done = call(*arguments)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_a_session_in_tmux(run, tmp_path):
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null"]

    def do(*arguments: str) -> str:
        return subprocess.run(
            [*tmux, *arguments],
            capture_output=True, text=True, check=True, timeout=30, env=plain(),
        ).stdout  # fmt: skip

    def wait_for(text: str, gone: bool = False) -> str:
        for _ in range(300):
            shown = do("capture-pane", "-p", "-t", "s")
            if (text in shown) != gone:
                return shown
            time.sleep(0.1)
        raise AssertionError(f"{text!r} did not {'go' if gone else 'appear'}:\n{shown}")

    program = f"TERM=xterm-256color LANG=C.UTF-8 {sys.executable} -m engramcka browse {run}"
    do("new-session", "-d", "-s", "s", "-x", "100", "-y", "30", f"{program}; echo left $?; cat")
    try:
        assert "cka/engram-vs-moe" in wait_for("0.900")
        do("send-keys", "-t", "s", "Right", "Up", "Up")
        wait_for(f"{full_map().similarity[2, 1]:.3f}")
        do("send-keys", "-t", "s", "n", "n")
        wait_for("insertion layer;")
        with Path(do("display", "-p", "-t", "s", "#{pane_tty}").strip()).open("w") as screen:
            screen.write("\x1b7\x1b[5;3Hwritten over\x1b8")  # as another program might
        wait_for("written over")
        do("send-keys", "-t", "s", "C-l")
        wait_for("written over", gone=True)
        do("resize-window", "-t", "s", "-x", "30", "-y", "6")
        wait_for("40 x 12")
        do("resize-window", "-t", "s", "-x", "100", "-y", "30")
        wait_for("insertion layer;")
        do("send-keys", "-t", "s", "e")
        wait_for("Wrote")
        do("send-keys", "-t", "s", "q")
        wait_for("left 0")
    finally:
        do("kill-server")
    assert (run / "figures" / "sweep-insertion-layer.png").exists()
