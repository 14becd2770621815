"""engramcka: compare language models layer by layer.

Public names load on first use (PEP 562), so that importing the package, the command line or the
terminal app costs neither torch nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from engramcka.models.registration import register_architectures

if TYPE_CHECKING:
    from engramcka.results import CkaMap, LossSweep
    from engramcka.similarity import cka_map
    from engramcka.stores import Run, open_run

__version__ = "0.1.0"

_HOMES = {
    "CkaMap": "engramcka.results",
    "LossSweep": "engramcka.results",
    "Run": "engramcka.stores",
    "cka_map": "engramcka.similarity",
    "open_run": "engramcka.stores",
}

__all__ = ["CkaMap", "LossSweep", "Run", "__version__", "cka_map", "open_run"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


register_architectures()
