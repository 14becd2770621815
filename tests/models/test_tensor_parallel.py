"""How a model is shared out over ranks: held against transformers' own plan and shapes."""

from __future__ import annotations

import pytest
from families import tiny

from engramcka.errors import ConfigError
from engramcka.models.tensor_parallel import require_sharing, sharing_of


def test_what_each_rank_holds_of_a_llama() -> None:
    model = tiny("llama", 331)  # embedding and LM head are one
    width, inner, heads_of_keys, blocks = 32, 48, 2 / 4, 3
    block = 2 * width * width + 2 * heads_of_keys * width * width + 3 * width * inner
    norms = (2 * blocks + 1) * width
    sharing = sharing_of(model)
    assert sharing.shared == blocks * block + 331 * width
    assert sharing.whole == norms
    assert sharing.shared + sharing.whole == sum(p.numel() for p in model.parameters())
    assert sharing.held(2) == norms + sharing.shared / 2
    assert sharing.allowed == [2]
    assert sharing.because.startswith("num_key_value_heads 2, num_attention_heads 4, ")


def test_experts_side_by_side_are_cut_each_by_itself() -> None:
    sharing = sharing_of(tiny("deepseek_v3", 320))  # its plan leaves attention whole
    assert "heads" not in sharing.because
    assert sharing.divisor == 24  # columns of an expert, of the shared one too; 48 of the first MLP
    assert sharing.allowed == [2, 3, 4, 6, 8, 12, 24]


@pytest.mark.parametrize("ranks", [3, 4])
def test_heads_are_not_cut(ranks: int) -> None:
    with pytest.raises(ConfigError, match=rf"over {ranks} ranks \(num_key_value_heads 2, .*: 2$"):
        require_sharing(tiny("llama", 320), ranks)
    require_sharing(tiny("llama", 320), 2)


def test_a_family_without_a_plan_is_refused() -> None:
    with pytest.raises(ConfigError, match="GPT2LMHeadModel has no tensor-parallel plan"):
        sharing_of(tiny("gpt2", 320))
