"""The configs for models and text of one's own run on small ones as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_sources import RunConfig

from engramcka.config import load_config
from engramcka.pipeline import make_plan
from engramcka.pipeline.estimate import estimate

CONFIGS = Path(__file__).parents[2] / "sample_configs"


def overrides(name: str, sources: Path) -> list[str]:
    small = {
        "few-nerd": [
            f"data.path={sources}/few-nerd",
            "data.samples=48",
            f"models.baseline.path={sources}/first",
            f"models.engram.path={sources}/second",
            "cka.engram-vs-baseline.batch_size=16",
            "cka.people.batch_size=8",
        ],
        "hf": [
            "data.samples=32",
            f"models.first.path={sources}/first",
            f"models.second.path={sources}/second",
            "cka.second-vs-first.batch_size=16",
        ],
    }
    return [*small[name], "run.device=cpu"]


@pytest.mark.parametrize("name", ["few-nerd", "hf"])
def test_a_sample_config_runs_on_small_models(name: str, sources: Path, run: RunConfig) -> None:
    text = (CONFIGS / f"{name}.toml").read_text()
    done = run(text, *overrides(name, sources))
    for cka in done.cka.values():
        assert cka.similarity.shape == (3, 3)
        assert cka.n_samples
    if name == "few-nerd":
        people = done.cka["people"]
        assert people.where == "kind = 'person'"
        kinds = done.activations("baseline").samples["kind"]
        assert people.n_samples == (kinds == "person").sum() < 48
        assert done.activations("baseline").attributes["dtype"] == "bfloat16"
    config = load_config(Path("config.toml"), overrides(name, sources))
    plan = make_plan(config)
    assert all(task.is_done() for task in plan)
    for task, cost in zip(plan, estimate(config, plan), strict=True):
        assert cost.flops > 0
        assert (cost.bytes > 0) or task.stage == "figures"
