"""The figure of a result, whatever it is: one table from result to drawing.

Knows results, no files.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from engramcka.figures.allocation import allocation_figure, plot_allocation
from engramcka.figures.gates import gates_figure, plot_gates
from engramcka.figures.heatmap import cka_figure, plot_cka_map
from engramcka.figures.lens import lens_figure, plot_lens
from engramcka.figures.memory import memory_figure, plot_memory
from engramcka.figures.style import Style
from engramcka.figures.sweep import plot_sweep, sweep_figure
from engramcka.figures.training import plot_training, training_figure
from engramcka.results import (
    AllocationSweep,
    CkaMap,
    GateMap,
    LensCurve,
    LossSweep,
    MemoryAblation,
    TrainingCurve,
)

DRAWINGS: Mapping[type[Any], tuple[Callable[..., Figure], Callable[..., Any]]] = {
    CkaMap: (cka_figure, plot_cka_map),
    LensCurve: (lens_figure, plot_lens),
    LossSweep: (sweep_figure, plot_sweep),
    AllocationSweep: (allocation_figure, plot_allocation),
    GateMap: (gates_figure, plot_gates),
    MemoryAblation: (memory_figure, plot_memory),
    TrainingCurve: (training_figure, plot_training),
}
"""The figure of each kind of result, and the function whose options it passes on."""


def result_figure(
    results: Any | Sequence[Any], style: Style | str = "plain", **options: Any
) -> Figure:
    """The figure of one result, or of several curves, allocation sweeps or ablations in one.

    Args:
        results: a result, or a sequence of results of one type that share an axis.
        style: a `Style` or the name of one.
        options: of the kind's drawing, see `known_options`.

    Raises:
        TypeError: there is no figure of such a thing.
        EngramckaError: as the kind's own function.
    """
    first = results[0] if isinstance(results, Sequence) and len(results) else results
    if type(first) not in DRAWINGS:
        raise TypeError(f"no figure of a {type(first).__name__}")
    figure, _ = DRAWINGS[type(first)]
    single = results[0] if isinstance(results, Sequence) and len(results) == 1 else results
    return figure(single, style, **options)


def known_options(kind: type[Any]) -> set[str]:
    """Names of the options that the drawing of this kind of result takes."""
    names = {name for made in DRAWINGS[kind] for name in inspect.signature(made).parameters}
    return names - {"ax", "style", "options"}
