"""Which tasks a `[[robustness]]` table makes, before anything runs."""

from pathlib import Path

import pytest

from engramcka.config import Config, load_config
from engramcka.pipeline.plan import make_plan

HEAD = """
[run]
dir = "run"

[data]
source = "python-stdlib"
samples = 64
vocabulary = 300

[models.moe]
source = "train"
preset = "moe-tiny"

[models.engram]
source = "train"
preset = "moe-tiny"
engram.layers = [2]

[training]
steps = 4
"""
TABLE = """
[[robustness]]
y = "moe"
x = "engram"
"""


def loaded(folder: Path, text: str, *overrides: str) -> Config:
    (folder / "c.toml").write_text(HEAD + text)
    return load_config(folder / "c.toml", (f'run.dir="{folder / "run"}"', *overrides))


def ways(config: Config) -> dict[str, str]:
    """KIND/NAME of the map of each way, by its title."""
    return {way.title: f"{way.table.kind}/{way.map}" for way in config.ways(config.robustness[0])}


def test_without_lists_every_measure_and_every_change_of_the_first_is_a_way(tmp_path):
    config = loaded(tmp_path, TABLE)
    name = "engram-vs-moe.by"
    assert ways(config) == {
        "CKA": f"cka/{name}-cka",
        "CKA, debiased": f"cka/{name}-cka.estimator-debiased",
        "CKA, biased": f"cka/{name}-cka.estimator-biased",
        "CKA, RMS-normalised": f"cka/{name}-cka.normalize-rms",
        "CKA, z-scored": f"cka/{name}-cka.standardize-zscore",
        "CKA, no massive dimensions": f"cka/{name}-cka.standardize-drop-massive",
        "CKA, no massive samples": f"cka/{name}-cka.massive-drop",
        "CKA (RBF)": f"cka/{name}-cka-rbf",
        "RSA": f"map/{name}-rsa",
        "Procrustes": f"map/{name}-procrustes",
        "Mutual k-NN": f"map/{name}-mutual-knn",
        "CKNNA": f"map/{name}-cknna",
        "SVCCA": f"map/{name}-svcca",
        "PWCCA": f"map/{name}-pwcca",
    }
    tasks = {task.makes: task for task in make_plan(config)}
    assert set(ways(config).values()) < set(tasks)
    together = tasks["robustness/engram-vs-moe"]
    assert together.needs == tuple(ways(config).values())
    order = list(tasks)
    assert max(map(order.index, together.needs)) < order.index("robustness/engram-vs-moe")


NONE, KEPT = {"normalize": "none"}, {"massive": "keep"}
RMS, DROPPED = {"normalize": "rms"}, {"massive": "drop"}


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        (
            'measures = ["rsa", "cka"]\nestimators = ["debiased", "biased"]\nnormalize = ["rms"]\n'
            'standardize = ["none"]\nmassive = ["drop", "keep"]',
            {
                "RSA, RMS-normalised, no massive samples": {**RMS, **DROPPED},
                "RSA, all samples": {**RMS, **KEPT},
                "CKA": {**RMS, **DROPPED, "estimator": "debiased", "kernel": "linear"},
                "CKA, biased": {**RMS, **DROPPED, "estimator": "biased", "kernel": "linear"},
            },
        ),
        (
            'measures = ["cka", "cka-rbf", "rsa"]\nestimators = ["minibatch", "debiased"]\n'
            'normalize = ["none", "rms"]\nstandardize = ["none"]\nmassive = ["keep"]\n'
            'combine = "all"',
            {
                "CKA": {**NONE, "estimator": "minibatch"},
                "CKA, RMS-normalised": {**RMS, "estimator": "minibatch"},
                "CKA, debiased": {**NONE, "estimator": "debiased"},
                "CKA, debiased, RMS-normalised": {**RMS, "estimator": "debiased"},
                "CKA (RBF)": {**NONE, "estimator": "minibatch", "kernel": "rbf"},
                "CKA (RBF), RMS-normalised": {**RMS, "estimator": "minibatch", "kernel": "rbf"},
                "RSA": {**NONE, "measure": "rsa"},
                "RSA, RMS-normalised": {**RMS, "measure": "rsa"},
            },
        ),
    ],
)
def test_ways_are_called_by_what_they_differ_in(tmp_path, lists, expected):
    config = loaded(tmp_path, TABLE + lists)
    found = {way.title: way.table.options for way in config.ways(config.robustness[0])}
    assert list(found) == list(expected)
    assert {title: {key: found[title][key] for key in of} for title, of in expected.items()} == (
        expected
    )
    assert len(set(ways(config).values())) == len(expected)


def test_a_map_of_the_config_is_taken_where_it_is_the_same(tmp_path):
    own = '[[cka]]\nname = "{}"\ny = "moe"\nx = "engram"\n{}\n'
    same = own.format("own", "permutations = 9")
    turned = own.format("turned", "").replace('"moe"', '"x"').replace('"engram"', '"moe"')
    turned = turned.replace('"x"', '"engram"')
    other = own.format("other", 'estimator = "debiased"\nwhere = { kind = "x" }')
    batches = own.format("batches", 'estimator = "debiased"\nbatch_size = 64')
    config = loaded(tmp_path, turned + other + same + batches + TABLE)
    found = ways(config)
    assert found["CKA"] == "cka/own"
    assert found["CKA, debiased"] == "cka/batches"  # which has no batches
    assert found["CKA, biased"] == "cka/engram-vs-moe.by-cka.estimator-biased"
    made = [task.makes for task in make_plan(loaded(tmp_path, same + TABLE))]
    assert "cka/own" in made
    assert "cka/engram-vs-moe.by-cka" not in made


def test_of_a_series_the_last_checkpoints_are_compared(tmp_path):
    own = '[[cka]]\ny = "moe"\nx = "engram"\n'
    config = loaded(tmp_path, own + TABLE, "training.checkpoints=[2]")
    made = [task.makes for task in make_plan(config)]
    assert "cka/engram-vs-moe.step-000002" in made
    assert [one for one in made if ".by-" in one and "step" in one] == []
    assert made.count("map/engram-vs-moe.by-rsa") == 1
    together = next(task for task in make_plan(config) if task.stage == "robustness")
    assert together.needs[0] == "cka/engram-vs-moe"
    steps = {one["inputs"]["step"] for one in together.inputs["ways"]}
    assert steps == {4}
