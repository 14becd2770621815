"""Text, entities and tokens: what models are trained on and where they are compared."""

from engramcka.data.corpora import (
    PYTHON_MANUAL,
    Corpus,
    corpus_inputs,
    load_corpus,
    other_documents,
    other_inputs,
)
from engramcka.data.documents import DataKeyError, Document, Entity
from engramcka.data.placement import LeftOut, Passages, place_samples
from engramcka.data.samples import Samples, common_rows, draw_samples
from engramcka.data.tokenization import (
    document_positions,
    spread_sequences,
    token_sequences,
    train_tokenizer,
)

__all__ = [
    "PYTHON_MANUAL",
    "Corpus",
    "DataKeyError",
    "Document",
    "Entity",
    "LeftOut",
    "Passages",
    "Samples",
    "common_rows",
    "corpus_inputs",
    "document_positions",
    "draw_samples",
    "load_corpus",
    "other_documents",
    "other_inputs",
    "place_samples",
    "spread_sequences",
    "token_sequences",
    "train_tokenizer",
]
