"""What the analyses find, as small NumPy dataclasses: what is stored, drawn and read.

One module a kind of result: its fields with the dimensions they are stored along, its numbers as
rows, what it says in a sentence. `engramcka.results.kinds` lists the kinds. Layers are blocks,
counted from 1.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
