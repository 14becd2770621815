"""What was drawn of the text, what was left out and why: in a run's lines, log, stores and plan."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from small_sources import RunConfig
from typer.testing import CliRunner

from engramcka.cli.app import app
from engramcka.config import load_config
from engramcka.errors import ConfigError
from engramcka.pipeline import make_plan
from engramcka.pipeline.estimate import estimate
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
