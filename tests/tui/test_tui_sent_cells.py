"""Only cells that differ are sent: what is sent gives the same screen, and costs less."""

from __future__ import annotations

import random
import re

import pytest
from real_terminal import FIRST_CELLS, Screen, terminal

from engramcka.tui.sent_cells import SentCells

BLUE, RED = "38;2;1;2;255;48;2;0;0;0", "1;38;2;255;1;2;48;2;0;0;0"


def frame(*runs: tuple[int, int, str, str]) -> str:
    """Runs of (line, column, style, text) as Textual writes them."""
    return "".join(f"\x1b[{y};{x}H\x1b[{style}m{text}\x1b[0m" for y, x, style, text in runs)


STYLES = (
    "",
    "1",
    "4",
    "7;38;5;3",
    "38;5;3",
    "48;5;4",
    "38;5;3;48;5;4",
    "31",
    "1;97;104",
    BLUE,
    RED,
)
TEXTS = ("abcdef", "   ", "a b", "▀▀▀▀", "─│", "漢字", "e\u0301tude")


@pytest.mark.parametrize("seed", range(5))
def test_what_is_sent_gives_the_same_screen(seed: int) -> None:
    """Random frames, also with characters of two cells and of none; now and then all is unknown."""
    choose = random.Random(seed)
    sent, whole, less = SentCells(), Screen(), Screen()
    for _ in range(300):
        runs = [
            (
                choose.randint(1, 4),
                choose.randint(1, 9),
                choose.choice(STYLES),
                choose.choice(TEXTS),
            )
            for _ in range(choose.randint(1, 6))
        ]
        data = frame(*runs) + f"\x1b[{choose.randint(1, 4)};3H"
        whole.show(data)
        less.show(sent.needed(data))
        assert less.cells == whole.cells
        assert less.cursor == whole.cursor
        if choose.random() < 0.05:
            sent.forget()


def test_what_the_terminal_shows_is_not_sent_again() -> None:
    """Of an equal frame nothing; of one with another word the word, in few colours."""
    sent = SentCells()
    first = frame((1, 1, BLUE, "a word here"), (2, 1, RED, "below"))
    assert sent.needed(first)
    assert sent.needed(first) == ""
    changed = frame((1, 1, BLUE, "a wand here"), (2, 1, RED, "below"))
    assert sent.needed(changed) == f"\x1b[1;4H\x1b[{BLUE}man\x1b[0m"


def test_only_the_colour_that_differs_is_sent() -> None:
    """From cell to cell of a map."""
    data = (
        "\x1b[1;1H\x1b[38;5;1;48;5;2m▀\x1b[0m\x1b[38;5;1;48;5;3m▀\x1b[0m\x1b[38;5;4;48;5;3m▀\x1b[0m"
    )
    assert SentCells().needed(data) == (
        "\x1b[1;1H\x1b[38;5;1;48;5;2m▀\x1b[48;5;3m▀\x1b[38;5;4m▀\x1b[0m"
    )


@pytest.mark.parametrize("data", ["\x1b[2J", "\x1b[?1049h", "\x1b[3B", "text"])
def test_what_is_no_frame_is_sent_as_it_is_and_all_after_it(data: str) -> None:
    """Also where the cells were known before."""
    sent, known = SentCells(), frame((1, 1, BLUE, "known"))
    sent.needed(known)
    assert sent.needed(data) == data
    assert "known" in sent.needed(known)


@pytest.mark.parametrize("data", ["\x1b]52;c;YQ==\a", "\x1b]22;default\a", "\x1b[?2026h", "\a"])
def test_a_copy_or_a_bell_changes_no_cell(data: str) -> None:
    """The frame after it is not sent again."""
    sent, known = SentCells(), frame((1, 1, BLUE, "known"))
    sent.needed(known)
    assert sent.needed(data) == data
    assert sent.needed(known) == ""


def test_a_row_with_wide_characters_is_sent_whole() -> None:
    """Terminals differ in their widths; the row after it is known again."""
    sent, wide = SentCells(), frame((1, 1, BLUE, "a 漢字 b"))
    assert sent.needed(wide) == sent.needed(wide)
    plain = frame((1, 1, BLUE, "plain words"))
    assert "plain words" in sent.needed(plain)
    assert sent.needed(plain) == ""


def test_help_sends_what_it_covers(run):
    """Through a real terminal: the cells of the box, to open it and to close it, and no others."""
    with terminal(run, COLORTERM="truecolor") as shown:
        shown.read_to(FIRST_CELLS)
        shown.read_all()
        before = dict(shown.screen.cells)
        shown.screen.sent.clear()
        shown.type(b"?")
        shown.read_to("esc closes")
        shown.read_all()
        for part in ("from the runs to the result and back", "move the cursor by a layer"):
            assert part in shown.screen.text  # first and last of the sections that fit
        box = columns(shown.screen)
        assert (min(box), max(box)) == (9, 92)  # of 100
        shown.screen.sent.clear()
        shown.type(b"\x1b")
        while shown.screen.cells != before:
            assert shown.read_all()
        assert columns(shown.screen) <= box


def test_the_commands_send_what_they_cover(run):
    """Through a real terminal: the cells of the list, and no others."""
    with terminal(run, COLORTERM="truecolor") as shown:
        shown.read_to(FIRST_CELLS)
        shown.read_all()
        before = dict(shown.screen.cells)
        shown.screen.sent.clear()
        shown.type(b"\x10")  # ctrl+p
        shown.read_to("The next palette")
        box = columns(shown.screen)
        assert max(box) - min(box) < 64  # of 100
        shown.screen.sent.clear()
        shown.type(b"\x1b")
        while shown.screen.cells != before:
            shown.read_to(b"m")
        assert columns(shown.screen) <= set(range(min(box), min(box) + 64))


def columns(screen: Screen) -> set[int]:
    """The columns of the cells sent."""
    return {x for _, x in screen.sent}


def test_what_a_burst_of_keys_leads_to_is_drawn_once(run):
    """Forty keys that come in at once cost about as much as one."""
    with terminal(run) as shown:
        shown.read_all()
        shown.type(b"l")
        one = len(shown.read_all())
        shown.type(b"\x1b[C\x1b[A" * 20)
        assert len(shown.read_all()) < 5 * one
        assert "row 12" in re.sub(" +", " ", shown.screen.text)


def test_of_results_that_are_passed_in_a_burst_only_the_last_is_read(full):
    """`n` eight times at once. One that cannot be read is marked when it has been tried."""
    (full / "results.zarr" / "gates" / "engram" / "zarr.json").write_text("{")
    with terminal(full) as shown:
        shown.read_all()
        shown.type(b"nnnnnnnn")
        shown.read_to("inside an entity")
        shown.read_all()
        assert "[broken]" not in shown.screen.text
        shown.type(b"N")
        shown.read_to("[broken]")
