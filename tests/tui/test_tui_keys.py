"""Keys that come in one burst are acted on one after the other."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from contextlib import suppress

import pytest
from small_runs import settle, until
from textual.events import Key
from textual.widgets import Input


def burst(app, *keys):
    """Send keys without waiting for what each of them does."""
    for key in keys:
        character = key if len(key) == 1 else None
        name = key
        if character and not key.isalnum():
            name = unicodedata.name(key).lower().replace(" ", "_").replace("-", "_")
            name = name.replace("solidus", "slash")
        app.post_message(Key(name, character))


async def test_letters_right_after_the_slash_are_typed(run, make_app, monkeypatch):
    monkeypatch.setattr("engramcka.tui.screens.browse.PATIENCE", 60.0)  # reading may take long here
    app = make_app(run)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        burst(app, "n", "/", *"sweep/in", "enter", "right", "right")
        await until(pilot, lambda: app.browser.entry.kind == "sweep")
        await settle(pilot)
        await until(pilot, lambda: app.browser.view_of("sweep").plot.cursor == 2)
        assert app.browser.map.cursor == (0, 0)
    assert not (run / "figures").exists()  # e would have exported


@pytest.mark.parametrize("size", [(100, 30), (40, 12)])
async def test_a_result_that_is_being_read_does_not_take_the_prompts_keys(run, make_app, size):
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        burst(app, "n", "slash", *"qq")
        await until(pilot, lambda: app.browser.found.entry.name == "later")
        await pilot.pause(0.2)
        burst(app, *"rr")
        await until(pilot, lambda: app.browser.query_one("#find", Input).value == "qqrr")
        assert isinstance(app.browser.focused, Input)


@pytest.mark.parametrize("prompt", ["R", "colon"])
async def test_letters_right_after_a_dialogs_key_are_typed(run, make_app, prompt):
    app = make_app(run)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        burst(app, "right", prompt, *"0 5")
        await until(pilot, lambda: bool(app.screen.query(Input)))
        typed = app.screen.query_one(Input)
        await until(pilot, lambda: typed.value.endswith("0 5"))
        assert app.browser.map.cursor == (0, 1)
        burst(app, "escape")
        if prompt == "colon":  # Textual's own screen: what comes right after escape is lost
            await until(pilot, lambda: app.screen is app.browser)
        burst(app, "right", "q")
        await until(pilot, lambda: not app.is_running)
    assert app.last_session.column == 2


def test_a_burst_into_a_real_terminal(run):
    """Typed as soon as the first frame is there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    before = termios.tcgetattr(slave)
    environ = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    command = [sys.executable, "-m", "engramcka", "browse", str(run)]
    program = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True
    )
    os.close(slave)
    try:
        ends = time.monotonic() + 100

        def read_to(mark: bytes) -> bytes:
            written = b""
            while mark not in written:
                assert time.monotonic() < ends, written[-3000:]
                if select.select([master], [], [], 0.5)[0]:
                    written += os.read(master, 1 << 16)
            return written

        read_to("▀".encode())
        os.write(master, b"ll/sweep\rll")
        assert b"ll/sw" not in read_to(b"insertion layer;")  # no echo
        os.write(master, b"q")
        with suppress(OSError):  # the terminal's end
            while os.read(master, 1 << 16):
                pass
        assert program.wait(100) == 0
        assert termios.tcgetattr(master) == before
    finally:
        program.kill()
        program.wait()
        os.close(master)
    assert not (run / "figures").exists()
