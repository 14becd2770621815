"""What `engramcka check` says of a plan: what is extracted, and operations counted a second way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_sources import RunConfig
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from engramcka.cli.app import app
from engramcka.config import Config, load_config
from engramcka.lens import LensReadout
from engramcka.lens.logit_lens import READINGS
from engramcka.models import find_blocks
from engramcka.pipeline import estimate as estimates
from engramcka.pipeline import make_plan
from engramcka.pipeline.context import Context
from engramcka.pipeline.estimate import Cost, estimate
from engramcka.pipeline.plan import extracted_models, unnamed_models

HEAD = """
[run]
dir = "run"
device = "cpu"

[data]
source = "few-nerd"
path = "{sources}/few-nerd"
samples = 40

[models.a]
source = "hf"
path = "{sources}/first"

[models.b]
source = "hf"
path = "{sources}/second"
"""
LENS = '\n[[lens]]\nmodels = ["a"]\n'
ENGRAM = """
[models.m]
source = "train"
engram = { layers = [1], d_mem = 16, heads = 2, table_size = 50 }

[data]
samples = 16

[run]
dir = "run"
"""
GATES = '\n[[gates]]\nmodels = ["m"]\npassages = 4\n'


def config_of(folder: Path, text: str) -> Config:
    (folder / "c.toml").write_text(text)
    return load_config(folder / "c.toml", ())


def costs(config: Config) -> dict[str, Cost]:
    plan = make_plan(config)
    return {task.makes: cost for task, cost in zip(plan, estimate(config, plan), strict=True)}


def counted(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return counter.get_total_flops()


def test_hidden_states_are_stored_of_what_needs_them_or_is_named_by_nothing(
    sources: Path, tmp_path: Path
) -> None:
    text = HEAD.format(sources=sources)
    both = '\n[[cka]]\nname = "m"\ny = "b"\nx = "b"\nbatch_size = 20\n'
    for more, extracted, unnamed in (
        ("", ["a", "b"], ["a", "b"]),
        (LENS, ["a", "b"], ["b"]),
        (both, ["a", "b"], ["a"]),
        (both + LENS, ["a", "b"], []),
    ):
        config = config_of(tmp_path, text + more)
        assert (extracted_models(config), unnamed_models(config)) == (extracted, unnamed)
    sweep = '\n[[sweep]]\nname = "s"\nmodel = "m"\n'
    for more, extracted in ((GATES, []), (sweep, []), ("", ["m"]), (GATES + LENS, ["m"])):
        config = config_of(tmp_path, ENGRAM + more.replace('"a"', '"m"'))
        assert extracted_models(config) == extracted
    (tmp_path / "c.toml").write_text(text + LENS)
    result = CliRunner().invoke(app, ["check", str(tmp_path / "c.toml")], catch_exceptions=False)
    assert "models.b: no map, lens, gates or sweep names it" in result.stdout
    assert "models.a: no map" not in result.stdout
    assert "lens: curves without FLOPs are read in the extraction's own pass" in result.stdout


def test_operations_of_extraction_and_lens_against_a_counter(
    sources: Path, run: RunConfig, tmp_path: Path
) -> None:
    text = HEAD.format(sources=sources)
    model = AutoModelForCausalLM.from_pretrained(sources / "first").eval()
    hidden = torch.randn(40, model.config.hidden_size)
    readout = LensReadout(model, torch.arange(5).numpy())
    lens = counted(lambda: readout(dict.fromkeys(range(1, 4), hidden)))
    blocks = [parameter for b in find_blocks(model).modules for parameter in b.parameters()]

    without, with_lens = (costs(config_of(tmp_path, text + more)) for more in ("", LENS))
    extra = with_lens["extract/a"].flops - without["extract/a"].flops
    assert extra == pytest.approx(lens, rel=0.15)  # the counter adds sums over the vocabulary
    assert with_lens["lens/a"] == Cost()  # read in that pass
    assert with_lens["extract/a"].bytes - without["extract/a"].bytes == 40 * 3 * 4 * len(READINGS)
    assert with_lens["extract/b"] == without["extract/b"]
    tokens = estimates._text(Context(load_config(tmp_path / "c.toml", ()))).tokens
    body = 2 * sum(p.numel() for p in blocks) * tokens
    assert without["extract/a"].flops == pytest.approx(body, rel=0.01)

    run(text)  # extracted without the lens: it needs a pass of its own
    later = costs(load_config(_with(tmp_path, LENS), ()))
    assert later["extract/a"] == without["extract/a"]
    assert later["lens/a"].flops == pytest.approx(extra + body, rel=0.01)


def test_operations_of_gates_and_of_the_loss_without_memory(tmp_path: Path) -> None:
    found = costs(config_of(tmp_path, ENGRAM + GATES))
    gates, memory = found["gates/m"].flops, found["memory/m"].flops
    assert 0 < gates < memory / 2  # two passes, each with the LM head
    fewer = costs(config_of(tmp_path, ENGRAM + GATES.replace("= 4", "= 2")))
    assert fewer["gates/m"].flops == pytest.approx(gates / 2)
    everything = costs(config_of(tmp_path, ENGRAM + GATES.replace("= 4", "= 999")))
    assert gates < everything["gates/m"].flops < gates * 999 / 4


def _with(folder: Path, more: str) -> Path:
    path = folder / "config.toml"
    path.write_text(path.read_text() + more)
    return path
