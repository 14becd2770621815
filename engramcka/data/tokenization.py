"""Text to tokens to train on, and a tokenizer of our own for models trained here.

Takes tokenizers as arguments and knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engramcka.data.documents import Document
from engramcka.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"


def train_tokenizer(documents: Iterable[Document], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the documents.

    Args:
        documents: the training text.
        vocabulary: entries, special tokens and the 256 bytes among them.

    Raises:
        DataError: the text is too small for that many entries.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((document.text for document in documents), trainer)
    if tokenizer.get_vocab_size() < vocabulary:
        raise DataError(
            f"data.vocabulary: found {vocabulary}, the text gives only "
            f"{tokenizer.get_vocab_size()} entries; allowed: at most that many"
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD
    )


def token_sequences(
    tokenizer: Any, documents: Sequence[Document], *, length: int, count: int, seed: int
) -> npt.NDArray[np.int64]:
    """Documents in a seeded order, end to end, cut into sequences.

    Args:
        tokenizer: a fast Hugging Face tokenizer with an end-of-text token.
        documents: the text; read again from the start if it is short.
        length: tokens a sequence.
        count: sequences.
        seed: of the order.

    Returns:
        (count, length) int64 token ids.

    Raises:
        DataError: the documents hold no token.
    """
    order = np.random.default_rng(seed).permutation(len(documents))
    pieces: list[npt.NDArray[np.int64]] = []
    have, wanted = 0, count * length
    for start in range(0, len(order), 64):
        texts = [documents[index].text for index in order[start : start + 64].tolist()]
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
            pieces.append(np.array([*ids, tokenizer.eos_token_id], dtype=np.int64))
            have += len(pieces[-1])
        if have >= wanted:
            break
    if not have:
        raise DataError("data: the text holds no token to train on or to validate with")
    stream = np.concatenate(pieces)
    return np.resize(stream, wanted).reshape(count, length)
