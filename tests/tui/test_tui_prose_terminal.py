"""What docs/browse.md says of the terminal itself: through a real one."""

from __future__ import annotations

import base64
import json
import re
import signal
import time

import pytest
from real_terminal import FIRST_CELLS, SECONDS, terminal
from rich.cells import cell_len
from small_runs import diagonal_map, full_map
from test_tui_leaving import place

from engramcka.stores import write_cka

COLOUR = re.compile(r"(?:^|;)(?:[34][0-8]|9[0-7]|10[0-7])(?:;|$)")  # not the terminal's own


def test_after_a_crash_the_next_start_is_at_the_place(run, tmp_path):
    """The place is written while it changes: nothing ends in good order here."""
    value = full_map().similarity[1, 3]
    with terminal(run) as shown:
        shown.read_to(FIRST_CELLS)
        shown.type(b"lllk")
        shown.read_to(f"{value:.3f}")
        kept, ends = tmp_path / "state" / "engramcka" / "browse.json", time.monotonic() + SECONDS
        while not kept.exists() or place(tmp_path / "state") != (1, 3):
            assert time.monotonic() < ends
            time.sleep(0.1)
        assert shown.end(signal.SIGKILL) == -signal.SIGKILL
    with terminal(run) as shown:
        shown.read_to(f"{value:.3f}")
        text = re.sub(" +", " ", shown.screen.text)
        assert "row 2" in text
        assert "column 4" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_after_a_signal_the_next_start_is_at_the_result(run, number):
    with terminal(run) as shown:
        shown.read_to(FIRST_CELLS)
        shown.type(b"nn")
        shown.read_to("insertion layer;")
        assert shown.end(number) == 128 + number
    with terminal(run) as shown:
        shown.read_to("insertion layer;")


def test_what_is_copied_goes_to_the_terminal(run):
    """As OSC 52, which also crosses SSH and tmux."""
    value = repr(float(full_map().similarity[0, 1])).encode()
    with terminal(run) as shown:
        shown.read_to(FIRST_CELLS)
        shown.type(b"ly")
        shown.read_to(b"\x1b]52;c;" + base64.b64encode(value) + b"\a")


def test_no_color_draws_shades_in_no_colour(run):
    with terminal(run, NO_COLOR="1", COLORTERM="truecolor") as shown:
        shown.read_to("0.900")
        shown.read_all()
        assert "▀" not in shown.screen.text
        assert "▓" in shown.screen.text
        styles = re.findall(r"\x1b\[([\d;]*)m", shown.written.decode())
        assert styles
        assert not [style for style in styles if COLOUR.search(style)]


def test_16_colours_are_only_those(run):
    """TERM=xterm without COLORTERM: nothing of 256 or 24 bits is sent."""
    with terminal(run, TERM="xterm", COLORTERM="") as shown:
        shown.read_to("0.900")
        shown.read_all()
        assert "▀" not in shown.screen.text
        styles = re.findall(r"\x1b\[([\d;]*)m", shown.written.decode())
        assert styles
        assert not [style for style in styles if re.search(r"[34]8;[25];", style)]


def test_another_locale_than_utf8_gets_ascii(run):
    with terminal(run, LANG="C", LC_ALL="C", LC_CTYPE="") as shown:
        shown.read_to("0.900")
        shown.type(b"?")
        shown.read_to("esc closes")
        shown.read_all()
        assert shown.written.isascii()


@pytest.mark.parametrize("columns", [60, 100])
def test_once_is_as_wide_as_the_terminal(run, columns):
    """Longer sentences are wrapped, and not before the edge."""
    warning = " ".join(f"word{n}" for n in range(60))
    write_cka(run / "results.zarr", "engram-vs-moe", diagonal_map(warnings=(warning,)), {})
    with terminal(run, "--once", size=(columns, 30)) as shown:
        assert shown.end() == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown.written.decode()).splitlines()
    assert columns - 8 < max(map(cell_len, lines)) <= columns
    assert warning in " ".join(" ".join(lines).split())


def test_the_place_is_kept_where_the_page_says(run, tmp_path, monkeypatch):
    """Without XDG_STATE_HOME under ~/.local/state."""
    monkeypatch.delenv("XDG_STATE_HOME")
    with terminal(run, HOME=str(tmp_path)) as shown:
        shown.read_to(FIRST_CELLS)
        shown.type(b"ll")
        shown.read_to(f"{full_map().similarity[0, 2]:.3f}")
        shown.type(b"q")
        assert shown.end() == 0
    kept = json.loads((tmp_path / ".local/state/engramcka/browse.json").read_text())
    assert [session["column"] for session in kept.values()] == [2]
