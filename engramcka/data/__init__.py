"""Text, entities and tokens: what models are trained on and where they are compared.

Knows nothing of models; a tokenizer is an argument.
"""

from engramcka.data.corpora import Corpus, Document, corpus_inputs, load_corpus
from engramcka.data.samples import Samples, common_rows, draw_samples
from engramcka.data.tokenization import (
    Passages,
    place_samples,
    token_sequences,
    train_tokenizer,
)

__all__ = [
    "Corpus",
    "Document",
    "Passages",
    "Samples",
    "common_rows",
    "corpus_inputs",
    "draw_samples",
    "load_corpus",
    "place_samples",
    "token_sequences",
    "train_tokenizer",
]
