"""Forward passes to the hidden states asked for to a store; knows nothing of their use."""

from engramcka.extraction.extract import extract

__all__ = ["extract"]
