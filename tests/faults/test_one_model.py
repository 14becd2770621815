"""Ranks that hold one model as one, under torchrun: what one process stores, to rounding."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command import ENVIRONMENT
from families import tiny
from one_model import look
from small_sources import SENTENCES, write_few_nerd

from engramcka import open_run
from engramcka.config import EngramConfig, load_config
from engramcka.data import Document, train_tokenizer
from engramcka.errors import ConfigError
from engramcka.models import graft, load_model
from engramcka.pipeline import run_config
from engramcka.progress import Reporter
from engramcka.stores.run import Run

pytestmark = [pytest.mark.xdist_group("ranks"), pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
CLOSE = 1e-5  # of the largest value of a layer: float32 sums in another order
SHARED = ("llama", "mixtral", "qwen3_moe", "deepseek_v3", "engramcka_hyper_deepseek", "grafted")

CONFIG = """
[run]
dir = "run"
device = "cpu"

[data]
source = "few-nerd"
path = "{folder}/few-nerd"
samples = 40

[models.llama]
source = "hf"
path = "{folder}/models/llama"
parallel = "{parallel}"

[models.grafted]
source = "hf"
path = "{folder}/models/grafted"
parallel = "{parallel}"

[[cka]]
name = "map"
y = "llama"
x = "grafted"
batch_size = 20

[[lens]]
models = ["llama", "grafted"]
memory_off = ["grafted"]

[[gates]]
models = ["grafted"]
passages = 6
"""


def torchrun(
    script: Path, *arguments: object, cwd: Path, ranks: int = 2
) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*launcher, f"--nproc-per-node={ranks}", str(script), *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """few-nerd/, and models/ with a model of each family and a grafted one; an odd vocabulary."""
    folder = tmp_path_factory.mktemp("shared")
    write_few_nerd(folder / "few-nerd", "parquet", repeat=8)
    text = " ".join(words for words, _ in SENTENCES * 20)
    tokenizer = train_tokenizer([Document("a", text)], 331)
    for family in (*SHARED, "gpt2"):
        torch.manual_seed(0)
        model = tiny("llama" if family == "grafted" else family, len(tokenizer))
        if family == "grafted":
            engram = EngramConfig(layers=(2,), d_mem=16, heads=2, table_size=50)
            model = graft(model, engram, tokenizer)
            torch.nn.init.normal_(model.module("2").convolution.weight)
        model.save_pretrained(folder / "models" / family)
        tokenizer.save_pretrained(folder / "models" / family)
    assert len(tokenizer) % 2
    return folder


@pytest.fixture(scope="module")
def one(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of one process."""
    place = tmp_path_factory.mktemp("one")
    (place / "config.toml").write_text(CONFIG.format(folder=folder, parallel="none"))
    by_one_process(place)
    return open_run(place / "run")


def by_one_process(place: Path, *overrides: str) -> None:
    torch.set_num_threads(1)
    config = load_config(place / "config.toml", (f"run.dir={place}/run", *overrides))
    run_config(config, Reporter(place / "run/log.jsonl"))


def require_close(found: np.ndarray, expected: np.ndarray, share: float = CLOSE) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= share * np.abs(expected).max()


def test_every_family_gives_what_one_process_gives_or_is_refused(folder: Path) -> None:
    models = folder / "models"
    job = torchrun(HERE / "one_model.py", models, cwd=folder)
    assert job.returncode == 0, job.stderr
    for family in SHARED:
        expected = look(load_model(str(models / family))[0])
        with np.load(models / f"{family}.npz") as found:
            assert sorted(found) == sorted(expected)
            for name in expected:
                require_close(found[name], expected[name])
    assert (models / "gpt2.txt").read_text() == (
        f"{models}/gpt2: GPT2LMHeadModel has no tensor-parallel plan for its blocks in "
        "transformers, so parallel = 'tp' cannot be; allowed: 'auto' or 'none'"
    )


def test_a_whole_run_with_map_lens_and_gates(folder: Path, one: Run, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG.format(folder=folder, parallel="tp"))
    job = torchrun(HERE / "small_chunks.py", 0, "run", "config.toml", cwd=tmp_path)
    assert job.returncode == 0, job.stderr
    assert job.stdout.count("tasks done") == 1
    run = open_run(tmp_path / "run")
    for name in ("llama", "grafted"):
        found, expected = run.activations(name), one.activations(name)
        assert found.attributes["model"]["ranks"] == 2
        assert found.is_complete
        for layer, states in expected.layers.items():
            require_close(found.layers[layer][0:40], states[0:40])
        for reading, values in expected.readouts.items():
            require_close(found.readouts[reading][0:40], values[0:40], 1e-4)
    assert np.abs(run.cka["map"].similarity - one.cka["map"].similarity).max() < 1e-5
    for name in ("llama", "grafted", "grafted.memory-off"):
        require_close(run.lens[name].kl, one.lens[name].kl, 1e-4)
    require_close(run.gates["grafted"].alpha, one.gates["grafted"].alpha)
    for loss in ("loss_on", "loss_off"):
        found, expected = (getattr(r.memory["grafted"], loss) for r in (run, one))
        require_close(found, expected)


def test_what_a_kill_leaves_is_filled_up_by_as_many_ranks_or_by_one(
    folder: Path, one: Run, tmp_path: Path
) -> None:
    text = CONFIG.format(folder=folder, parallel="tp").partition("[models.grafted]")[0]
    (tmp_path / "config.toml").write_text(text)
    only = ("run", "config.toml", "--only", "extract")
    job = torchrun(HERE / "small_chunks.py", 2, *only, cwd=tmp_path)
    assert job.returncode != 0
    assert "c10d]" not in job.stderr
    ours = [line for line in job.stderr.splitlines() if line.startswith("engramcka: ")]
    assert ours == ["engramcka: rank 0 is gone"]
    store = open_run(tmp_path / "run").activations("llama")
    assert store.missing() == [(32, 40)]
    written = store.path / "layer_01/c/0/0"
    before = written.stat().st_mtime_ns
    job = torchrun(HERE / "small_chunks.py", 0, *only, cwd=tmp_path)
    assert job.returncode == 0, job.stderr
    assert written.stat().st_mtime_ns == before
    for alone in (False, True):
        if alone:
            store.discard_chunk(1)
            by_one_process(tmp_path, "models.llama.parallel=none")
        store = open_run(tmp_path / "run").activations("llama")
        assert store.is_complete
        for layer, states in one.activations("llama").layers.items():
            require_close(store.layers[layer][0:40], states[0:40])


def test_what_one_process_or_these_ranks_cannot_do_is_refused(folder: Path, tmp_path: Path) -> None:
    text = CONFIG.format(folder=folder, parallel="tp").partition("[models.grafted]")[0]
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        by_one_process(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/config.toml, line 14, models.llama.parallel: found 'tp', and this is one "
        "process alone; start it with torchrun or srun, a process a GPU; one process takes 'auto' "
        "or 'none'"
    )
    assert not (tmp_path / "run").exists()
    query = ("--set", "models.llama.points=self_attn.q_proj")
    job = torchrun(HERE / "small_chunks.py", 0, "run", "config.toml", *query, cwd=tmp_path)
    ours = [line for line in job.stderr.splitlines() if line.startswith("engramcka: ")]
    assert len(ours) == 1
    assert "ranks see different values at layer 1, 2, 3, so each holds a part" in ours[0]
    assert job.returncode != 0
    assert not (tmp_path / "run/activations/llama.zarr").exists()
