"""Forward passes of a model: hidden states into a store, read-outs into memory."""

from engramcka.extraction.extract import extract, read_passages, sample_counts

__all__ = ["extract", "read_passages", "sample_counts"]
