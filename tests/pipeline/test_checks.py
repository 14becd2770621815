"""What is refused of a valid config before anything is written, and what `check` says of ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_fixtures import config_text, refusal
from transformers import AutoModelForCausalLM

from engramcka.config import load_config
from engramcka.errors import EngramckaError
from engramcka.pipeline import make_plan
from engramcka.pipeline.estimate import estimate, shared_out


def test_check_says_what_each_of_several_ranks_would_hold(sources: Path, tmp_path: Path) -> None:
    models = """
[models.a]
source = "hf"
path = "{sources}/first"
parallel = "tp"

[models.b]
source = "hf"
path = "{sources}/second"
"""
    text = config_text(sources, models, cka="")
    (tmp_path / "c.toml").write_text(text)
    (line,) = shared_out(load_config(tmp_path / "c.toml"))
    model = AutoModelForCausalLM.from_pretrained(sources / "first")
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    held = norms + (sum(p.numel() for p in model.parameters()) - norms) / 2
    assert line == (
        "a: parallel = 'tp', all ranks hold it as one; weights a rank: 2 ranks "
        f"{4 * held / 1e9:.3g} GB (num_attention_heads 2, num_key_value_heads 2, "
        "self_attn.q_proj 16)"
    )
    says = refusal(tmp_path, text, "models.a.quantization=8bit")
    assert "parallel = 'tp' does not share out weights that bitsandbytes quantises" in says


def test_a_model_that_cannot_be_compared_is_refused_before_anything_is_done(
    sources: Path, tmp_path: Path
) -> None:
    from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration

    t5 = T5Config(vocab_size=20, d_model=16, d_ff=16, d_kv=8, num_layers=2, num_heads=2)
    T5ForConditionalGeneration(t5).save_pretrained("t5")
    text = config_text(sources, '[models.a]\nsource = "hf"\npath = "t5"\n', cka="")
    line = refusal(tmp_path, text)
    assert "models.a.path: 't5' was saved as T5ForConditionalGeneration, neither a causal" in line
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(**small, vocab_size=50, intermediate_size=16)).save_pretrained("bert")
    lens = '[models.a]\nsource = "hf"\npath = "bert"\n[[lens]]\nmodels = ["a"]\n'
    assert "'a' is an encoder, so there is no LM head" in refusal(
        tmp_path, config_text(sources, lens, cka="")
    )


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("models.a.quantization=4bit", "found '4bit', bitsandbytes is not installed here"),
        ("models.a.attn_implementation=flash_attention_2", "flash_attn is not installed here"),
        ("models.a.streams=middle", "found 'middle'; allowed: 'mean', 'sum', 'concat', or a str"),
        ("models.a.path=./nowhere", "no model in './nowhere'"),
        ("data.split=none", None),
        ("data.path=./nowhere", "no folder './nowhere'"),
    ],
)
def test_what_the_config_alone_can_tell(
    override: str, says: str | None, sources: Path, tmp_path: Path
) -> None:
    model = '[models.a]\nsource = "hf"\npath = "{sources}/first"\n'
    text = config_text(sources, model, cka="")
    if says is not None:
        assert says in refusal(tmp_path, text, override)
        return
    (tmp_path / "c.toml").write_text(text)
    loaded = load_config(tmp_path / "c.toml", [override])
    with pytest.raises(EngramckaError, match="has no split 'none'; allowed: 'train', 'test'"):
        estimate(loaded, make_plan(loaded))
