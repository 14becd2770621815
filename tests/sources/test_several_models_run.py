"""Lists of models in one ``[[cka]]``: the maps that they make, their names, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from run_fixtures import config_text, refusal
from small_sources import RunConfig

from engramcka.config import load_config
from engramcka.figures.subjects import subjects

MODELS = "".join(
    f"""
[models.{name}]
source = "hf"
path = "{{sources}}/{folder}"
label = "{name.upper()}"
"""
    for name, folder in (("a", "first"), ("b", "second"), ("c", "first"))
)
LISTS = """
[[cka]]
x = ["a", "b", "c"]
batch_size = 20

[[cka]]
name = "people"
y = "c"
x = ["a", "b"]
batch_size = 20
where = {{ kind = "person" }}

[[cka]]
y = "b"
x = "b"
batch_size = 20

[[cka]]
name = "one"
y = "a"
x = "b"
batch_size = 20
"""


def test_lists_make_every_pair_once_with_one_store_a_model(sources: Path, run: RunConfig) -> None:
    done = run(config_text(sources, MODELS, cka=LISTS), "data.samples=72")
    assert done.models == ["a", "b", "c"]
    assert {name: (cka.y_label, cka.x_label) for name, cka in done.cka.items()} == {
        "b-vs-a": ("A", "B"),
        "c-vs-a": ("A", "C"),
        "c-vs-b": ("B", "C"),
        "a-vs-c.people": ("C", "A"),
        "b-vs-c.people": ("C", "B"),
        "b-vs-b": ("B", "B"),
        "one": ("A", "B"),
    }
    np.testing.assert_array_equal(done.cka["b-vs-a"].similarity, done.cka["one"].similarity)
    assert np.diag(done.cka["c-vs-a"].similarity) == pytest.approx([1.0] * 3, abs=1e-6)
    assert done.cka["a-vs-c.people"].where == "kind = 'person'"
    assert [name for _, name in subjects(done)["maps"].sources] == [
        "b-vs-a", "one", "c-vs-a", "b-vs-b", "c-vs-b", "a-vs-c.people", "b-vs-c.people",
    ]  # fmt: skip


def names(tmp_path: Path, cka: str) -> list[tuple[str, str, str]]:
    models = "".join(f'[models.{name}]\nsource = "train"\n' for name in "abc")
    (tmp_path / "c.toml").write_text(f'[run]\ndir = "run"\n{models}[[cka]]\n{cka}')
    (table,) = load_config(tmp_path / "c.toml").cka
    return [(one.name, one.y, one.x) for one in table.maps]


@pytest.mark.parametrize(
    ("cka", "expected"),
    [
        ('y = "a"\nx = "b"', [("b-vs-a", "a", "b")]),
        ('y = "a"\nx = ["b"]\nname = "n"', [("b-vs-a.n", "a", "b")]),
        ('y = ["a", "b"]\nx = "c"', [("c-vs-a", "a", "c"), ("c-vs-b", "b", "c")]),
        ('y = "b"\nx = ["a", "b", "c"]', [("a-vs-b", "b", "a"), ("c-vs-b", "b", "c")]),
        ('y = ["a", "b"]\nx = ["b", "a"]', [("b-vs-a", "a", "b")]),
        ('x = ["c", "a"]', [("a-vs-c", "c", "a")]),
    ],
)
def test_the_maps_of_a_table(
    tmp_path: Path, cka: str, expected: list[tuple[str, str, str]]
) -> None:
    assert names(tmp_path, cka) == expected


@pytest.mark.parametrize(
    ("cka", "words"),
    [
        ('x = "a"', ["cka[0]", "y is missing", "the model on the rows"]),
        ('x = ["a"]', ["cka[0]", "leave no pair of two models"]),
        ("x = []", ["cka[0]", "leave no pair of two models"]),
        ('y = "a"\nx = ["b", "d"]', ["cka[0].x", "no model 'd'", "allowed: 'a', 'b', 'c'"]),
        ('y = ["a", "a"]\nx = "b"', ["cka[0].y", "'a' is there twice"]),
        ('y = "a"\nx = 3', ["cka[0].x", "found 3"]),
        (
            'x = ["a", "b"]\n[[cka]]\ny = "a"\nx = ["b", "c"]',
            ["cka[1].x", "a second cka named 'b-vs-a'", "another name"],
        ),
        (
            f'x = ["a", "b"]\nname = "{"n" * 96}"',
            ["cka[0].name", "a map would be called 'b-vs-a.nnn", "at most 100"],
        ),
    ],
)
def test_lists_that_make_no_maps_are_refused(tmp_path: Path, cka: str, words: list[str]) -> None:
    models = "".join(f'[models.{name}]\nsource = "train"\n' for name in "abc")
    line = refusal(tmp_path, f'[run]\ndir = "run"\n{models}[[cka]]\n{cka}')
    assert all(word in line for word in words), line
