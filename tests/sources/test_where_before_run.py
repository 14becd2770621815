"""Conditions that choose nothing are refused before anything is extracted, as far as is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import here
from run_fixtures import config_text
from small_sources import RunConfig

MODELS = """
[models.a]
source = "hf"
path = "{sources}/first"

[models.b]
source = "hf"
path = "{sources}/second"

[[lens]]
models = ["a"]
"""


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("key", "where", "says"),
    [
        ("cka.map", '{kin="person"}', ": no column 'kin'; did you mean 'kind'?"),
        ("cka.map", '{kind="persn"}', "no sample has kind = 'persn'; did you mean 'person'?"),
        ("cka.map", '{kind="event"}', "no sample has kind = 'event'"),
        ("cka.map", '{kind={not="event"}}', "no sample has kind = 'event'"),
        ("cka.map", "{start='5'}", "found start against '5'; allowed: numbers"),
        ("cka.map", "{token=5}", "found token against 5; allowed: text, in quotes"),
        (
            "cka.map",
            '{kind="person", type="art-film"}',
            ": no sample fits kind = 'person' and type = 'art-film'; at least 4 are",
        ),
        ("cka.map", '{document="test:0"}', ": 3 samples fit document = 'test:0'; at least 4"),
        ("lens.0", '{kind="persn"}', ": no sample has kind = 'persn'"),
        ("lens.0", '{kind="art", type="person-actor"}', ": no sample fits kind = "),
    ],
)
def test_what_no_sample_meets_is_one_line_and_nothing_is_written(
    sources: Path, tmp_path: Path, command: str, key: str, where: str, says: str
) -> None:
    (tmp_path / "c.toml").write_text(config_text(sources, MODELS))
    given = [f"{key}.where={where}", "data.samples=72"]
    done = here(
        command, "c.toml", *(part for one in given for part in ("--set", one)), cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert says in line, line
    assert not (tmp_path / "run").exists()


def test_what_a_tokenizer_decides_is_left_to_the_run(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(config_text(sources, MODELS))
    said = here("check", "c.toml", "--set", "cka.map.where={token_index=999}", cwd=tmp_path)
    assert said.returncode == 0
    tokens = ["--set", "data.positions=all", "--set", 'cka.map.where={entity="no such"}']
    assert here("check", "c.toml", *tokens, cwd=tmp_path).returncode == 0
    tokens[-1] = 'cka.map.where={document="no such"}'
    said = here("check", "c.toml", *tokens, cwd=tmp_path)
    assert "no sample has document = 'no such'" in said.stderr


def test_imported_samples_are_looked_into(run: RunConfig, tmp_path: Path) -> None:
    np.savez(tmp_path / "h.npz", h1=np.random.default_rng(0).normal(size=(12, 4)))
    rows = [{"document": f"d{n}", "start": 0, "end": 3, "part": "ab"[n % 2]} for n in range(12)]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = """
[run]
dir = "run"
[models.h]
source = "activations"
path = "h.npz"
samples = "s.jsonl"
[[cka]]
name = "self"
y = "h"
x = "h"
batch_size = 6
where = { part = "c" }
"""
    (tmp_path / "c.toml").write_text(text)
    for command in ("check", "run"):
        said = here(command, "c.toml", cwd=tmp_path)
        assert said.returncode == 2
        assert "no sample has part = 'c'; there are: 'a', 'b'" in said.stderr
        assert not (tmp_path / "run").exists()
    said = here("check", "c.toml", "--set", "cka.self.where={parts='a'}", cwd=tmp_path)
    assert "did you mean 'part'? allowed: document, start, end, part" in said.stderr
    done = run(text.replace('"c"', '"a"'))
    assert done.cka["self"].n_samples == 6
    (tmp_path / "s.jsonl").unlink()  # what is copied is known without the files
    said = here("check", "c.toml", cwd=tmp_path)
    assert "no sample has part = 'c'; there are: 'a', 'b'" in said.stderr
