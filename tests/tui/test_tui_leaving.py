"""However the app ends, the terminal is as before and the place is kept; any byte may come in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from real_terminal import FIRST_CELLS, Terminal, terminal
from small_runs import full_map, settle, toasts

from engramcka.tui.app import BrowseApp
from engramcka.tui.session import Session


def place(state: Path) -> tuple[int, int]:
    """(row, column) of the one session that is kept."""
    (session,) = json.loads((state / "engramcka" / "browse.json").read_text()).values()
    return session["row"], session["column"]


def go(shown: Terminal) -> None:
    """One row up and two columns to the right."""
    shown.read_to(FIRST_CELLS)
    shown.type(b"llk")
    shown.read_to(f"{full_map().similarity[1, 2]:.3f}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_gives_the_terminal_back_and_keeps_the_place(run, tmp_path, number):
    with terminal(run) as shown:
        go(shown)
        assert shown.end(number) == 128 + number
        assert shown.is_given_back
        assert b"Traceback" not in shown.written
    assert place(tmp_path / "state") == (1, 2)


def test_a_terminal_that_is_gone_ends_the_app_and_keeps_the_place(run, tmp_path):
    with terminal(run) as shown:
        go(shown)
        os.close(shown.master)
        assert shown.program.wait(100) == 128 + signal.SIGHUP
    assert place(tmp_path / "state") == (1, 2)


@pytest.mark.parametrize("junk", [b"\xff", b"\x80\x81\xfe", b"\xc3", b"\xe9"])
def test_bytes_that_are_no_utf8_are_left_out(run, junk):
    with terminal(run) as shown:
        shown.read_to(FIRST_CELLS)
        shown.type(b"/" + junk + b"later\r")
        shown.read_to("0.650")
        shown.type(b"q")
        assert shown.end() == 0
        assert shown.is_given_back
        assert b"Traceback" not in shown.written
    assert not (run / "figures").exists()


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_without_a_cursor_is_refused_in_one_line(run, term):
    with terminal(run, TERM=term) as shown:
        assert shown.end() == 2
    assert len(shown.written.splitlines()) == 1
    assert f"TERM is {term}".encode() in shown.written
    assert b"--once" in shown.written


@pytest.mark.parametrize("size", [(100, 30), (80, 24), (60, 20)])
@pytest.mark.parametrize("keys", [b"\x10", b"\x1b[112;5u"], ids=["control", "kitty"])
def test_control_p_takes_the_letters_that_follow(run, size, keys):
    with terminal(run, size=size) as shown:
        shown.read_to(FIRST_CELLS)
        shown.type(keys + b"quit")
        shown.read_to("Leave")
        shown.type(b"\r\r")  # out of the field, then the command
        code = shown.end()
        assert code == 0, shown.written.decode(errors="replace")[-6000:]
    assert not (run / "figures").exists()


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_control_z_goes_to_the_shell_and_back(run, tmp_path):
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null"]

    def do(*arguments: str) -> str:
        done = subprocess.run(
            [*tmux, *arguments], capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout

    def wait_for(text: str) -> None:
        for _ in range(600):
            shown = do("capture-pane", "-p", "-t", "s")
            if text in shown:
                return
            time.sleep(0.1)
        raise AssertionError(f"{text!r} did not appear:\n{shown}")

    do("new-session", "-d", "-s", "s", "-x", "100", "-y", "30", "env PS1='READY> ' bash --norc -i")
    try:
        wait_for("READY>")
        command = f"TERM=xterm-256color LANG=C.UTF-8 {sys.executable} -m engramcka browse {run}"
        do("send-keys", "-t", "s", command, "Enter")
        wait_for("0.900")
        do("send-keys", "-t", "s", "Right", "C-z")
        wait_for("Stopped")
        do("send-keys", "-t", "s", "echo a shell$((1+1))", "Enter")
        wait_for("a shell2")
        do("send-keys", "-t", "s", "fg", "Enter")
        wait_for(f"{full_map().similarity[0, 1]:.3f}")
        do("send-keys", "-t", "s", "Up", "Up")
        wait_for(f"{full_map().similarity[2, 1]:.3f}")
        do("send-keys", "-t", "s", "q")
        wait_for("READY>")
        do("send-keys", "-t", "s", "echo left $?", "Enter")
        wait_for("left 0")
    finally:
        do("kill-server")


def test_control_z_without_a_shell_does_not_stop(run):
    with terminal(run) as shown:  # the terminal's first program
        shown.read_to(FIRST_CELLS)
        shown.type(b"\x1a")
        shown.read_to("no shell")
        shown.type(b"q")
        assert shown.end() == 0


def test_the_place_of_last_time_is_kept_until_a_result_is_shown(run, make_app):
    """A signal, or the timer, may come while the first screen is still being put together."""
    app = make_app(run)
    left = Session(run=str(run), kind="cka", name="later", row=2, column=1)
    browser = BrowseApp(app.browser.paths, [r.ref for r in app.browser.runs], app.capabilities,
                        session=left).browser  # fmt: skip
    browser.entry = app.browser.runs[0].entries[0]
    assert browser.map.cursor == (0, 0)
    assert browser.current_session() == left


async def test_the_place_is_kept_while_the_app_runs(run, make_app, monkeypatch):
    monkeypatch.setattr("engramcka.tui.app.KEEP_EVERY", 0.05)
    kept = []
    app = make_app(run)
    app = BrowseApp(app.browser.paths, [r.ref for r in app.browser.runs], app.capabilities,
                    pause=30.0, keep=kept.append)  # fmt: skip
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        await pilot.press("right", "up", "up")
        while not kept or (kept[-1].row, kept[-1].column) != (2, 1):
            await pilot.pause(0.05)
        count = len(kept)
        await pilot.pause(0.3)
        assert len(kept) == count  # nothing is written while nothing changes
        assert not toasts(app)
