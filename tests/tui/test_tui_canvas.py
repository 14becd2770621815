from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from engramcka.tui.widgets.canvas import differing


def strip(*parts):
    return Strip([Segment(text, Style.parse(style)) for text, style in parts])


def test_only_the_stretches_that_differ_are_named():
    before = strip(("abcdef", "red"), ("gh", "blue"))
    after = strip(("aXcdef", "red"), ("gY", "blue"))
    assert differing(before, after) == [(1, 2), (7, 8)]
    assert differing(before, before) == []


def test_a_change_of_colour_is_a_change():
    assert differing(strip(("abc", "red")), strip(("a", "red"), ("b", "blue"), ("c", "red"))) == [
        (1, 2)
    ]


def test_another_length_is_all_of_it():
    assert differing(strip(("abc", "")), strip(("abcd", ""))) == [(0, 4)]


def test_wide_characters_count_twice():
    assert differing(strip(("層a", "")), strip(("層b", ""))) == [(2, 3)]
