"""What `check` remarks about a config that is valid and hardly meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from engramcka.config import Config, load_config
from engramcka.pipeline.checks import advice
from engramcka.pipeline.spec import RunSpec

SAMPLES = Path(__file__).parents[2] / "sample_configs"


def quickstart(*settings: str) -> Config:
    return load_config(SAMPLES / "quickstart.toml", list(settings))


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_the_sample_configs_are_meant(path: Path) -> None:
    assert not list(advice(load_config(path)))


def test_experts_that_nothing_evens_out_are_remarked() -> None:
    (line,) = advice(quickstart("training.balancing=none"))
    assert line.startswith("training.balancing = 'none': nothing evens out")
    dense = ("models.moe.preset=dense-4b", "models.engram.preset=dense-4b")
    assert not list(advice(quickstart("training.balancing=none", *dense)))


def test_a_bias_that_cannot_reach_is_remarked() -> None:
    (line,) = advice(quickstart("training.balancing_rate=1e-3"))
    assert "in 100 steps the bias moves by at most 0.1" in line
    assert "0.01 or more reaches" in line
    assert not list(advice(quickstart("training.balancing_rate=1e-3", "training.steps=1000")))


def test_numbers_of_another_schedule_do_not_make_another_training() -> None:
    names = [
        RunSpec(quickstart(f"training.schedule={schedule}", f"training.decay_factor={factor}"))
        .trainings["moe"]
        .name
        for schedule in ("cosine", "step")
        for factor in (0.5, 0.25)
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3
