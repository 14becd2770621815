"""The configs for models and text of one's own run on small ones as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_sources import RunConfig

from engramcka.config import load_config
from engramcka.pipeline import make_plan
from engramcka.pipeline.estimate import estimate

PUBLISHED = ("qwen-memory", "qwen", "deepseek-memory", "deepseek")
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


def test_the_published_config_runs_on_small_models_of_its_kinds(
    sources: Path, run: RunConfig, tmp_path: Path
) -> None:
    import small_qwen4
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from engramcka.config import EngramConfig
    from engramcka.models import graft

    tokenizer = AutoTokenizer.from_pretrained(sources / "first")
    small_qwen4.model(len(tokenizer)).save_pretrained(tmp_path / "qwen-memory")
    engram = EngramConfig(layers=(2,), table_size=40, d_mem=8, heads=2)
    backbone = AutoModelForCausalLM.from_pretrained(sources / "first")
    graft(backbone, engram, tokenizer).save_pretrained(tmp_path / "deepseek-memory")
    paths = {"qwen": sources / "first", "deepseek": sources / "first"}
    for name in ("qwen-memory", "deepseek-memory"):
        tokenizer.save_pretrained(tmp_path / name)
        paths[name] = tmp_path / name
    changes = [
        *(f"models.{name}.path={path}" for name, path in paths.items()),
        *(f"models.{name}.parallel=none" for name in PUBLISHED),
        "models.qwen-memory.dtype=float32",
        f"data.path={sources}/few-nerd",
        "data.samples=24",
        "cka.qwen.batch_size=12",
        "cka.deepseek.batch_size=12",
        "gates.0.passages=8",
        "run.device=cpu",
    ]
    done = run((CONFIGS / "published.toml").read_text(), *changes)
    assert set(done.cka) == {"qwen", "deepseek"}
    assert set(done.gates) == set(done.memory) == {"qwen-memory", "deepseek-memory"}
    assert set(done.lens) == {"qwen-memory", "qwen-memory.memory-off", "qwen"}
    assert done.gates["qwen-memory"].layers == (2, 3)
    assert done.gates["qwen-memory"].alpha.shape[2] == 4
    memory = done.memory["qwen-memory"]
    assert memory.loss_on[0] != memory.loss_off[0]
