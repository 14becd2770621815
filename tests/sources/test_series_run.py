"""Checkpoints of one training through a whole run: a store, a map and a curve for each step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from run_fixtures import config_text, refusal
from small_sources import RunConfig, save_tiny_llama

from engramcka.config import load_config
from engramcka.pipeline import make_plan
from engramcka.pipeline.estimate import estimate


def test_a_series_over_checkpoints_gives_a_map_a_step(
    sources: Path, run: RunConfig, tmp_path: Path
) -> None:
    for step in (5, 100, 20):
        save_tiny_llama(tmp_path / "ck" / f"step-{step}", seed=step)
    models = """
[models.a]
source = "hf"
path = "{sources}/first"

[models.b]
source = "hf"
path = "ck/step-*"
"""
    done = run(config_text(sources, models))
    assert done.models == ["a", "b.step-000005", "b.step-000020", "b.step-000100"]
    assert list(done.cka) == ["map", "map.step-000005", "map.step-000020"]
    found = {cka.step: cka for cka in done.cka.values()}
    assert list(found) == [100, 5, 20]
    assert {cka.series for cka in found.values()} == {"map"}
    assert not np.allclose(found[5].similarity, found[100].similarity)
    assert done.activations("b.step-000020").attributes["model"]["path"] == "ck/step-20"
    both = config_text(sources, models).replace("{sources}/first", "ck/step-*")
    again = run(both, "models.a.path=ck/step-*0", "run.dir=both")
    assert sorted(cka.step for cka in again.cka.values()) == [20, 100]
    assert again.cka["map"].similarity.diagonal() == pytest.approx([1.0] * 3, abs=1e-6)
    line = refusal(tmp_path, both, "models.a.path=ck/step-5*", "models.b.path=ck/step-2*")
    assert "'a' has steps 5, 'b' has 20; two series are paired by step" in line
    assert "no checkpoint matches 'ck/none-*'" in refusal(tmp_path, both, "models.a.path=ck/none-*")
    (tmp_path / "ck" / "v2-step-5").symlink_to(tmp_path / "ck" / "step-5")
    assert "has the number of" in refusal(tmp_path, both, "models.a.path=ck/*5")
    plan = make_plan(load_config(tmp_path / "config.toml"))
    costs = estimate(load_config(tmp_path / "config.toml"), plan)
    assert all(cost.flops for p, cost in zip(plan, costs, strict=True) if p.stage == "extract")


def test_checkpoints_of_a_training_are_a_series(sources: Path, run: RunConfig) -> None:
    done = run(
        f"""
[run]
dir = "run"
device = "cpu"

[data]
source = "few-nerd"
path = "{sources}/few-nerd"
validation_share = 0.5
samples = 16
vocabulary = 300

[models.m]
source = "train"
embedding = true

[training]
steps = 3
checkpoints = [1, 2]
batch_size = 1
sequence_length = 8
warmup_steps = 1
validation_sequences = 1

[[cka]]
name = "self"
y = "m"
x = "m"
batch_size = 8

[[lens]]
models = ["m"]
checkpoints = true
"""
    )
    assert done.models == ["m", "m.step-000001", "m.step-000002"]
    assert list(done.lens) == done.models
    config = load_config(Path("config.toml"))
    plan = make_plan(config)
    costs = {task.makes: cost for task, cost in zip(plan, estimate(config, plan), strict=True)}
    assert costs["extract/m.step-000001"].flops == costs["extract/m"].flops > 0
    assert costs["lens/m.step-000001"].flops == 0  # read in the extraction's pass
    for name, curve in done.lens.items():
        kl = done.activations(name).readouts["lens_kl_final_layer"][0:16].astype(np.float64)
        assert curve.kl == pytest.approx(kl.mean(axis=0))
    assert [curve.label for curve in done.lens.values()] == ["m", "m, step 1", "m, step 2"]
    assert not np.allclose(done.lens["m"].kl, done.lens["m.step-000001"].kl, rtol=1e-3)
    assert {name: cka.step for name, cka in done.cka.items()} == {
        "self": 3,
        "self.step-000001": 1,
        "self.step-000002": 2,
    }
    first, last = (done.activations(name).layers[0][0:16] for name in ("m.step-000001", "m"))
    assert not np.allclose(first, last)
