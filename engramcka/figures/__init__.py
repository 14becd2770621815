"""Results as matplotlib figures, ready for a camera-ready PDF.

Knows results and the one output file; nothing of models, runs or other paths. Names load on first
use (PEP 562): importing this package imports no matplotlib.

`plot_cka_map` and the other ``plot_`` functions draw on the caller's axes and return the artists.
`cka_figure` and the like make a whole figure in the style of a venue, `result_figure` that of any
result, and `save_figure` writes one. `cka_panels`, `series_figure`, `difference_figure` and
`paper_figure` compose several results; `save_table` writes numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engramcka.lazy import attach

if TYPE_CHECKING:
    from engramcka.figures.allocation import AllocationArtists, allocation_figure, plot_allocation
    from engramcka.figures.animation import MOVIES, save_animation, series_frames
    from engramcka.figures.captions import (
        allocation_caption,
        cka_caption,
        gates_caption,
        lens_caption,
        memory_caption,
        series_caption,
        sweep_caption,
        training_caption,
    )
    from engramcka.figures.datasets import to_xarray
    from engramcka.figures.difference import difference_figure, map_difference, plot_cka_difference
    from engramcka.figures.draw import known_options, result_figure
    from engramcka.figures.export import (
        FORMATS,
        check_format,
        figure_bytes,
        notebook_png,
        save_cka_map,
        save_figure,
        save_result,
        save_sweep,
    )
    from engramcka.figures.gate_text import (
        GateTextArtists,
        gate_text_caption,
        gate_text_figure,
        plot_gate_text,
    )
    from engramcka.figures.gates import GateArtists, gates_figure, plot_gate_orders, plot_gates
    from engramcka.figures.heatmap import CkaMapArtists, cka_figure, plot_cka_map
    from engramcka.figures.lens import READINGS, LensArtists, lens_figure, plot_lens
    from engramcka.figures.memory import MemoryArtists, memory_figure, plot_memory
    from engramcka.figures.panels import cka_panels
    from engramcka.figures.paper import paper_figure
    from engramcka.figures.rows import text_rows
    from engramcka.figures.series import MOST_PANELS, series_figure
    from engramcka.figures.style import STYLES, Style
    from engramcka.figures.sweep import SweepArtists, plot_sweep, sweep_figure
    from engramcka.figures.tables import (
        TABLE_FORMATS,
        rows_to_csv,
        save_table,
        to_csv,
        to_latex,
        write_text,
    )
    from engramcka.figures.training import TrainingArtists, plot_training, training_figure

_HOMES = {
    "AllocationArtists": "allocation",
    "CkaMapArtists": "heatmap",
    "FORMATS": "export",
    "GateArtists": "gates",
    "GateTextArtists": "gate_text",
    "LensArtists": "lens",
    "MOST_PANELS": "series",
    "MOVIES": "animation",
    "MemoryArtists": "memory",
    "READINGS": "lens",
    "STYLES": "style",
    "Style": "style",
    "SweepArtists": "sweep",
    "TABLE_FORMATS": "tables",
    "TrainingArtists": "training",
    "allocation_caption": "captions",
    "allocation_figure": "allocation",
    "check_format": "export",
    "cka_caption": "captions",
    "cka_figure": "heatmap",
    "cka_panels": "panels",
    "map_difference": "difference",
    "difference_figure": "difference",
    "figure_bytes": "export",
    "gate_text_caption": "gate_text",
    "gate_text_figure": "gate_text",
    "gates_caption": "captions",
    "gates_figure": "gates",
    "known_options": "draw",
    "lens_caption": "captions",
    "lens_figure": "lens",
    "memory_caption": "captions",
    "memory_figure": "memory",
    "notebook_png": "export",
    "paper_figure": "paper",
    "plot_allocation": "allocation",
    "plot_cka_difference": "difference",
    "plot_cka_map": "heatmap",
    "plot_gate_orders": "gates",
    "plot_gate_text": "gate_text",
    "plot_gates": "gates",
    "plot_lens": "lens",
    "plot_memory": "memory",
    "plot_sweep": "sweep",
    "plot_training": "training",
    "result_figure": "draw",
    "rows_to_csv": "tables",
    "save_animation": "animation",
    "save_cka_map": "export",
    "save_figure": "export",
    "save_result": "export",
    "save_sweep": "export",
    "save_table": "tables",
    "series_caption": "captions",
    "series_figure": "series",
    "series_frames": "animation",
    "sweep_caption": "captions",
    "sweep_figure": "sweep",
    "text_rows": "rows",
    "to_csv": "tables",
    "to_latex": "tables",
    "to_xarray": "datasets",
    "training_caption": "captions",
    "training_figure": "training",
    "write_text": "tables",
}

__all__ = [
    "FORMATS",
    "MOST_PANELS",
    "MOVIES",
    "READINGS",
    "STYLES",
    "TABLE_FORMATS",
    "AllocationArtists",
    "CkaMapArtists",
    "GateArtists",
    "GateTextArtists",
    "LensArtists",
    "MemoryArtists",
    "Style",
    "SweepArtists",
    "TrainingArtists",
    "allocation_caption",
    "allocation_figure",
    "check_format",
    "cka_caption",
    "cka_figure",
    "cka_panels",
    "difference_figure",
    "figure_bytes",
    "gate_text_caption",
    "gate_text_figure",
    "gates_caption",
    "gates_figure",
    "known_options",
    "lens_caption",
    "lens_figure",
    "map_difference",
    "memory_caption",
    "memory_figure",
    "notebook_png",
    "paper_figure",
    "plot_allocation",
    "plot_cka_difference",
    "plot_cka_map",
    "plot_gate_orders",
    "plot_gate_text",
    "plot_gates",
    "plot_lens",
    "plot_memory",
    "plot_sweep",
    "plot_training",
    "result_figure",
    "rows_to_csv",
    "save_animation",
    "save_cka_map",
    "save_figure",
    "save_result",
    "save_sweep",
    "save_table",
    "series_caption",
    "series_figure",
    "series_frames",
    "sweep_caption",
    "sweep_figure",
    "text_rows",
    "to_csv",
    "to_latex",
    "to_xarray",
    "training_caption",
    "training_figure",
    "write_text",
]

__getattr__, __dir__ = attach(__name__, __all__, _HOMES)
