from __future__ import annotations

import pytest
import small_qwen4
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
    return small_qwen4.model(300)
