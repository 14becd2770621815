"""Text of strangers: what gets through to a terminal, a figure and a message, and what does not."""

from __future__ import annotations

import unicodedata

import pytest

from engramcka.errors import EngramckaError
from engramcka.plain_text import clean, did_you_mean, first_line, one_line, without_controls

JOINERS = "\u200c\u200d"
EVERY = [chr(number) for number in range(0x110000)]


def test_only_visible_characters_and_spaces_get_through() -> None:
    for character in EVERY:
        hidden = unicodedata.category(character)[0] in "CZ"
        assert without_controls(character) == (" " if hidden else character)
        assert clean(character) == ("" if hidden else character)
        kept = character in JOINERS or not hidden
        assert one_line(character) == (character if kept else "")


def test_a_text_keeps_its_length_and_a_name_its_words() -> None:
    hostile = "a\x1b[31m  b\r\nc\u202ed\u2028e\ud800\x9b"
    assert without_controls(hostile) == "a [31m  b  c d e  "
    assert clean(hostile) == one_line(hostile) == "a [31m b c d e"
    assert clean(7) == "7"


def test_joiners_stay_on_paper_and_leave_the_terminal() -> None:
    word = "نمی\u200cخواهم"
    assert one_line(word) == word
    assert clean(word) == "نمی خواهم"


def test_an_error_is_one_line_whoever_raises_it() -> None:
    assert str(EngramckaError("a  b\nc\x1b[2J\u202e")) == "a  b c [2J "


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\nsecond"), "first"),
        (ValueError("\n \n  third\x07 \nfourth"), "third"),
        (ValueError(), "ValueError"),
        (ValueError(" \n"), "ValueError"),
        (OSError(2, "No such file or directory", "name"), "No such file or directory"),
        (OSError("no number"), "no number"),
        (KeyError("key"), "'key'"),
        (ValueError("x" * 200), "x" * 200),
        (ValueError("x" * 201), "x" * 197 + "..."),
    ],
)
def test_the_first_line_of_an_exception(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_the_nearest_name_is_proposed_if_one_is_near() -> None:
    assert did_you_mean("trian", ["test", "train"]) == "did you mean 'train'? "
    assert did_you_mean("trian", ["dev"]) == ""
    assert did_you_mean("ab", ["abcd"], cutoff=0.5) == "did you mean 'abcd'? "
    assert did_you_mean("ab", ["abcd"], cutoff=0.7) == ""
