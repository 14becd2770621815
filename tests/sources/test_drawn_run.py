"""What was drawn of the text, what was left out and why: in a run's lines, log, stores and plan."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NoReturn

import pytest
from small_sources import RunConfig
from transformers import AutoTokenizer
from typer.testing import CliRunner

from engramcka.cli.app import app
from engramcka.config import load_config
from engramcka.errors import ConfigError, StoreError
from engramcka.pipeline import make_plan
from engramcka.pipeline.context import Context
from engramcka.pipeline.estimate import check_room, estimate
from engramcka.stores.run import Run

CONFIG = """
[run]
dir = "run"
device = "cpu"

[data]
source = "text"
path = "text"
positions = "random"
passage_length = 100
per_document = 12
samples = 40

[models.first]
source = "hf"
path = "{sources}/first"

[models.second]
source = "hf"
path = "{sources}/second"

[[cka]]
name = "map"
y = "first"
x = "second"
batch_size = 8
pairs = "all"
"""
LINE = "Grace Kelly lived in Monaco after Rear Window, said Ada Lovelace.\n"


@pytest.fixture
def config(sources: Path, tmp_path: Path) -> str:
    """A config of four text files, one of them long."""
    (tmp_path / "text").mkdir()
    for number, lines in enumerate((200, 9, 9, 1)):
        (tmp_path / "text" / f"{number}.txt").write_text(f"{LINE}\n" * lines)
    return CONFIG.format(sources=sources)


def told(done: Run) -> dict[str, dict[str, object]]:
    """The events of the log that say how samples came about, by model."""
    events = map(json.loads, (done.path / "log.jsonl").read_text().splitlines())
    return {event["name"]: event for event in events if event["event"] == "samples"}


def test_samples_of_a_long_document_are_capped_and_said(
    config: str, run: RunConfig, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(config)
    plan = CliRunner().invoke(app, ["check", "config.toml"], catch_exceptions=False)
    assert re.search(r"\nsamples: 40 of 4 documents, at most 1[0-2] of one\n", plan.stdout)
    done = run(config)
    out = capfd.readouterr().err
    for model in ("first", "second"):
        store, event = done.activations(model), told(done)[model]
        left_out = store.attributes["left_out"]
        assert (store.attributes["asked"], store.attributes["drawn"]) == (40, 40)
        assert store.n_samples == 40 - sum(left_out.values()) == event["stored"]
        assert store.attributes["most_of_a_document"] <= 12
        assert store.attributes["documents"] == 4
        assert {key: event[key] for key in ("asked", "drawn", "left_out")} == {
            "asked": 40,
            "drawn": 40,
            "left_out": left_out,
        }
        assert f"extract {model}: 40 samples asked for, 40 drawn" in out
        assert "of 4 documents, at most 1" in event["info"]
    assert "cka map: done in" in out


def test_a_draw_that_the_cap_does_not_allow_is_one_line(config: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(config)
    loaded = load_config(tmp_path / "config.toml", ["data.samples=49"])
    with pytest.raises(ConfigError) as error:
        estimate(loaded, make_plan(loaded))
    assert str(error.value) == (
        "--set data.samples=49: found 49, with at most 12 of a document (data.per_document) the "
        "text holds 48 words; allowed: at most that many; or raise data.per_document, or give more "
        "documents"
    )


def test_every_reason_is_counted_by_itself(config: str, run: RunConfig) -> None:
    done = run(config, "data.max_length=24", "data.samples=48")
    for model in ("first", "second"):
        store = done.activations(model)
        left_out = store.attributes["left_out"]
        assert left_out["cut_off"] > 0
        assert store.n_samples == 48 - sum(left_out.values())
        assert store.attributes["skipped"] == left_out["cut_off"] + left_out["no_token"]
        info = told(done)[model]["info"]
        assert f"{left_out['cut_off']} cut off by data.max_length = 24" in info


@pytest.mark.parametrize("positions", ["all", "random"])
def test_the_first_tokens_of_a_passage_are_no_samples(
    positions: str, config: str, run: RunConfig
) -> None:
    done = run(config, "data.skip_first=9", f"data.positions={positions}")
    for model in ("first", "second"):
        store, event = done.activations(model), told(done)[model]
        left_out = store.attributes["left_out"]
        assert left_out["first_tokens"] > 0
        words = f"{left_out['first_tokens']} in the first tokens of a passage (data.skip_first = 9)"
        assert words in event["info"]
        drawn = store.attributes["drawn"]
        assert store.n_samples == drawn - sum(left_out.values())
        assert (store.n_samples if positions == "all" else drawn) == 40
        begins = store.samples["end"] - store.samples["passage_start"]
        assert begins.min() >= 10  # ten tokens take as many characters at least
    assert done.cka["map"].n_samples < 40


def test_a_passage_of_which_nothing_is_left_is_one_line(config: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(config)
    for overrides, said in (
        (
            ["data.skip_first=-1"],
            "--set data.skip_first=-1: found -1; allowed: greater than or equal to 0",
        ),
        (
            ["data.max_length=16", "data.skip_first=16"],
            "skip_first = 16 leaves no token of a passage; allowed: 0 to 15, below max_length",
        ),
    ):
        with pytest.raises(ConfigError) as error:
            load_config(tmp_path / "config.toml", overrides)
        assert said in str(error.value)
        assert "\n" not in str(error.value)


def test_of_all_tokens_the_cap_holds_for_both_models(config: str, run: RunConfig) -> None:
    done = run(config, "data.positions=all", "data.samples=48")
    for model in ("first", "second"):
        store = done.activations(model)
        assert store.n_samples == 48
        assert (store.attributes["documents"], store.attributes["most_of_a_document"]) == (4, 12)
    assert done.cka["map"].n_samples > 8


def checked() -> str:
    return CliRunner().invoke(app, ["check", "config.toml"], catch_exceptions=False).stdout


def test_all_samples_are_counted_before_the_run_and_known_after_it_without_the_text(
    config: str, run: RunConfig, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = config.replace("samples = 40", 'samples = "all"')
    (tmp_path / "config.toml").write_text(text)
    plan = checked()
    assert re.search(r"extract +first +48 samples +\S+ +\S+ +\S* *to do", plan)
    assert "\nsamples: 48 of 4 documents, at most 12 of one\n" in plan
    done = run(text)
    assert "extract first: all samples asked for, 48 drawn" in capfd.readouterr().err
    for model in ("first", "second"):
        store = done.activations(model)
        assert (store.attributes["asked"], store.attributes["drawn"]) == ("all", 48)
    loaded = load_config(tmp_path / "config.toml")
    tasks = make_plan(loaded, Unread(loaded))
    assert [task.total for task in tasks if task.stage == "extract"] == [48, 48]
    assert all(task.is_done() for task in tasks)
    (tmp_path / "text" / "1.txt").write_text(LINE)
    with pytest.raises(StoreError, match=r"made with data\.content"):
        make_plan(loaded)


class Unread(Context):
    """A run whose text cannot be read."""

    @property
    def samples(self) -> NoReturn:
        raise AssertionError("the text was read")


def test_all_tokens_of_a_text_are_as_many_as_each_tokenizer_makes(
    config: str, sources: Path, run: RunConfig, tmp_path: Path
) -> None:
    text = config.replace("samples = 40", 'samples = "all"').replace("per_document = 12\n", "")
    text = text.replace('positions = "random"', 'positions = "all"')
    (tmp_path / "config.toml").write_text(text)
    plan = checked()
    assert re.search(r"extract +first +all samples", plan)
    assert "\nsamples: all tokens of 219 passages of 4 documents\n" in plan
    done = run(text)
    for model in ("first", "second"):
        tokenizer = AutoTokenizer.from_pretrained(sources / model)
        store = done.activations(model)
        columns = [store.samples[name].tolist() for name in ("document", "passage_start")]
        assert len({*zip(*columns, strict=True)}) == 219
        ends = {
            end for _, end in tokenizer(f"{LINE}\n", return_offsets_mapping=True).offset_mapping
        }
        assert store.n_samples == 219 * len(ends)
    assert re.search(r"extract +first +\d+ samples .* done", checked())
    line = refused(tmp_path, text.replace("batch_size = 8", "batch_size = 2_000_000"))
    assert "GiB of memory, there are" in line


def refused(tmp_path: Path, text: str) -> str:
    (tmp_path / "config.toml").write_text(text.replace('"run"', '"other"'))
    loaded = load_config(tmp_path / "config.toml")
    with pytest.raises(ConfigError) as error:
        check_room(loaded, make_plan(loaded))
    return str(error.value)
