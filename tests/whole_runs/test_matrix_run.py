"""`[[matrix]]` through the real command: every pair is a map, all together a result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import here
from imported_models import HEAD, N, write_states
from test_robustness_run import done

from engramcka import open_run
from engramcka.config import load_config
from engramcka.results import PairScore

MORE = """
[models.z]
source = "activations"
path = "z.npz"
samples = "samples.jsonl"
"""
TABLE = """
[[matrix]]
models = ["y", "x", "z"]
batch_size = 40
"""
MAPS = ("cka/x-vs-y.of-cka", "cka/z-vs-y.of-cka", "cka/z-vs-x.of-cka")


def write(folder: Path, table: str = TABLE) -> None:
    """Three models, the third near to x, and a config."""
    x = write_states(folder)["x"]
    rng = np.random.default_rng(1)
    noisy = {f"layer_{i + 1}": a + 0.5 * rng.standard_normal(a.shape) for i, a in enumerate(x)}
    np.savez(folder / "z.npz", **noisy)
    (folder / "c.toml").write_text(HEAD + MORE + table)


def test_every_pair_is_a_map_and_the_matrix_a_result(tmp_path: Path) -> None:
    write(tmp_path)
    checked = here("check", "c.toml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "matrix" in checked.stdout
    ran = here("run", "c.toml", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "matrix/cka" in ran.stdout
    assert "cka/x-vs-y.of-cka" not in ran.stdout.split("tasks done")[1]  # it sums these up
    run = open_run(tmp_path / "run")
    found = run.matrix["cka"]
    assert (found.models, found.labels) == (("y", "x", "z"), ("Model Y", "Model X", "z"))
    assert found.maps == MAPS
    assert (set(found.samples), found.interval_over) == ({N}, "documents")
    for (i, j), source in zip(found.pairs, MAPS, strict=True):
        one = run.cka[source.removeprefix("cka/")]
        assert one.part_of == "matrix/cka"
        assert (one.y_label, one.x_label) == (found.labels[i], found.labels[j])
        score = PairScore.of(one)
        assert found.similarity[i, j] == found.similarity[j, i] == score.value
        np.testing.assert_array_equal(found.jackknife[:, i, j], score.without)
    assert found.similarity[1, 2] > 0.9
    assert "most alike Model X and z, 0.9" in found.summary()
    assert "least alike Model Y and " in found.summary()
    assert run.parts == {tuple(source.split("/")) for source in MAPS}
    drawn = sorted(path.name for path in (tmp_path / "run" / "figures").iterdir())
    assert drawn == [f"matrix-cka.{suffix}" for suffix in ("pdf", "png", "txt")]
    info = here("info", "run", cwd=tmp_path)
    assert "matrix/cka" in info.stdout
    assert "cka/z-vs-x.of-cka" in info.stdout
    for what in ("matrix/cka", "cka/z-vs-x.of-cka"):
        for suffix in ("png", "csv", "tex"):
            out = here("export", "run", "--what", what, "-o", f"m.{suffix}", cwd=tmp_path)
            assert out.returncode == 0, out.stderr
    shown = here("browse", "--once", "run", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "matrix/cka" in shown.stdout.splitlines()[0]
    assert here("verify", "run", cwd=tmp_path).returncode == 0
    resolved = load_config(tmp_path / "run" / "config.toml")
    assert resolved.to_dict() == load_config(tmp_path / "c.toml").to_dict()


def test_a_stopped_run_does_nothing_twice_and_only_what_changes_is_made_again(
    tmp_path: Path,
) -> None:
    write(tmp_path)
    for stage in ("extract", "cka"):
        only = here("run", "c.toml", "--only", stage, cwd=tmp_path)
        assert only.returncode == 0, only.stderr
    before = done(tmp_path / "run")
    assert before[3:] == list(MAPS)
    shutil.rmtree(tmp_path / "run" / "results.zarr" / "cka" / "z-vs-y.of-cka")
    assert here("run", "c.toml", cwd=tmp_path).returncode == 0
    assert done(tmp_path / "run")[6:] == [MAPS[1], "matrix/cka", "figures/all"]
    assert here("run", "c.toml", cwd=tmp_path).returncode == 0
    assert len(done(tmp_path / "run")) == 9
    more = ["--set", 'matrix.0.score="same-depth"']
    assert here("run", "c.toml", *more, cwd=tmp_path).returncode == 0
    assert done(tmp_path / "run")[9:] == ["matrix/cka", "figures/all"]
    run = open_run(tmp_path / "run")
    diagonal = np.diag(run.cka["z-vs-x.of-cka"].similarity).mean()
    assert run.matrix["cka"].similarity[1, 2] == pytest.approx(diagonal)


def test_a_map_of_a_table_of_its_own_is_the_pairs(tmp_path: Path) -> None:
    own = '[[cka]]\nname = "own"\ny = "x"\nx = "y"\nbatch_size = 40\npermutations = 3\n'
    write(tmp_path, own + TABLE)
    assert here("run", "c.toml", cwd=tmp_path).returncode == 0
    run = open_run(tmp_path / "run")
    assert run.matrix["cka"].maps == ("cka/own", *MAPS[1:])
    assert "x-vs-y.of-cka" not in run.cka
    assert run.matrix["cka"].similarity[0, 1] == PairScore.of(run.cka["own"]).value
    assert ("cka", "own") not in run.parts
    drawn = {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    assert drawn == {"cka-own", "matrix-cka"}


@pytest.mark.parametrize(
    ("table", "code", "says"),
    [
        ('models = ["y", "x", "zz"]', 2, "c.toml, line 24, matrix[0].models: no model 'zz'; did"),
        (TABLE[12:] + "where = { nothing = 1 }", 2, "where.nothing: no column 'nothing'; allowed"),
        # What only the states show:
        (
            TABLE[12:].replace("batch_size = 40", 'measure = "mutual-knn"\nk = 500'),
            2,
            "line 26, matrix[0].k: map x-vs-y.of-mutual-knn: 500 neighbours of each sample",
        ),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, table: str, code: int, says: str) -> None:
    write(tmp_path, f"\n[[matrix]]\n{table}\n")
    ran = here("run", "c.toml", cwd=tmp_path)
    assert ran.returncode == code, ran.stderr
    lines = [line for line in ran.stderr.splitlines() if line.startswith("engramcka: ")]
    assert len(lines) == 1, ran.stderr
    assert says in lines[0], lines[0]


def test_models_of_other_samples_are_refused_at_their_key(tmp_path: Path) -> None:
    write(tmp_path)
    rows = (tmp_path / "samples.jsonl").read_text().splitlines()
    moved = [
        json.dumps({**json.loads(row), "document": f"other {i}"}) for i, row in enumerate(rows)
    ]
    (tmp_path / "other.jsonl").write_text("\n".join(moved))
    text = (tmp_path / "c.toml").read_text()
    at = text.index("[models.z]")
    (tmp_path / "c.toml").write_text(text[:at] + text[at:].replace("samples.jsonl", "other.jsonl"))
    ran = here("run", "c.toml", cwd=tmp_path)
    assert ran.returncode == 2, ran.stderr
    assert "matrix[0].models: cka z-vs-y.of-cka: y and z share 0 samples" in ran.stderr
