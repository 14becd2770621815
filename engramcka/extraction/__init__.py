"""Forward passes to the hidden states asked for to a store; knows nothing of their use."""

from engramcka.extraction.extract import extract, sample_counts
from engramcka.extraction.readings import read_passages

__all__ = ["extract", "read_passages", "sample_counts"]
