"""Decoders: loading them, finding their parts, building them, and the Engram module.

Public names load on first use, since all but the presets need torch and transformers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
