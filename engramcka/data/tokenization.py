"""Text to tokens: a tokenizer of our own for models trained here, and spans to token positions.

Takes tokenizers as arguments and knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engramcka.data.corpora import Corpus, Document
from engramcka.data.samples import Samples
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


@dataclass(frozen=True)
class Passages:
    """Token ids of the passages that samples stand in, and where in them each sample is."""

    ids: tuple[npt.NDArray[np.int64], ...]  # a passage each, (tokens,)
    passage: npt.NDArray[np.int64]  # (samples,) index into ids
    first: npt.NDArray[np.int64]  # (samples,) first token of the sample within its passage
    last: npt.NDArray[np.int64]  # (samples,) its last token; the same one where it is a point
    samples: Samples  # the samples that could be placed, in the order given
    skipped: int  # samples that could not: their last token was cut off

    @property
    def is_point(self) -> bool:
        """Whether every sample is a single token."""
        return bool((self.first == self.last).all())


def place_samples(tokenizer: Any, corpus: Corpus, samples: Samples, max_length: int) -> Passages:
    """Tokenise every passage once and find the last token of each sample's entity.

    Args:
        tokenizer: a fast Hugging Face tokenizer (one that gives character offsets).
        corpus: holds the validation documents that the samples name.
        samples: what to place.
        max_length: tokens a passage; what comes after is cut off.
    """
    keys = list(zip(samples.document.tolist(), samples.passage_start.tolist(), strict=True))
    first_rows = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
    order = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    texts = [
        corpus.validation_text(document)[start : int(samples.passage_end[first_rows[key]])]
        for key in order
        for document, start in [key]
    ]
    encoded = tokenizer(texts, truncation=True, max_length=max_length, return_offsets_mapping=True)
    spans = [
        np.array(offsets, dtype=np.int64).reshape(-1, 2) for offsets in encoded["offset_mapping"]
    ]
    passage = np.array([order[key] for key in keys], dtype=np.int64)
    last_character = samples.end - 1 - samples.passage_start
    last = np.array(
        [
            _last_token(spans[index], character)
            for index, character in zip(passage.tolist(), last_character.tolist(), strict=True)
        ],
        dtype=np.int64,
    )
    placed = last >= 0
    return Passages(
        ids=tuple(np.array(ids, dtype=np.int64) for ids in encoded["input_ids"]),
        passage=passage[placed],
        first=last[placed],
        last=last[placed],
        samples=samples.take(placed),
        skipped=int((~placed).sum()),
    )


def _last_token(spans: npt.NDArray[np.int64], character: int) -> int:
    """Index of the last token that covers a character, or -1 where it was cut off."""
    covering = np.flatnonzero((spans[:, 0] <= character) & (character < spans[:, 1]))
    return int(covering[-1]) if len(covering) else -1


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
