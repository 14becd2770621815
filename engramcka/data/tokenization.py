"""From text to the tokens to train on, and a tokenizer of our own for models trained here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
    for _, ids in _tokenized(tokenizer, documents, order):
        pieces.append(ids)
        have += len(ids)
        if have >= wanted:
            break
    return np.resize(_joined(pieces), wanted).reshape(count, length)


def spread_sequences(
    tokenizer: Any, documents: Sequence[Document], *, length: int, count: int, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """As `token_sequences`, from as many documents as there can be.

    Of a document longer than its share, one stretch at a random place is taken. The share is one
    sequence where there are as many documents as sequences, else as many more as it takes.

    Returns:
        (count, length) int64 token ids, and (count,) int64, the place in ``documents`` of the one
        that the middle of each sequence is from.

    Raises:
        DataError: the documents hold no token.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(documents))
    share = length * -(-count // max(1, len(order)))
    found: list[tuple[int, npt.NDArray[np.int64]]] = []
    have, wanted = 0, count * length
    for index, ids in _tokenized(tokenizer, documents, order):
        found.append((index, ids))
        have += min(len(ids), share)
        if have >= wanted:
            break
    longest = max((len(ids) for _, ids in found), default=0)
    while sum(min(len(ids), share) for _, ids in found) < wanted and share < longest:
        share += length
    kept = [(index, _stretch(ids, share, generator)) for index, ids in found]
    stream = np.resize(_joined([ids for _, ids in kept]), wanted)
    owners = np.resize(np.repeat([i for i, _ in kept], [len(ids) for _, ids in kept]), wanted)
    return stream.reshape(count, length), owners.reshape(count, length)[:, length // 2]


def document_positions(sequences: npt.NDArray[np.int64], end_id: int) -> npt.NDArray[np.int64]:
    """Place of each token in its document, or in what a sequence holds of it, from 0.

    Args:
        sequences: (count, length) token ids, documents end to end.
        end_id: the token that ends a document, itself its last.

    Returns:
        (count, length) int64.
    """
    places = np.arange(sequences.shape[1])
    begins = np.zeros_like(sequences)
    begins[:, 1:] = np.where(sequences[:, :-1] == end_id, places[1:], 0)
    return places - np.maximum.accumulate(begins, axis=1)


def _tokenized(
    tokenizer: Any, documents: Sequence[Document], order: npt.NDArray[np.int64]
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Places of documents and their token ids, the end of text among them."""
    for start in range(0, len(order), 64):
        some = order[start : start + 64].tolist()
        texts = [documents[index].text for index in some]
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        for index, tokens in zip(some, ids, strict=True):
            yield index, np.array([*tokens, tokenizer.eos_token_id], dtype=np.int64)


def _stretch(
    ids: npt.NDArray[np.int64], length: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """At most so many tokens, from a random place."""
    start = int(generator.integers(0, max(0, len(ids) - length) + 1))
    return ids[start : start + length]


def _joined(pieces: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    if not pieces:
        raise DataError("data: the text holds no token to train on or to validate with")
    return np.concatenate(pieces)
