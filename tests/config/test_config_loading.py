"""A config is read whole, or refused with one line that says where and what is allowed."""

import re
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engramcka.config import Config, dump_config, load_config
from engramcka.config.loading import find_lines, validate
from engramcka.config.tables import ConfigSource
from engramcka.errors import ConfigError

QUICKSTART = Path(__file__).parents[2] / "sample_configs" / "quickstart.toml"
SAMPLES = sorted(QUICKSTART.parent.glob("*.toml"))


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = QUICKSTART.read_text()
    assert old in text, old
    path = tmp_path / "config.toml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_sample_configs_are_valid_and_survive_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    again = tmp_path / "again.toml"
    again.write_text(dump_config(config))
    assert load_config(again).to_dict() == config.to_dict()


def test_the_resolved_config_has_its_defaults_written_out() -> None:
    values = tomllib.loads(dump_config(load_config(QUICKSTART)))
    assert values["training"]["weight_decay"] == 0.1
    assert values["models"]["engram"]["engram"]["orders"] == [2, 3]


@pytest.mark.parametrize(
    ("old", "new", "line", "parts"),
    [
        ("samples = 2048", "sampels = 2048", "samples = ", ["data.sampels", "did you mean 'samp"]),
        (
            "samples = 2048",
            'samples = "many"',
            "samples = ",
            ["data.samples", '"many"', "a whole number"],
        ),
        ("samples = 2048", "samples = 3", "samples = ", ["data.samples", "found 3", "equal to 4"]),
        ('x = "engram"', 'x = "engrm"', "x = ", ["cka[0].x", "'engrm'", "did you mean 'engram'"]),
        (
            'estimator = "minibatch"',
            'estimator = "mini"',
            "estimator",
            ["cka[0].est", "'debiased'"],
        ),
        ("engram.layers = [2]", "engram.layers = [0]", "engram.layers", ["layers[0]", "found 0"]),
        ("engram.layers = [2]", "engram.layers = [2, 2]", "engram.layers", ["names one twice"]),
        ("layers = [1, 2, 4, 6]", 'layers = "al"', "layers = [1", ["sweep[0].layers", "or 'all'"]),
        ("learning_rate = 1.5e-3", "checkpoints = [100]", "[training]", ["= [100]", "1 to 99"]),
        ("learning_rate = 1.5e-3", "decay_at = [0.9, 0.6]", "[training]", ["rising order"]),
        ("[run]", "[rum]", "[run]", ["rum", "did you mean 'run'"]),
        ('model = "engram"', 'model = "moe"', "model = ", ["sweep[0].model", "no Engram module"]),
        ('name = "engram-vs-moe"', 'name = "../out"', "name = ", ["cka[0].name", "names files"]),
    ],
)
def test_a_mistake_is_one_line_that_points_at_it(
    tmp_path: Path, old: str, new: str, line: str, parts: list[str]
) -> None:
    lines = QUICKSTART.read_text().splitlines()
    number = next(n for n, text in enumerate(lines, 1) if text.startswith(line))
    path = changed(tmp_path, old, new)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {number}")
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("table_size = 1", r"table_size: found 1; allowed: 2 or more"),
        ("table_size = [1, 5]", r"table_size: found \[1, 5\]; allowed: 2 or more, or a list"),
        ("table_size = []", r"table_size: found \[\]; allowed: 2 or more"),
        ("table_size = [50]", r"table_size = \[50\] has 1 numbers for 2 orders \[2, 3\]"),
        ("multi_branch = false", r"multi_branch: unknown key; allowed: .*'fusion'"),
        ("gate_eps = -1.0", r"gate_eps: found -1.0; allowed: greater than or equal to 0"),
    ],
)
def test_what_modules_cannot_be_is_refused(tmp_path: Path, key: str, message: str) -> None:
    path = changed(tmp_path, "engram.layers = [2]", f"engram = {{ layers = [2], {key} }}")
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_table_sizes_by_order_survive_a_round_trip(tmp_path: Path) -> None:
    keys = "{ layers = [2], orders = [3, 2], table_size = [70, 50] }"
    config = load_config(changed(tmp_path, "engram.layers = [2]", f"engram = {keys}"))
    engram = config.models["engram"].engram
    assert engram.sizes == {2: 50, 3: 70}
    again = tmp_path / "again.toml"
    again.write_text(dump_config(config))
    assert load_config(again).models["engram"].engram == engram


def test_d_mem_that_does_not_split_is_refused_with_the_numbers(tmp_path: Path) -> None:
    path = changed(
        tmp_path, "engram.layers = [2]", "engram = { layers = [2], d_mem = 100, heads = 7 }"
    )
    with pytest.raises(ConfigError, match=r"d_mem = 100 .* 2 orders x 7 heads = 14"):
        load_config(path)


