from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

from engramcka.config import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models import PRESETS, build_model, preset_config, preset_layers
from engramcka.models.allocation import (
    allocate,
    expert_parameters,
    fusion_parameters,
    table_parameters,
)
from engramcka.models.build import count_parameters, describe_presets, meta_model
from engramcka.models.hyper import HyperDeepseekForCausalLM
from engramcka.models.presets import find_preset, preset_engram

PAPER = {  # total, active (section 4.1)
    "dense-4b": (4.1e9, 3.8e9),
    "moe-27b": (26.7e9, 3.8e9),
    "engram-27b": (26.7e9, 3.8e9),
    "engram-40b": (39.5e9, 3.8e9),
}


@pytest.fixture(scope="module")
def rows():
    return {row.name: row for row in describe_presets()}


@pytest.mark.parametrize("name", PAPER)
def test_totals_are_the_papers_within_one_percent(rows, name):
    total, active = PAPER[name]
    assert rows[name].total == pytest.approx(total, rel=0.01)
    assert rows[name].active == pytest.approx(active, rel=0.01)


def test_engram_parameters_and_rho_are_the_papers(rows):
    assert rows["engram-27b"].rho == pytest.approx(0.743, abs=0.0005)
    assert rows["engram-40b"].engram == pytest.approx(18.5e9, rel=0.01)
    tables = count_parameters(meta_model("engram-27b", 129_280)).tables
    assert tables == pytest.approx(2 * 2_262_400 * 1280, rel=2e-4)
    assert rows["engram-3b"].total - rows["moe-3b"].total == pytest.approx(1.6e9, rel=0.01)
    assert rows["moe-3b"].active == pytest.approx(0.56e9, rel=0.01)


def test_pairs_have_as_many_parameters(rows):
    pairs = [row for row in rows.values() if row.pair]
    assert len(pairs) == 6
    for row in pairs:
        assert row.total == pytest.approx(rows[row.pair].total, rel=1e-3), row.name
        assert row.engram > 0.05 * row.total or row.name.startswith("engram-27b")


def test_every_preset_is_described(rows):
    assert set(rows) == set(PRESETS)
    assert [rows[n].rho for n in ("dense-4b", "moe-27b")] == [None, 1.0]


@pytest.mark.parametrize("rho", [0.5, 0.743, 0.9])
def test_allocation_is_iso_at_every_rho(rho):
    numbers = find_preset("moe-100m").numbers
    engram = EngramConfig(layers=(2, 6), d_mem=256, heads=8)
    solved = allocate(numbers, engram, rho)
    config = preset_config("moe-100m", 1000)
    config.n_routed_experts = solved.experts
    plain = count_parameters(meta_model("moe-100m", 1000))
    with torch.device("meta"):
        backbone = AutoModelForCausalLM.from_config(config)
    cost = fusion_parameters(solved.engram, 512, 1) + table_parameters(solved.engram)
    total = sum(p.numel() for p in backbone.parameters()) + cost
    assert total == pytest.approx(plain.total, rel=1e-3)
    inactive = count_parameters(backbone).inactive_experts
    assert inactive / (inactive + table_parameters(solved.engram)) == pytest.approx(rho, abs=0.04)


@pytest.mark.parametrize("name", ["engram-tiny", "engram-tiny-hyper", "engram-100m-hyper"])
def test_closed_forms_count_what_the_model_has(name):
    preset = find_preset(name)
    count = count_parameters(meta_model(name, 500))
    streams = preset.numbers.get("hc_mult", 1)
    fusion = fusion_parameters(preset.engram, preset.numbers["hidden_size"], streams)
    assert count.tables == table_parameters(preset.engram)
    assert count.engram == count.tables + fusion
    more = dict(preset.numbers, n_routed_experts=preset.numbers["n_routed_experts"] + 1)
    config = preset_config(name, 500)
    config.n_routed_experts += 1
    with torch.device("meta"):
        larger = AutoModelForCausalLM.from_config(config)
    plain = count.total - count.engram
    assert sum(p.numel() for p in larger.parameters()) - plain == expert_parameters(more)


def test_refuses_what_cannot_be_solved():
    numbers = find_preset("moe-tiny").numbers
    with pytest.raises(ConfigError, match="leaves all 8 experts"):
        allocate(numbers, EngramConfig(layers=(2,)), 0.99)
    with pytest.raises(ConfigError, match="too few for the tables"):
        allocate(numbers, EngramConfig(layers=(1, 2, 3, 4, 5, 6), d_mem=1024), 0.8)
    with pytest.raises(ConfigError, match="'moe-1b' is not known; there are dense-4b"):
        preset_layers("moe-1b")


def test_presets_with_modules_are_built_with_them(tokenizer):
    model = build_model("engram-tiny", None, tokenizer, 0)
    assert model.config.modules == preset_engram("engram-tiny")
    moved = build_model("engram-tiny", EngramConfig(layers=(5,)), tokenizer, 0)
    assert list(moved.engrams) == ["5"]
    fewer = build_model("moe-tiny", None, tokenizer, 0, experts=3)
    assert fewer.config.n_routed_experts == 3
    assert preset_layers("moe-tiny") == len(fewer.model.layers) == 6


def test_numbers_load_without_torch():
    code = (
        "import sys; from engramcka.models.presets import preset_engram, preset_layers\n"
        "print(preset_layers('engram-27b'), preset_engram('engram-3b-iso').layers)\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["30 (2, 6)", "[]"]


def test_hyper_connections_that_mix_nothing_are_an_ordinary_residual(tokenizer):
    """With zero projections every stream carries the same residual: DeepSeek-V3 exactly."""
    plain = build_model("moe-tiny", None, tokenizer, 0).eval()
    plain.get_input_embeddings().weight.data.mul_(50.0)  # far above the norms' epsilon
    hyper = build_model("moe-tiny-hyper", None, tokenizer, 1).eval()
    assert isinstance(hyper, HyperDeepseekForCausalLM)
    missing, unexpected = hyper.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all("_hc." in name or "hc_head" in name for name in missing)
    for name, weight in hyper.named_parameters():
        if name.endswith(("_hc.fn", "hc_head.hc_fn")):
            weight.data.zero_()
    ids = torch.randint(3, 300, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(
            hyper(input_ids=ids).logits, plain(input_ids=ids).logits, rtol=1e-4, atol=1e-4
        )
    hyper.model.layers[0].attn_hc.fn.data.normal_()
    with torch.no_grad():
        assert (hyper(input_ids=ids).logits - plain(input_ids=ids).logits).abs().max() > 1e-3
