"""Conditions choose the rows that they say, and nothing that is not one is let through."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engramcka.config import Config, dump_config, load_config
from engramcka.config.analysis_tables import column_tests, conditions_of, where_text
from engramcka.errors import ConfigError
from engramcka.pipeline.where import rows_where

TABLE = {
    "type": np.array(["person-actor", "art-film", "person-actor", "event-attack/war", "a b"]),
    "kind": np.array(["person", "art", "person", "event", "it's"]),
    "start": np.array([0, 5, 7, 5, 9]),
}
CONFIG = Config.model_validate({"run": {"dir": "r"}})
HEAD = """
[run]
dir = "r"
[models.a]
source = "hf"
path = "a"
[[cka]]
name = "m"
y = "a"
x = "a"
"""


def rows(where: str) -> list[int]:
    found = tomllib.loads(f"where = {where}")["where"]
    return rows_where(CONFIG, ("cka", 0, "where"), found, [TABLE])[0].tolist()


@pytest.mark.parametrize(
    ("where", "expected", "text"),
    [
        ("{}", [0, 1, 2, 3, 4], ""),
        ('{ type = "person-actor" }', [0, 2], "type = 'person-actor'"),
        ('{ type = { not = "person-actor" } }', [1, 3, 4], "type != 'person-actor'"),
        ('{ type = ["art-film", "a b"] }', [1, 4], "type in ('art-film', 'a b')"),
        ('{ kind = { not = ["person"] } }', [1, 3, 4], "kind != 'person'"),
        ('{ kind = { not = ["person", "art"] } }', [3, 4], "kind not in ('person', 'art')"),
        ('{ kind = "it\'s" }', [4], 'kind = "it\'s"'),
        ('{ start = 5, kind = "art" }', [1], "kind = 'art' and start = 5"),
        ('{ start = [0, 5], kind = "event" }', [3], "kind = 'event' and start in (0, 5)"),
    ],
)
def test_the_rows_chosen_and_the_text_they_are_stored_under(
    where: str, expected: list[int], text: str
) -> None:
    assert rows(where) == expected
    table = tomllib.loads(f"where = {where}")["where"]
    assert where_text(table) == text
    assert conditions_of(text) == sorted(column_tests(table), key=lambda test: test.column)


values = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z_]\w{0,5}", fullmatch=True),
        values | st.lists(values, min_size=1, max_size=3),
        max_size=3,
    ),
    st.booleans(),
)
def test_the_text_gives_the_conditions_again(where: dict[str, Any], negated: bool) -> None:
    if negated:
        where = {column: {"not": value} for column, value in where.items()}
    found = sorted(column_tests(where), key=lambda test: test.column)
    assert conditions_of(where_text(where)) == found


@pytest.mark.parametrize(
    "text",
    ["kind", "kind = ", "kind = a b", "kind in ('a')", "kind = x()", "a = 1.2.3", "a = 1 and "],
)
def test_a_text_that_no_conditions_made_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="which is no condition"):
        conditions_of(text)


def test_rows_of_a_store_s_own_strings() -> None:
    table = {"kind": np.array(["a", "b", "a"], dtype=np.dtypes.StringDType())}
    (found,) = rows_where(CONFIG, ("cka", 0, "where"), {"kind": ["a"]}, [table])
    assert found.tolist() == [0, 2]


def config_with(folder: Path, where: str) -> Config:
    path = folder / "c.toml"
    path.write_text(HEAD + where + "\n")
    return load_config(path)


@pytest.mark.parametrize(
    ("where", "line", "says"),
    [
        ("where = { kind = true }", 11, "cka[0].where: found kind = True; allowed: COLUMN ="),
        ("where = { kind = [] }", 11, "found kind = []; allowed: COLUMN ="),
        ("where = { kind = { no = 'a' } }", 11, "found kind = {'no': 'a'}; allowed: COLUMN ="),
        ("where = { kind = { not = { not = 'a' } } }", 11, "found kind = {'not': {'not': 'a'}}; "),
        ("where = { 'a b' = 1 }", 11, "found a b = 1; allowed: COLUMN ="),
        ("where = 5", 11, "cka[0].where: found 5; a condition is a table, as where = {"),
        (
            "where = \"kind = 'person'\"",
            11,
            "cka[0].where: found \"kind = 'person'\"; a condition is a table, as "
            'where = { kind = "person", type = ["person-actor", "person-soldier"] } or '
            'where = { kind = { not = "other" } }',
        ),
    ],
)
def test_what_is_no_condition_is_one_line(tmp_path: Path, where: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        config_with(tmp_path, where)
    assert f"c.toml, line {line}, " in str(error.value)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "where", ["", 'where = ""', "where = { kind = 'a', type = { not = ['b', 'c'] }, start = 2 }"]
)
def test_a_condition_survives_a_round_trip(tmp_path: Path, where: str) -> None:
    config = config_with(tmp_path, where)
    (tmp_path / "again.toml").write_text(dump_config(config))
    again = load_config(tmp_path / "again.toml").cka[0].where
    assert again == config.cka[0].where
    assert bool(again) == ("kind" in where)


conditions = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("not"), inner),
)


@given(st.dictionaries(st.text(max_size=5), conditions, max_size=3))
def test_any_table_is_conditions_or_one_line(where: dict[str, Any]) -> None:
    try:
        tests = column_tests(where)
    except ValueError:
        return
    assert len(tests) == len(where)
    assert where_text(where).isprintable()


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (
            '{ typ = "art-film" }',
            "cka[0].where.typ: no column 'typ'; did you mean 'type'? allowed: type, kind, start",
        ),
        ('{ type = "person-acter" }', "did you mean 'person-actor'? there are: 'a b', 'art-film'"),
        ('{ type = { not = "film" } }', "no sample has type = 'film'"),
        ("{ start = 6 }", "no sample has start = 6; there are: 0, "),
        ('{ start = "5" }', "found start against '5'; allowed: numbers"),
        ("{ kind = 5 }", "found kind against 5; allowed: text, in quotes"),
    ],
)
def test_a_column_or_value_that_is_not_there_is_one_line(where: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        rows(where)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
