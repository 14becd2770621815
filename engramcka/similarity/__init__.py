"""Similarity of hidden states: HSIC, CKA, their uncertainty, and diagnostics of the layers.

Tensors in, numbers out; no files.
"""

from engramcka.similarity.cka import cka_map

__all__ = ["cka_map"]
