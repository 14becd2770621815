"""Which tasks a `[[matrix]]` table makes, before anything runs."""

import pytest
from test_robustness_plan import loaded

from engramcka.config import dump_config, load_config
from engramcka.errors import ConfigError
from engramcka.pipeline.plan import make_plan

THIRD = '\n[models.other]\nsource = "train"\npreset = "moe-tiny"\nengram.layers = [3]\n'
TABLE = '\n[[matrix]]\nmodels = ["moe", "engram", "other"]\n'


def made(config):
    return {task.makes: task for task in make_plan(config)}


def test_every_pair_is_a_map_and_the_matrix_comes_after_them(tmp_path):
    tasks = made(loaded(tmp_path, THIRD + TABLE))
    pairs = ["engram-vs-moe", "other-vs-moe", "other-vs-engram"]
    together = tasks["matrix/cka"]
    assert together.needs == tuple(f"cka/{pair}.of-cka" for pair in pairs)
    order = list(tasks)
    assert max(map(order.index, together.needs)) < order.index("matrix/cka")
    assert together.inputs["labels"] == {"moe": "moe", "engram": "engram", "other": "other"}
    assert together.inputs["pairs"][1]["models"] == ["moe", "other"]


def test_options_are_those_of_a_map(tmp_path):
    options = 'name = "near"\nmeasure = "mutual-knn"\nk = 7\nwhere = { kind = "x" }\n'
    tasks = made(loaded(tmp_path, THIRD + TABLE + options))
    inputs = tasks["map/engram-vs-moe.of-near"].inputs
    assert (inputs["measure"], inputs["k"], inputs["where"]) == ("mutual-knn", 7, "kind = 'x'")
    assert "estimator" not in inputs
    assert inputs["part_of"] == "matrix/near"
    assert "matrix" not in inputs
    assert "checkpoints" not in inputs
    assert "matrix/near" in tasks


@pytest.mark.parametrize("own", ['[[cka]]\ny = "{}"\nx = "{}"\n', '[[cka]]\nx = ["{}", "{}"]\n'])
@pytest.mark.parametrize("sides", [("moe", "engram"), ("engram", "moe")])
def test_a_map_of_the_config_is_taken_whichever_model_is_on_its_rows(tmp_path, own, sides):
    more = '[[cka]]\nname = "b"\nestimator = "debiased"\ny = "moe"\nx = "other"\n'
    tasks = made(loaded(tmp_path, THIRD + own.format(*sides) + more + TABLE))
    first = next(name for name in tasks if name.startswith("cka/"))
    assert tasks["matrix/cka"].needs == (
        first, "cka/other-vs-moe.of-cka", "cka/other-vs-engram.of-cka",
    )  # fmt: skip
    assert "cka/engram-vs-moe.of-cka" not in tasks


def test_of_a_series_the_last_checkpoint_is_one_of_the_set_or_all_are(tmp_path):
    last = made(loaded(tmp_path, THIRD + TABLE, "training.checkpoints=[2]"))
    assert [name for name in last if ".of-cka" in name] == [
        "cka/engram-vs-moe.of-cka", "cka/other-vs-moe.of-cka", "cka/other-vs-engram.of-cka",
    ]  # fmt: skip
    one = '\n[[matrix]]\nmodels = ["moe"]\ncheckpoints = true\n'
    tasks = made(loaded(tmp_path, one, "training.checkpoints=[1,2,3]"))
    together = tasks["matrix/cka"]
    steps = {f"moe.step-00000{step}": f"moe, step {step}" for step in (1, 2, 3)}
    assert together.inputs["labels"] == {**steps, "moe": "moe"}
    assert len(together.needs) == 6
    assert together.needs[0] == "cka/moe.step-000002-vs-moe.step-000001.of-cka"
    assert tasks[together.needs[0]].inputs["labels"] == ["moe, step 1", "moe, step 2"]
    assert tasks[together.needs[0]].needs == (
        "extract/moe.step-000001", "extract/moe.step-000002",
    )  # fmt: skip


def test_a_map_of_two_steps_of_a_series_is_taken_from_there(tmp_path):
    own = '[[cka]]\ny = "moe"\nx = "engram"\n'
    table = '\n[[matrix]]\nmodels = ["moe", "engram"]\ncheckpoints = true\n'
    tasks = made(loaded(tmp_path, own + table, "training.checkpoints=[2]"))
    needs = tasks["matrix/cka"].needs
    assert len(needs) == 6
    assert {"cka/engram-vs-moe", "cka/engram-vs-moe.step-000002"} < set(needs)
    assert sum(".of-cka" in need for need in needs) == 4


@pytest.mark.parametrize("measure", ["cka", "rsa", "svcca", "mutual-knn"])
def test_the_config_that_a_run_writes_is_the_same_one(tmp_path, measure):
    config = loaded(tmp_path, THIRD + TABLE + f'measure = "{measure}"\n')
    (tmp_path / "again.toml").write_text(dump_config(config))
    again = load_config(tmp_path / "again.toml")
    assert again.to_dict() == config.to_dict()
    assert {name: task.inputs for name, task in made(again).items()} == {
        name: task.inputs for name, task in made(config).items()
    }


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('models = ["moe", "engram"]', "models = ['moe', 'engram'] are fewer than 3; two models"),
        ('models = ["moe", "engram", "enrgam"]', "matrix[0].models: no model 'enrgam'; did you"),
        ('models = ["moe", "engram", "moe"]', "matrix[0].models: 'moe' is there twice"),
        ("models = []", "matrix[0].models: found []; allowed: a list of at least 1 entry"),
        ('models = ["moe"]\ncheckpoints = true', "matrix[0].models: found 1 checkpoint in all"),
        (TABLE[11:] + 'measure = "rsa"\nk = 3', "k with measure = 'rsa'; it belongs to mutual-knn"),
        (
            TABLE[11:] + 'measure = "cka-rbf"\nestimator = "debiased"',
            "measure = 'cka-rbf' needs estimator = 'minibatch', found 'debiased'",
        ),
        (TABLE[11:] + 'score = "mean"', "matrix[0].score: found 'mean'; "),
        (TABLE[11:] + TABLE, "a second matrix named 'cka'"),
        (
            TABLE[11:] + '[[cka]]\nname = "other-vs-moe.of-cka"\ny = "moe"\nx = "engram"',
            "matrix[0].models: a second cka named 'other-vs-moe.of-cka'",
        ),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, table, says):
    with pytest.raises(ConfigError) as caught:
        make_plan(loaded(tmp_path, f"{THIRD}\n[[matrix]]\n{table}\n"))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "c.toml, line " in str(caught.value)


def test_names_that_are_too_long_for_a_map_of_two_are_refused(tmp_path):
    name = "m" * 44
    text = f'[models.{name}]\nsource = "train"\npreset = "moe-tiny"\nengram.layers = [1]\n'
    table = f'[[matrix]]\nmodels = ["moe", "{name}"]\ncheckpoints = true\n'
    with pytest.raises(ConfigError, match=r"matrix\[0\].models: a map would be called 'mmm"):
        make_plan(loaded(tmp_path, text + table, "training.checkpoints=[2]"))
