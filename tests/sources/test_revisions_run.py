"""Revisions of a model on a hub as a series: listed, ordered, compared; and without a hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command import ENVIRONMENT
from fake_hub import serving
from run_fixtures import config_text, refusal
from small_sources import RunConfig, save_tiny_llama

from engramcka.pipeline.sources.revisions import step_of
from engramcka.stores import open_run

MODELS = """
[models.a]
source = "hf"
path = "{sources}/first"

[models.b]
source = "hf"
path = "org/tiny"
revision = "step*"
"""


SEVERAL = """
import json, sys
from pathlib import Path
from command import here

for arguments in json.loads(sys.argv[1]):
    done = here(*arguments, cwd=Path.cwd())
    print(json.dumps([done.returncode, done.stdout, done.stderr]))
"""


def commands(
    *each: str, cwd: Path, url: str, offline: bool = False
) -> Iterator[tuple[int, str, str]]:
    """Code, output and errors of commands, done by one process whose hub is at that address."""
    environment = {**ENVIRONMENT, "HF_ENDPOINT": url, "HF_HOME": str(cwd / "home")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, sys.path))
    if not offline:
        environment.pop("HF_HUB_OFFLINE")
    arguments = json.dumps([one.split(" ") for one in each])
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        yield tuple(json.loads(line))


def test_a_glob_over_branches_is_a_series_by_number(
    sources: Path, run: RunConfig, tmp_path: Path
) -> None:
    steps = {"step5": 5, "step100-tokens2B": 100, "step20": 20}
    for name, step in steps.items():
        save_tiny_llama(tmp_path / "hub" / name, seed=step)
    (tmp_path / "c.toml").write_text(config_text(sources, MODELS))
    with serving(tmp_path / "hub", ["main", "step5", "step100-tokens2B"], ["step20", "v1"]) as hub:
        checked, made, again, no_match, no_number = commands(
            "check c.toml",
            "run c.toml",
            "run c.toml",
            "check c.toml --set models.b.revision=stage*",
            'check c.toml --set models.b.revision=["step*","main"]',
            cwd=tmp_path,
            url=hub.url,
        )
        assert hub.asked.count("/api/models/org/tiny/refs") == 1
    words = "models.b: 3 checkpoints, by step: step5, step20, step100-tokens2B"
    assert words in " ".join(checked[1].split()), checked
    assert (checked[0], made[0]) == (0, 0), made
    assert "nothing to do, all 8 tasks are done" in again[1]
    assert (no_match[0], no_number[0]) == (2, 2)
    assert (
        "no branch or tag of 'org/tiny' matches 'stage*'; there are: 'main', 'step5', "
        "'step100-tokens2B', 'step20', 'v1'"
    ) in no_match[2]
    assert "main has no number; a series is sorted by the number" in no_number[2]
    done = open_run(tmp_path / "run")
    assert done.models == ["a", "b.step-000005", "b.step-000020", "b.step-000100"]
    assert {name: (cka.series, cka.step) for name, cka in done.cka.items()} == {
        "map": ("map", 100),
        "map.step-000005": ("map", 5),
        "map.step-000020": ("map", 20),
    }
    for name, step in steps.items():
        store = done.activations(f"b.step-{step:06}")
        assert store.attributes["model"]["revision"] == name
    local = MODELS.replace('"org/tiny"', '"hub/*"').replace('revision = "step*"\n', "")
    for name, cka in run(config_text(sources, local), "run.dir=local").cka.items():
        np.testing.assert_array_equal(cka.similarity, done.cka[name].similarity)
    # Without the hub one line names what is cached, and what is named in a list is read from there.
    by_name = 'models.b.revision=["step100-tokens2B","step5"]'
    (refused,) = commands("check c.toml", cwd=tmp_path, url=hub.url)
    offline, named = commands(
        "run c.toml",
        f"run c.toml --set {by_name} --set run.dir=named",
        cwd=tmp_path,
        url=hub.url,
        offline=True,
    )
    for (code, _, errors), reason in ((refused, "refused"), (offline, "HF_HUB_OFFLINE is set")):
        (line,) = errors.splitlines()
        assert code == 2
        assert "c.toml, line 19, models.b.revision: the branches of 'org/tiny' cannot be" in line
        assert reason in line
        assert "cached here: 'step5', 'step20', 'step100-tokens2B'" in line
    assert named[0] == 0, named
    assert [cka.step for cka in open_run(tmp_path / "named").cka.values()] == [100, 5]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step1000", 1000),
        ("step-000025", 25),
        ("stage1-step143000-tokens601B", 143000),
        ("checkpoint-500", 500),
        ("v2-epoch-3", 3),
        ("Step_7", 7),
        ("main", None),
        ("e7da7f221d5bf496a48136c0cd264e630fe9fcc8", None),
    ],
)
def test_the_step_that_a_name_tells(name: str, step: int | None) -> None:
    assert step_of(name) == step


@pytest.mark.parametrize(
    ("path", "revision", "says"),
    [
        ("{sources}/first", '"step1"', "models.b.revision: found 'step1', and path = "),
        ("{sources}/first", '["step1", "step2"]', "of local checkpoints path names each"),
        ("{sources}/first", '"step*"', "is a local one"),
        ("{sources}/*", '"step*"', "a glob in path and several revisions are two series"),
        ("org/tiny", "[]", "revision = [] names no checkpoint"),
        ("org/tiny", '["step1", "x-step1"]', "x-step1 has the number of step1"),
        ("org/tiny", f'["{"a1" * 20}", "step1"]', f"{'a1' * 20} has no number"),
    ],
)
def test_revisions_that_make_no_series_are_one_line(
    sources: Path, tmp_path: Path, path: str, revision: str, says: str
) -> None:
    models = MODELS.replace('"org/tiny"', f'"{path}"').replace('"step*"', revision)
    assert says in refusal(tmp_path, config_text(sources, models))
