"""Results as matplotlib figures, ready for a camera-ready PDF.

Knows results and the one output file; nothing of models, runs or other paths. Names load on first
use (PEP 562): importing this package imports no matplotlib.

`plot_cka_map` and `plot_sweep` draw on the caller's axes and return the artists. `cka_figure` and
`sweep_figure` make a whole figure in the style of a venue, `save_figure` writes one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engramcka.figures.difference import difference_figure, plot_cka_difference
    from engramcka.figures.export import (
        FORMATS,
        figure_bytes,
        save_cka_map,
        save_figure,
        save_sweep,
    )
    from engramcka.figures.heatmap import CkaMapArtists, cka_figure, plot_cka_map
    from engramcka.figures.panels import cka_panels
    from engramcka.figures.paper import paper_figure
    from engramcka.figures.style import STYLES, Style
    from engramcka.figures.sweep import SweepArtists, plot_sweep, sweep_figure

_HOMES = {
    "CkaMapArtists": "heatmap",
    "FORMATS": "export",
    "STYLES": "style",
    "Style": "style",
    "SweepArtists": "sweep",
    "cka_figure": "heatmap",
    "cka_panels": "panels",
    "difference_figure": "difference",
    "figure_bytes": "export",
    "paper_figure": "paper",
    "plot_cka_difference": "difference",
    "plot_cka_map": "heatmap",
    "plot_sweep": "sweep",
    "save_cka_map": "export",
    "save_figure": "export",
    "save_sweep": "export",
    "sweep_figure": "sweep",
}

__all__ = [
    "FORMATS",
    "STYLES",
    "CkaMapArtists",
    "Style",
    "SweepArtists",
    "cka_figure",
    "cka_panels",
    "difference_figure",
    "figure_bytes",
    "paper_figure",
    "plot_cka_difference",
    "plot_cka_map",
    "plot_sweep",
    "save_cka_map",
    "save_figure",
    "save_sweep",
    "sweep_figure",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"engramcka.figures.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
