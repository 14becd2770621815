"""`[[robustness]]` through the real command: every way is a map, all together a result."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from command import here
from imported_models import HEAD, write_states

from engramcka import open_run
from engramcka.config import load_config

TABLE = """
[[robustness]]
y = "y"
x = "x"
measures = ["cka", "cka-rbf", "rsa", "mutual-knn"]
estimators = ["minibatch", "debiased"]
normalize = ["none"]
standardize = ["none", "zscore"]
batch_size = 40
layer = 2
"""
WAYS = {
    "CKA": "cka/x-vs-y.by-cka",
    "CKA, debiased": "cka/x-vs-y.by-cka.estimator-debiased",
    "CKA, z-scored": "cka/x-vs-y.by-cka.standardize-zscore",
    "CKA, no massive samples": "cka/x-vs-y.by-cka.massive-drop",
    "CKA (RBF)": "cka/x-vs-y.by-cka-rbf",
    "RSA": "map/x-vs-y.by-rsa",
    "Mutual k-NN": "map/x-vs-y.by-mutual-knn",
}


def done(run: Path) -> list[str]:
    """STAGE/NAME of all tasks that were ever done, in order."""
    events = [event for event in open_run(run).log() if event["event"] == "done"]
    return [f"{event['stage']}/{event['name']}" for event in events]


def test_every_way_is_a_map_and_what_they_say_together_a_result(tmp_path: Path) -> None:
    write_states(tmp_path)
    (tmp_path / "c.toml").write_text(HEAD + TABLE)
    checked = here("check", "c.toml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "robustness" in checked.stdout
    ran = here("run", "c.toml", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "robustness/x-vs-y" in ran.stdout
    assert "cka/x-vs-y.by-cka" not in ran.stdout.split("tasks done")[1]  # it sums these up
    run = open_run(tmp_path / "run")
    found = run.robustness["x-vs-y"]
    assert dict(zip(found.ways, found.maps, strict=True)) == WAYS
    for way, source in enumerate(found.maps):
        kind, name = source.split("/")
        one = run.results(kind)[name]
        assert one.part_of == "robustness/x-vs-y"
        np.testing.assert_array_equal(found.alignment[way], one.soft_alignment())
        assert str(found.shift[way]) == str(one.depth_shift().shift)
    assert run.cka["x-vs-y.by-cka.standardize-zscore"].standardize == "zscore"
    assert run.cka["x-vs-y.by-cka-rbf"].kernel == "rbf"
    drawn = sorted(path.name for path in (tmp_path / "run" / "figures").iterdir())
    assert drawn == [f"robustness-x-vs-y.{suffix}" for suffix in ("pdf", "png", "txt")]
    info = here("info", "run", cwd=tmp_path)
    assert "map/x-vs-y.by-rsa" in info.stdout
    for what in ("robustness/x-vs-y", "map/x-vs-y.by-rsa"):
        for suffix in ("png", "csv", "tex"):
            out = here("export", "run", "--what", what, "-o", f"r.{suffix}", cwd=tmp_path)
            assert out.returncode == 0, out.stderr
    shown = here("browse", "--once", "run/results.zarr/robustness/x-vs-y", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "CKA, z-scored" in shown.stdout
    assert here("verify", "run", cwd=tmp_path).returncode == 0
    # The config that the run wrote is the same one.
    resolved = load_config(tmp_path / "run" / "config.toml")
    assert resolved.to_dict() == load_config(tmp_path / "c.toml").to_dict()


def test_only_what_has_changed_is_made_again(tmp_path: Path) -> None:
    write_states(tmp_path)
    (tmp_path / "c.toml").write_text(HEAD + TABLE)
    assert here("run", "c.toml", cwd=tmp_path).returncode == 0
    before = done(tmp_path / "run")
    assert before[2:-1] == [*WAYS.values(), "robustness/x-vs-y"]
    assert here("run", "c.toml", cwd=tmp_path).returncode == 0
    assert done(tmp_path / "run") == before
    shutil.rmtree(tmp_path / "run" / "results.zarr" / "map" / "x-vs-y.by-rsa")
    assert here("run", "c.toml", cwd=tmp_path).returncode == 0
    assert done(tmp_path / "run")[len(before) :] == ["map/x-vs-y.by-rsa"]
    more = ["--set", 'robustness.0.massive=["keep"]', "--set", "robustness.0.k=5"]
    assert here("run", "c.toml", *more, cwd=tmp_path).returncode == 0
    again = done(tmp_path / "run")[len(before) + 1 :]
    assert again == ["map/x-vs-y.by-mutual-knn", "robustness/x-vs-y", "figures/all"]
    assert len(open_run(tmp_path / "run").robustness["x-vs-y"].ways) == 6


def test_a_map_of_a_table_of_its_own_is_the_way(tmp_path: Path) -> None:
    write_states(tmp_path)
    own = (
        '[[cka]]\nname = "own"\ny = "y"\nx = "x"\nestimator = "debiased"\npermutations = 3\n'
        '[[map]]\ny = "y"\nx = "x"\nmeasure = "mutual-knn"\nk = 7\n'
    )
    (tmp_path / "c.toml").write_text(HEAD + own + TABLE)
    assert here("run", "c.toml", cwd=tmp_path).returncode == 0
    run = open_run(tmp_path / "run")
    found = run.robustness["x-vs-y"]
    # One with another k is another map.
    assert dict(zip(found.ways, found.maps, strict=True)) == {**WAYS, "CKA, debiased": "cka/own"}
    assert "x-vs-y.by-cka.estimator-debiased" not in run.cka
    assert run.cka["own"].part_of == ""
    assert ("cka", "own") not in run.parts
    assert len(run.parts) == 6
    drawn = {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    assert drawn == {"cka-own", "map-x-vs-y.mutual-knn", "robustness-x-vs-y"}


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("measures = []", "robustness[0].measures: found []; allowed: a list of at least 1 entry"),
        ('measures = ["cka", "rsaa"]', "robustness[0].measures[1]: found 'rsaa'; did you mean"),
        ('measures = ["rsa", "rsa"]', "'rsa' is there twice among the values of measure"),
        (
            'measures = ["rsa"]\nnormalize = ["rms"]\nstandardize = ["none"]\nmassive = ["keep"]',
            "the lists leave one way of comparing: that is a map",
        ),
        ('z = "y"', "robustness[0].z: unknown key"),
        ('name = "a"\n[[robustness]]\nname = "a"\ny = "x"\nx = "y"', "a second robustness named"),
        (
            '[[map]]\nname = "x-vs-y.by-rsa"\ny = "y"\nx = "x"\nmeasure = "procrustes"',
            "robustness[0].name: a second map named 'x-vs-y.by-rsa'; give this table another name",
        ),
        (
            "where = { nothing = 1 }",
            "robustness[0].where.nothing: no column 'nothing'; allowed: doc",
        ),
        # What only the states show:
        (
            "layer = 3",
            "c.toml, line 21, robustness[0].layer: Model X has no layer 3; allowed: 1 to",
        ),
        (
            "k = 500\nmeasures = ['mutual-knn', 'cknna']",
            "line 21, robustness[0].k: map x-vs-y.by-mutual-knn: 500 neighbours of each sample",
        ),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, table: str, says: str) -> None:
    write_states(tmp_path)
    (tmp_path / "c.toml").write_text(HEAD + f'\n[[robustness]]\ny = "y"\nx = "x"\n{table}\n')
    ran = here("run", "c.toml", cwd=tmp_path)
    assert ran.returncode == 2, ran.stderr
    lines = [line for line in ran.stderr.splitlines() if line.startswith("engramcka: ")]
    assert len(lines) == 1, ran.stderr
    assert says in lines[0], lines[0]


def test_a_missing_model_is_named_at_its_key(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(HEAD + '\n[[robustness]]\ny = "yy"\nx = "x"\n')
    ran = here("check", "c.toml", cwd=tmp_path)
    assert ran.returncode == 2
    assert "c.toml, line 19, robustness[0].y: no model 'yy'" in ran.stderr
