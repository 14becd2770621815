"""Forward passes to the hidden states asked for to a store; knows nothing of their use."""

from engramcka.extraction.extract import extract, read_passages, sample_counts

__all__ = ["extract", "read_passages", "sample_counts"]
