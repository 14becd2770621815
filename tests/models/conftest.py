from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as tokenizer_models
from torch import nn
from transformers import PreTrainedTokenizerFast

TEXT = [
    "The quick brown fox. the QUICK brown Fox; a naïve café, a NAIVE CAFE.",
    "def find_blocks(model): return model.layers  # def Find_Blocks(Model)",
    "import os\nimport sys\n\n\nclass Table:\n    pass\n",
] * 4


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 359 ids with a pad token of its own."""
    backend = Tokenizer(tokenizer_models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=359,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture
def qwen4() -> nn.Module:
    found = pytest.importorskip("transformers.models.qwen4_exp", reason="transformers < 5.24")
    config = found.Qwen4ExpTextConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, linear_key_head_dim=8, linear_value_head_dim=8,
        linear_num_key_heads=2, linear_num_value_heads=2, moe_intermediate_size=16,
        shared_expert_intermediate_size=16, num_experts_per_tok=2, num_experts=4, hc_lowrank=8,
        hc_count=4, ple_layer_ids=[2, 3], ple_embed_dim=24, ngram_size=3, heads_per_ngram=2,
        ngram_vocab_size_base=40, make_ngram_vocab_size_divisible_by=4, split_ngram_parts=2,
        eos_token_id=7, pad_token_id=0, initializer_range=0.3,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4,
                         "partial_rotary_factor": 0.25},
    )  # fmt: skip
    torch.manual_seed(2)
    model = found.Qwen4ExpForCausalLM(config).eval()
    for block in model.model.layers[1:]:
        block.ple.conv1d.weight.data.normal_()
    return model
