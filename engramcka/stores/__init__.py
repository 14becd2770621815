"""The Zarr layouts of a run directory: reading and writing hidden states and results.

Names load on first use (PEP 562), so that the names of the layout can be read without zarr.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
