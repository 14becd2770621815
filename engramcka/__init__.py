"""engramcka: compare language models layer by layer.

Public names load on first use (PEP 562), so that importing the package, the command line or the
terminal app costs neither torch nor matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engramcka.lazy import attach

if TYPE_CHECKING:
    from engramcka.results import CkaMap, LossSweep
    from engramcka.similarity import cka_map
    from engramcka.stores import Run, open_run

__version__ = "0.1.0"

_HOMES = {
    "CkaMap": "results",
    "LossSweep": "results",
    "Run": "stores",
    "cka_map": "similarity",
    "open_run": "stores",
}

__all__ = ["CkaMap", "LossSweep", "Run", "__version__", "cka_map", "open_run"]

__getattr__, __dir__ = attach(__name__, __all__, _HOMES)