def test_two_maps_of_one_name_are_refused(tmp_path: Path) -> None:
    more = '\n[[cka]]\nname = "engram-vs-moe"\ny = "moe"\nx = "moe"\n'
    path = changed(tmp_path, "", "")
    path.write_text(path.read_text() + more)
    with pytest.raises(ConfigError, match="a second cka named 'engram-vs-moe'"):
        load_config(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[run\n", "not valid TOML"), (b"\xff\xfe", "not UTF-8"), (None, "cannot be read")],
)
def test_a_file_that_is_no_config_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "config.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_set_reaches_tables_and_list_entries_by_name_and_number() -> None:
    config = load_config(
        QUICKSTART,
        ["data.samples=64", "cka.engram-vs-moe.batch_size=8", "sweep.0.layers=[3]", "run.dir=x y"],
    )
    assert config.data.samples == 64
    assert config.cka[0].batch_size == 8
    assert config.sweep[0].layers == (3,)
    assert config.run.dir == "x y"


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("data.samples", ["no KEY=VALUE"]),
        ("data.samples=x", ["--set data.samples=x", 'found "x"; allowed: a whole number']),
        ("data.samples=2.5", ["found 2.5; allowed: a whole number"]),
        ("training.learning_rate='1'", ['found "1"; allowed: a number']),
        ("training.learning_rate=inf", ["found Infinity; allowed: a finite number"]),
        ("lens.0.models=[]", ["found []; allowed: a list of at least 1 entry"]),
        ("lens.0.models=moe", ['found "moe"; allowed: a list']),
        ("run.dir=3", ["found 3; allowed: text, in quotes"]),
        ("run.dir=''", ['found ""; allowed: text that is not empty']),
        ("run=3", ["found 3; allowed: a table"]),
        ("models.moe.embedding=1", ["found 1; allowed: true or false"]),
        ("models.moe.streams=x", ["found 'x'; allowed: 'mean', 'sum'"]),
        ("sweep.0.layers=[0.5]", ["found 0.5; allowed: a whole number"]),
        ("data.sampels=4", ["--set data.sampels=4", "did you mean 'samples'"]),
        ("cka.none.batch_size=8", ["no entry 'none'", "engram-vs-moe"]),
        ("data.samples.deep=8", ["data.samples is not a table"]),
    ],
)
def test_a_wrong_set_says_which_one(override: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(QUICKSTART, [override])
    for part in parts:
        assert part in str(caught.value)


def test_lines_are_found_past_strings_arrays_and_dotted_keys() -> None:
    text = 'a.b = 1\nc = """\nd = 2\n"""\n[t]\ne = [\n  1,\n]\n[[l]]\nf = 1\n[[l]]\n"g h" = 1\n'
    lines = find_lines(text)
    assert lines[("a", "b")] == 1
    assert ("d",) not in lines
    assert lines[("t",)] == 5
    assert lines[("t", "e")] == 6
    assert lines[("l", 0, "f")] == 10
    assert lines[("l", 1, "g h")] == 12


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated") / "config.toml"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_mutated_config_is_accepted_or_refused_in_one_line(
    scratch: Path, data: st.DataObject
) -> None:
    lines = QUICKSTART.read_text().splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(["drop", "repeat", "swap", "value", "cut"]))
        key, equals, _ = lines[index].partition("=")
        if kind == "drop":
            lines[index] = ""
        elif kind == "repeat":
            lines.insert(index, lines[index])
        elif kind == "swap":
            other = data.draw(st.integers(0, len(lines) - 1))
            lines[index], lines[other] = lines[other], lines[index]
        elif kind == "cut":
            lines[index] = lines[index][: data.draw(st.integers(0, 20))]
        elif equals:
            value = data.draw(
                st.sampled_from(
                    [
                        "-1",
                        "0",
                        "1e99",
                        "nan",
                        "true",
                        '""',
                        "[]",
                        "[[1]]",
                        "{}",
                        "1979-05-27",
                        '"\\u001b[31m"',
                        "99999999999999999999",
                        '"train"',
                        "[1, -2]",
                        "{ a = 1 }",
                    ]
                )
            )
            lines[index] = f"{key}= {value}"
    scratch.write_text("\n".join(lines))
    try:
        outcome: Config | str = load_config(scratch)
    except ConfigError as error:
        outcome = str(error)
    assert isinstance(outcome, Config) or "\n" not in outcome


PYTHON = re.compile(r"should|Value error|\bvalid\b|\bobject\b|tuple|dict|string", re.IGNORECASE)
WRONG = (3, -3, 2.5, float("nan"), "x", "", True, [], [[]], ["x"], [-1], {}, {"x": 1})


def _keys(table: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    for key, value in table.items() if isinstance(table, dict) else enumerate(table):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _keys(value, (*path, key))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_no_value_is_refused_in_words_about_python(sample: Path) -> None:
    values = load_config(sample).to_dict()
    refused = []
    for path in list(_keys(values)):
        for wrong in WRONG:
            changed = deepcopy(values)
            here = changed
            for part in path[:-1]:
                here = here[part]
            here[path[-1]] = wrong
            try:
                validate(changed, ConfigSource())
            except ConfigError as error:
                refused.append(str(error))
    assert len(refused) > 100
    assert [message for message in refused if PYTHON.search(message)] == []
