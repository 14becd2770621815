"""How a model is shared out over ranks: held against transformers' own plan and shapes."""

from __future__ import annotations

import pytest
from families import tiny

from engramcka.errors import ConfigError
from engramcka.models.tensor_parallel import require_sharding, sharding_of


def test_what_each_rank_holds_of_a_llama() -> None:
    model = tiny("llama", 331)  # embedding and LM head are one
    width, inner, heads_of_keys, blocks = 32, 48, 2 / 4, 3
    block = 2 * width * width + 2 * heads_of_keys * width * width + 3 * width * inner
    norms = (2 * blocks + 1) * width
    sharding = sharding_of(model, 4)
    assert sharding.sharded == blocks * block + 331 * width
    assert sharding.replicated == norms
    assert sharding.sharded + sharding.replicated == sum(p.numel() for p in model.parameters())
    assert sharding.held(2) == norms + sharding.sharded / 2
    assert sharding.allowed == [2]
    assert sharding.reason.startswith("num_key_value_heads 2, num_attention_heads 4, ")


def test_experts_side_by_side_are_cut_each_by_itself_and_by_16_bytes() -> None:
    model = tiny("deepseek_v3", 320)  # its plan leaves attention whole; 24 columns an expert
    assert "heads" not in sharding_of(model, 4).reason
    assert sharding_of(model, 4).allowed == [2, 3, 6]
    assert sharding_of(model, 2).allowed == [3]
    assert sharding_of(model, 2).reason.startswith("experts.gate_up_proj (by 8) 3, ")


@pytest.mark.parametrize("ranks", [3, 4])
def test_heads_are_not_cut(ranks: int) -> None:
    with pytest.raises(ConfigError, match=rf"over {ranks} ranks \(num_key_value_heads 2, .*: 2$"):
        require_sharding(tiny("llama", 320), 2, ranks)
    require_sharding(tiny("llama", 320), 2, 2)


def test_a_family_without_a_plan_is_refused() -> None:
    with pytest.raises(ConfigError, match="GPT2LMHeadModel has no tensor-parallel plan"):
        sharding_of(tiny("gpt2", 320), 4)
