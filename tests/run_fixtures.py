"""Fixtures of tests/sources and tests/pipeline: tiny models and Few-NERD, and a run in process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_sources import RunConfig, save_tiny_llama, write_few_nerd

from engramcka import open_run
from engramcka.config import load_config
from engramcka.errors import EngramckaError
from engramcka.pipeline import make_plan, run_config
from engramcka.progress import Reporter
from engramcka.stores.run import Run

HEAD = """
[run]
dir = "run"
device = "cpu"

[data]
source = "few-nerd"
path = "{sources}/few-nerd"
samples = 40
positions = "{positions}"
"""
CKA = """
[[cka]]
name = "map"
y = "a"
x = "b"
batch_size = 20
"""


def config_text(sources: Path, models: str, positions: str = "entity-last", cka: str = CKA) -> str:
    return (HEAD + models + cka).format(sources=sources, positions=positions)


def refusal(tmp_path: Path, text: str, *overrides: str) -> str:
    """The one line that a plan of this config is refused with."""
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(EngramckaError) as error:
        make_plan(load_config(tmp_path / "c.toml", overrides))
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One thread, a folder and a cache of its own, no figures."""
    torch.set_num_threads(1)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("engramcka.pipeline.plan.figure_tasks", lambda config, run: [])
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with few-nerd/ and two models whose tokenizers differ, first/ and second/."""
    folder = tmp_path_factory.mktemp("sources")
    write_few_nerd(folder / "few-nerd", "parquet", repeat=8)
    save_tiny_llama(folder / "first", seed=0, vocabulary=330)
    save_tiny_llama(folder / "second", seed=1, vocabulary=280)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    """Write a config, run it in this process, and open what it leaves."""

    def _run(text: str, *overrides: str) -> Run:
        path = tmp_path / "config.toml"
        path.write_text(text)
        config = load_config(path, overrides)
        folder = Path(config.run.dir)
        run_config(config, Reporter(folder / "log.jsonl"))
        return open_run(folder)

    return _run
