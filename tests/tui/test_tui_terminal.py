from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from engramcka.plain_text import clean
from engramcka.tui.terminal import (
    Capabilities,
    ascii_only,
    capabilities,
    cut,
    fixed,
    shorten,
    to_ascii,
)


@given(st.text())
def test_clean_names_have_no_character_that_controls(name):
    shown = clean(name)
    assert all(unicodedata.category(c)[0] != "C" for c in shown)
    assert "\n" not in shown
    assert clean(shown) == shown


def test_clean_takes_the_fangs_out_of_escape_sequences():
    assert clean("\x1b[31mred\x07\n\u202eevil") == "[31mred evil"


@given(st.text(), st.integers(0, 40))
def test_texts_fit_their_cells(text, width):
    text = clean(text)
    assert cell_len(shorten(text, width)) <= width
    assert cell_len(fixed(text, width)) == width
    assert cell_len(cut(text, max(width, 1))) <= max(width, 1)
    if cell_len(text) <= width:
        assert shorten(text, width) == cut(text, width) == text


def test_the_middle_is_left_out():
    assert shorten("engram-27b-vs-moe-27b", 12) == "engram…e-27b"


@given(st.text())
def test_ascii_is_ascii_and_as_wide(text):
    text = clean(text)
    assert to_ascii(text).isascii()
    assert len(to_ascii(text)) == cell_len(text)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),  # set by Python itself
        ({"LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "POSIX"}, True),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
    ],
)
def test_the_locale_says_whether_only_ascii(environ, expected):
    assert ascii_only(environ) is expected


@pytest.mark.parametrize(
    ("environ", "colours"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "true"),
        ({"TERM": "xterm", "COLORTERM": "24bit"}, "true"),
        ({"TERM": "xterm-256color"}, "256"),
        ({"TERM": "xterm-kitty"}, "256"),
        ({"TERM": "screen.xterm-256color"}, "256"),
        ({"TERM": "xterm-16color"}, "16"),
        ({"TERM": "linux"}, "16"),
        ({}, "16"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, "none"),
        ({"TERM": "xterm", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "none"),
    ],
)
def test_colours_are_those_that_rich_writes(environ, colours, monkeypatch):
    assert capabilities(environ) == Capabilities(colours)  # type: ignore[arg-type]
    systems = {"truecolor": "true", "256": "256", "standard": "16", None: "none"}
    if "NO_COLOR" not in environ:
        for name in ("TERM", "COLORTERM", "NO_COLOR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        found = Console(force_terminal=True).color_system
        assert systems[found] == colours


def test_half_blocks_need_colours_and_unicode():
    assert Capabilities("256").half_blocks
    assert not Capabilities("16").half_blocks
    assert not Capabilities("true", ascii=True).half_blocks
