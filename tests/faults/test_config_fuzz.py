"""Configs mutated at random: accepted, or refused in one line; nothing is written."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engramcka.config import load_config
from engramcka.errors import EngramckaError
from engramcka.pipeline import make_plan

SAMPLES = Path(__file__).parents[2] / "sample_configs"
BASES = {path.name: tomllib.loads(path.read_text()) for path in sorted(SAMPLES.glob("*.toml"))}

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**30]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "../../etc/passwd", "\x1b[31m", "a/b", "nan", "$(x)", "é" * 300, "."]),
    st.lists(st.integers(-2, 9), max_size=4),
    st.dictionaries(st.text(min_size=1, max_size=5), st.integers(), max_size=3),
    st.lists(st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=3)), max_size=2),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a config that can be changed."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inside in value.items():
            found += places(inside, (*path, key))
    elif isinstance(value, list):
        for index, inside in enumerate(value):
            found += places(inside, (*path, index))
    return found


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A sample config with one to three things changed, deleted or added, as TOML."""
    config = tomllib.loads(tomli_w.dumps(BASES[draw(st.sampled_from(sorted(BASES)))]))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(config)))
        table = config
        for key in path[:-1]:
            table = table[key]
        action = draw(st.sampled_from(["set", "delete", "add", "rename"]))
        value = draw(VALUES)
        if action == "set" and value is not None:
            table[path[-1]] = value
        elif action == "add" and isinstance(table[path[-1]], dict) and value is not None:
            table[path[-1]][draw(st.text(max_size=8))] = value
        elif action == "rename" and isinstance(table, dict):
            table[draw(st.text(max_size=8))] = table.pop(path[-1])
        else:
            del table[path[-1]]
        if not places(config):
            break
    return tomli_w.dumps(config)


@st.composite
def torn(draw: st.DrawFn) -> bytes:
    """The text of a sample config with bytes replaced, cut or inserted."""
    name = draw(st.sampled_from(sorted(BASES)))
    text = bytearray((SAMPLES / name).read_bytes())
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(text) - 1)))
        text[start : start + draw(st.integers(0, 30))] = draw(st.binary(max_size=6))
    return bytes(text)


def verdict(folder: Path, content: bytes) -> None:
    """Load a config and plan it, as `run` does before it writes anything."""
    path = folder / "config.toml"
    path.write_bytes(content)
    before = sorted(folder.rglob("*"))
    here = Path.cwd()
    os.chdir(folder)
    refused: EngramckaError | None = None
    try:
        make_plan(load_config(path, []))
    except EngramckaError as error:
        refused = error
    finally:
        os.chdir(here)
    if refused is not None:
        assert refused.exit_code == 2, str(refused)
        assert str(refused).strip()
        assert "\n" not in str(refused)
    assert sorted(folder.rglob("*")) == before


MANY = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@MANY
@given(content=mutated())
def test_changed_values(folder: Path, content: str) -> None:
    verdict(folder, content.encode())


@MANY
@given(content=torn())
def test_torn_text(folder: Path, content: bytes) -> None:
    verdict(folder, content)
