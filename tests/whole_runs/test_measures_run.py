"""Maps by every measure through the real command: check, run, info, export, browse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference_measures as reference
from command import here
from imported_models import HEAD, PER_DOCUMENT, N, write_states

from engramcka import MEASURES, open_run

OTHERS = [name for name, measure in MEASURES.items() if not measure.is_cka]


@pytest.fixture
def states(tmp_path: Path) -> dict[str, list[np.ndarray]]:
    return write_states(tmp_path)


def tables(names: list[str], more: str = "") -> str:
    return HEAD + "".join(
        f'\n[[map]]\ny = "y"\nx = "x"\nmeasure = "{name}"\n{more}' for name in names
    )


def test_every_measure_is_stored_drawn_and_shown(
    states: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text(tables(list(MEASURES), "permutations = 4\n"))
    checked = here("check", "c.toml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "map/x-vs-y.rsa" in checked.stdout.replace("map    ", "map/") or "map" in checked.stdout
    done = here("run", "c.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    assert sorted(run.cka) == ["x-vs-y", "x-vs-y.cka-rbf"]
    assert run.cka["x-vs-y.cka-rbf"].kernel == "rbf"
    assert sorted(run.map) == sorted(f"x-vs-y.{name}" for name in OTHERS)
    documents = np.arange(N) // PER_DOCUMENT
    second = {
        "rsa": reference.rsa,
        "procrustes": reference.procrustes,
        "mutual-knn": reference.mutual_knn,
        "cknna": reference.cknna,
        "svcca": reference.svcca,
        "pwcca": reference.pwcca,
    }
    for name in OTHERS:
        found = run.map[f"x-vs-y.{name}"]
        expected = [[second[name](y, x, documents) for x in states["x"]] for y in states["y"]]
        np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=1e-6)
        assert found.measure == name
        assert found.n_documents == N // PER_DOCUMENT
        assert found.ci_low is not None
        assert found.null is not None
        caption = (tmp_path / "run" / "figures" / f"map-x-vs-y.{name}.txt").read_text()
        known = MEASURES[name]
        sentence = f"{known.title} of the hidden states after each layer of Model Y (rows)"
        assert caption.startswith(sentence), caption
        assert f"{known.words}, from {known.range}" in caption.replace(
            known.words[0].upper() + known.words[1:], known.words
        )
        assert "95 % interval over documents" in caption
        assert (tmp_path / "run" / "figures" / f"map-x-vs-y.{name}.pdf").exists()
    assert (
        "10 neighbours, 0.086 by chance"
        in (tmp_path / "run" / "figures" / "map-x-vs-y.mutual-knn.txt").read_text()
    )
    again = here("run", "c.toml", cwd=tmp_path)
    assert "already done" in again.stdout or again.returncode == 0
    info = here("info", "run", cwd=tmp_path)
    assert "RSA of Model Y x Model X, 2 x 2 layers" in info.stdout, info.stdout
    for suffix in ("csv", "tex", "png"):
        out = here("export", "run", "--what", "map/x-vs-y.rsa", "-o", f"r.{suffix}", cwd=tmp_path)
        assert out.returncode == 0, out.stderr
    assert "RSA" in (tmp_path / "r.tex").read_text()
    less = ["--what", "map/x-vs-y.rsa", "--minus", "cka/x-vs-y", "-o", "d.csv"]
    assert here("export", "run", *less, cwd=tmp_path).returncode == 0
    shown = here("browse", "--once", "run/results.zarr/map/x-vs-y.mutual-knn", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "Mutual k-NN" in shown.stdout
    assert here("verify", "run", cwd=tmp_path).returncode == 0


def test_cka_by_either_table_is_one_map(
    states: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text(HEAD + '\n[[cka]]\ny = "y"\nx = "x"\nbatch_size = 40\n')
    for stage in ("extract", "cka"):
        assert here("run", "c.toml", "--only", stage, cwd=tmp_path).returncode == 0
    place = tmp_path / "run" / "results.zarr" / "cka" / "x-vs-y" / "zarr.json"
    before = place.stat().st_mtime_ns
    (tmp_path / "c.toml").write_text(tables(["cka"], "batch_size = 40\n"))
    done = here("run", "c.toml", "--only", "cka", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert place.stat().st_mtime_ns == before
    # The resolved config of a run is a config, whatever the measure.
    (tmp_path / "d.toml").write_text(tables(["svcca", "cknna"], "permutations = 0\n"))
    for stage in ("extract", "map"):
        done = here("run", "d.toml", "--set", 'run.dir="other"', "--only", stage, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert here("check", "other/config.toml", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('measure = "rsaa"', "did you mean 'rsa'"),
        ("", "measure: this key is missing"),
        ('measure = "rsa"\nk = 5', "k with measure = 'rsa'; it belongs to mutual-knn, cknna"),
        ('measure = "procrustes"\npairs = "all"', "pairs with measure = 'procrustes'; it belongs"),
        ('measure = "mutual-knn"\nbatch_size = 64', "batch_size with measure = 'mutual-knn'"),
        ('measure = "cka-rbf"\nestimator = "biased"', "'cka-rbf' needs estimator = 'minibatch'"),
        ('measure = "svcca"\nvariance = 2.0', "variance"),
        # The next ones are known when the states are.
        (
            'measure = "mutual-knn"\nk = 500',
            "c.toml, line 22, map[0].k: map x-vs-y.mutual-knn: 500 neighbours of each sample, but "
            "some sample has 112 others of other documents when one group is left out; take "
            "k = 112 or less",
        ),
        (
            'measure = "svcca"\nwhere = { start = 0, end = [1, 2], document = ["d1", "d2", "d3", '
            '"d4", "d5"] }',
            "line 21, map[0].measure: map x-vs-y.svcca: 5 samples; canonical correlations need 10 "
            "for every component that is compared, and 20 at least; take more samples",
        ),
        (
            'measure = "rsa"\nwhere = { document = "d1" }',
            "pairs: map x-vs-y.rsa: 4 samples of one document leave no pair",
        ),
        (
            'measure = "mutual-knn"\nwhere = { document = "d1" }',
            "pairs: map x-vs-y.mutual-knn: 4 samples of one document have no neighbours",
        ),
        (
            'measure = "cka"\nestimator = "debiased"\nwhere = { document = ["d1", "d2", "d3"] }',
            "pairs: cka x-vs-y: 12 samples are of 3 documents; pairs of different documents need",
        ),
        (
            'measure = "cka"\nwhere = { document = ["d1", "d2", "d3"] }',
            "pairs: cka x-vs-y: 12 samples are of 3 documents, 4 of one of them: batches of 4",
        ),
        ('measure = "rsa"\nname = "twice"\n[[cka]]\nname = "twice"\ny = "y"\nx = "x"', "a second"),
    ],
)
def test_what_cannot_be_is_one_line(
    states: dict[str, list[np.ndarray]], tmp_path: Path, table: str, says: str
) -> None:
    (tmp_path / "c.toml").write_text(HEAD + f'\n[[map]]\ny = "y"\nx = "x"\n{table}\n')
    done = here("run", "c.toml", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("engramcka: ")]
    assert len(lines) == 1, done.stderr
    assert says in lines[0], lines[0]
