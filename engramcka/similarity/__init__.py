"""Similarity of hidden states: HSIC, CKA, other measures, their uncertainty, and diagnostics.

Tensors in, numbers out; no files. Names load on first use (PEP 562): what the terminal app needs of
this package does without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
