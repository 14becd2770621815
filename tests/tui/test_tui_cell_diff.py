"""What is not sent changes nothing on the screen: a small terminal says so."""

from __future__ import annotations

import re
import sys

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from engramcka.tui.cell_diff import NARROW, CellDiff

TOKENS = re.compile(
    r"\x1b\[([0-9;]*)([mHJ])|(\x1b\[\?[0-9]*[hl]|\x1b[78]|\x1b_.*?\x1b\\)|(.)", re.DOTALL
)
PLAIN = {"fore": None, "back": None}


class Terminal:
    """Understands colours, places, erasing, and characters of one or two cells."""

    def __init__(self):
        self.cells, self.style, self.line, self.x, self.images = {}, dict(PLAIN), 1, 1, []

    def take(self, output):
        for numbers, kind, other, character in TOKENS.findall(output):
            parts = [int(part) for part in numbers.split(";") if part]
            if kind == "H":
                self.line, self.x = parts or (1, 1)
            elif kind == "m":
                self.style = styled(self.style, parts or [0])
            elif kind == "J" or other == "\x1b[?1049h":
                self.cells = {}
            elif other.startswith("\x1b_"):
                self.images.append((self.line, self.x, other))
            elif character == "\n":
                self.line, self.x = self.line + 1, 1
            elif character:
                self.put(character)

    def put(self, character):
        for at in range(self.x, self.x + cell_len(character)):
            self.cells[self.line, at] = (character if at == self.x else "", dict(self.style))
        self.x += cell_len(character)


def styled(style, parts):
    style, parts = dict(style), list(parts)
    while parts:
        code = parts.pop(0)
        if code == 0:
            style = dict(PLAIN)
        elif code in (38, 48):
            count = 4 if parts[0] == 2 else 2
            style["fore" if code == 38 else "back"] = tuple(parts[:count])
            del parts[:count]
        else:
            style[code] = True
    return style


COLOUR = st.sampled_from(["2;1;2;3", "2;0;0;0", "5;16", "5;7"])
STYLES = st.one_of(
    st.builds("38;{};48;{}".format, COLOUR, COLOUR),
    st.builds("48;{}".format, COLOUR),
    st.builds("1;38;{}".format, COLOUR),
    st.sampled_from(["1", "4;2", "31", "7;38;5;3;48;5;4"]),
)
TEXT = st.text("ab ▀", max_size=8)
PLACE = st.builds("\x1b[{};{}H".format, st.integers(1, 3), st.integers(1, 12))
PIECES = st.one_of(
    st.builds("{}\x1b[{}m{}\x1b[0m".format, PLACE, STYLES, TEXT),
    st.builds("{}\x1b[{}m{}\x1b[0m".format, PLACE, STYLES, st.text("a層", max_size=4)),
    st.builds("\x1b[{}m{}\x1b[0m".format, STYLES, TEXT),
    PLACE,
    st.builds("\n{}".format, PLACE),
    st.builds("\x1b7{}\x1b_Gm=0;image\x1b\\\x1b8".format, PLACE),
    st.sampled_from(["\x1b[1m", "\x1b[0m", "\x1b[m", "\x1b[2J", "\x1b[?2026h", "\x1b[?1049h"]),
)
OUTPUT = st.lists(PIECES, max_size=10).map("".join)


@given(st.lists(OUTPUT, max_size=4))
def test_the_same_is_shown(outputs):
    """However it is cut into writes; each begins at a place, as Textual's do."""
    whole, reduced, diff = Terminal(), Terminal(), CellDiff()
    for output in outputs:
        output = f"\x1b[2;2H{output}"
        whole.take(output)
        reduced.take(diff.reduced(output))
        assert reduced.cells == whole.cells
        assert reduced.images == whole.images


@given(st.lists(OUTPUT, min_size=1, max_size=3))
def test_the_same_again_sends_no_cell(outputs):
    output = "\x1b[1;1H\x1b[1mabc\x1b[0m"
    diff = CellDiff()
    diff.reduced("\x1b[1;1H" + "".join(outputs) + "\x1b[0m" + output)
    assert diff.reduced(output) == ""
    assert len(diff.reduced(output.replace("b", "x"))) <= len("\x1b[1;2H\x1b[0;1mx\x1b[1;4H")


def test_only_what_differs_is_sent():
    diff = CellDiff()
    style = "\x1b[38;2;1;2;3;48;2;4;5;6m"
    diff.reduced(f"\x1b[1;1H{style}0123456789\x1b[0m\n\x1b[2;1H{style}ab\x1b[0m\x1b[1;1H")
    again = f"\x1b[1;1H{style}01x34567y9\x1b[0m\n\x1b[2;1H{style}ac\x1b[0m\x1b[1;1H"
    assert diff.reduced(again) == "01x\x1b[1;9Hy\x1b[2;2Hc\x1b[1;1H"
    other = again.replace("4;5;6", "7;8;9").replace("01x34567y9", "0")
    assert diff.reduced(other).startswith("\x1b[48;2;7;8;9m0")


def test_after_another_screen_everything_is_sent():
    diff = CellDiff()
    output = "\x1b[1;1H\x1b[1mabc\x1b[0m"
    diff.reduced(output)
    diff.reduced("\x1b[?1049l")
    assert "abc" in diff.reduced(output)
    diff.forget()
    assert "abc" in diff.reduced(output)


def test_texts_that_count_as_narrow_are():
    narrow = [chr(n) for n in range(sys.maxunicode + 1) if NARROW.fullmatch(chr(n))]
    assert len(narrow) > 1000
    assert [c for c in narrow if cell_len(c) != 1] == []
