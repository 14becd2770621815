"""Results as matplotlib figures, ready for a camera-ready PDF.

Names load on first use (PEP 562) from where `__init__.pyi` says: importing this package imports no
matplotlib.

`plot_cka_map` and the other ``plot_`` functions draw on the caller's axes and return the artists.
`cka_figure` and the like make a whole figure in the style of a venue, `result_figure` that of any
result, and `save_figure` writes one. `cka_panels`, `series_figure`, `difference_figure` and
`paper_figure` compose several results; `save_table` writes numbers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
