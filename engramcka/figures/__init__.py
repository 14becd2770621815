"""Results as matplotlib figures, ready for a camera-ready PDF.

Knows results and the one output file; nothing of models, runs or other paths. Names load on first
use (PEP 562): importing this package imports no matplotlib.

`plot_cka_map`, `plot_lens`, `plot_sweep` draw on the caller's axes and return the artists;
`cka_figure`, `lens_figure`, `sweep_figure` make a whole figure in the style of a venue, and
`save_figure` writes one. `cka_panels`, `difference_figure` and `paper_figure` compose several
results; `save_table` writes numbers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engramcka.figures.captions import cka_caption, lens_caption, sweep_caption
    from engramcka.figures.difference import difference_figure, plot_cka_difference
    from engramcka.figures.export import (
        FORMATS,
        figure_bytes,
        notebook_png,
        save_cka_map,
        save_figure,
        save_sweep,
    )
    from engramcka.figures.heatmap import CkaMapArtists, cka_figure, plot_cka_map
    from engramcka.figures.lens import READINGS, LensArtists, lens_figure, plot_lens
    from engramcka.figures.panels import cka_panels
    from engramcka.figures.paper import paper_figure
    from engramcka.figures.style import STYLES, Style
    from engramcka.figures.sweep import SweepArtists, plot_sweep, sweep_figure
    from engramcka.figures.tables import TABLE_FORMATS, save_table, to_csv, to_latex, to_xarray

_HOMES = {
    "CkaMapArtists": "heatmap",
    "FORMATS": "export",
    "LensArtists": "lens",
    "READINGS": "lens",
    "STYLES": "style",
    "Style": "style",
    "SweepArtists": "sweep",
    "TABLE_FORMATS": "tables",
    "cka_caption": "captions",
    "cka_figure": "heatmap",
    "cka_panels": "panels",
    "difference_figure": "difference",
    "figure_bytes": "export",
    "lens_caption": "captions",
    "lens_figure": "lens",
    "notebook_png": "export",
    "paper_figure": "paper",
    "plot_cka_difference": "difference",
    "plot_cka_map": "heatmap",
    "plot_lens": "lens",
    "plot_sweep": "sweep",
    "save_cka_map": "export",
    "save_figure": "export",
    "save_sweep": "export",
    "save_table": "tables",
    "sweep_caption": "captions",
    "sweep_figure": "sweep",
    "to_csv": "tables",
    "to_latex": "tables",
    "to_xarray": "tables",
}

__all__ = [
    "FORMATS",
    "READINGS",
    "STYLES",
    "TABLE_FORMATS",
    "CkaMapArtists",
    "LensArtists",
    "Style",
    "SweepArtists",
    "cka_caption",
    "cka_figure",
    "cka_panels",
    "difference_figure",
    "figure_bytes",
    "lens_caption",
    "lens_figure",
    "notebook_png",
    "paper_figure",
    "plot_cka_difference",
    "plot_cka_map",
    "plot_lens",
    "plot_sweep",
    "save_cka_map",
    "save_figure",
    "save_sweep",
    "save_table",
    "sweep_caption",
    "sweep_figure",
    "to_csv",
    "to_latex",
    "to_xarray",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"engramcka.figures.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
