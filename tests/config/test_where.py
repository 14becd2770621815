"""Conditions choose the rows that they say, and nothing that is not one is let through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engramcka.config import Config
from engramcka.config.where import parse_where
from engramcka.errors import ConfigError
from engramcka.pipeline.where import rows_where

TABLE = {
    "type": np.array(["person-actor", "art-film", "person-actor", "event-attack/war", "a b"]),
    "kind": np.array(["person", "art", "person", "event", "it's"]),
    "start": np.array([0, 5, 7, 5, 9]),
}
CONFIG = Config.model_validate({"run": {"dir": "r"}})


def rows(where: str) -> list[int]:
    return rows_where(CONFIG, ("cka", 0, "where"), where, [TABLE])[0].tolist()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("type = 'person-actor'", [0, 2]),
        ("type != 'person-actor'", [1, 3, 4]),
        ("type in ('art-film', 'event-attack/war')", [1, 3]),
        ("kind not in ('person')", [1, 3, 4]),
        ('kind = "it\'s"', [4]),
        ("start = 5 and kind = 'art'", [1]),
        ("start = 0 or start = 5 and kind = 'event'", [0, 3]),
        ("(start = 0 or start = 5) and kind = 'event'", [3]),
    ],
)
def test_the_rows_chosen(where: str, expected: list[int]) -> None:
    assert rows(where) == expected


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("type", "found the end in place of =, !=, in or not in"),
        ("type == 'x'", "found = in place of a value"),
        ("'x' = type", "found 'x' in place of a column"),
        ("type = person", "found person in place of a value in quotes"),
        ("type = 'x' kind = 'y'", "found kind in place of 'and', 'or' or the end"),
        ("(type = 'x'", "found the end in place of '\\)'"),
        ("type in 'x'", "found 'x' in place of '\\('"),
        ("__import__('os').system('x')", "cannot read"),
        ("system('x')", "found \\( in place of ="),
        ("type = 'x'; drop", "cannot read '; drop'"),
        ("start = 5and kind = 'art'", 'cannot read "5and'),
        ("and = 'x'", "found and in place of a column"),
    ],
)
def test_what_is_no_condition_says_what_was_found(where: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_where(where)


@given(st.text(max_size=40))
def test_any_text_is_a_condition_or_one_line(text: str) -> None:
    try:
        condition = parse_where(text)
    except ValueError:
        return
    assert list(condition.tests())


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("typ = 'art-film'", "no column 'typ'; did you mean 'type'? allowed: type, kind, start"),
        ("type = 'person-acter'", "did you mean 'person-actor'? there are: 'a b', 'art-film'"),
        ("type not in ('film')", "no sample has type = 'film'"),
        ("start = '5'", "found start against '5'; allowed: numbers"),
        ("kind = 5", "found kind against 5; allowed: text, in quotes"),
    ],
)
def test_a_column_or_value_that_is_not_there_is_one_line(where: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        rows(where)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
