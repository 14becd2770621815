"""The difference of two maps of the same layers, on a diverging, symmetric scale.

Knows results, no files.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engramcka.errors import ComparisonError
from engramcka.figures.heatmap import CkaMapArtists, plot_cka_map
from engramcka.figures.style import Style, as_style, compose, new_figure, on_own_axes
from engramcka.results import CkaMap


@on_own_axes(height=1.35)
def plot_cka_difference(
    first: CkaMap,
    ax: Axes | None = None,
    *,
    second: CkaMap,
    limit: float | None = None,
    **options: Any,
) -> CkaMapArtists:
    """Draw ``first`` minus ``second`` on these axes; zero is the neutral colour.

    Args:
        first: a map.
        ax: where to draw; without it a figure in the plain style is made.
        second: a map of the same layers.
        limit: difference of the strongest colours, above 0; without it the largest there is,
            rounded up to one digit.
        options: those of `plot_cka_map`, but ``ax``, ``alignment``, ``low``, ``high``, ``palette``.

    Returns:
        The artists; there is no curve.

    Raises:
        ComparisonError: the maps are of different layers, or ``limit`` is not above 0.
    """
    assert ax is not None
    apart = map_difference(first, second)
    limit = _round_up(apart) if limit is None else limit
    if not limit > 0:
        raise ComparisonError(f"the limit of a difference map is above 0, found {limit}")
    options = {"bar_label": "difference in CKA", **options}
    return plot_cka_map(
        apart, ax, alignment=False, palette="diverging", low=-limit, high=limit, **options
    )


def difference_figure(
    first: CkaMap, second: CkaMap, style: Style | str = "plain", **options: Any
) -> Figure:
    """A figure of ``first`` minus ``second``; ``options`` are those of `plot_cka_difference`."""
    style = as_style(style)
    with style.context():
        figure = new_figure(style, 1.35 * style.inches)
        axes = figure.subplots()
        compose(
            figure,
            lambda: plot_cka_difference(first, axes, second=second, **options),
            trim=True,
        )
    return figure


def map_difference(first: CkaMap, second: CkaMap) -> CkaMap:
    """``first`` minus ``second`` cell by cell, both labels on an axis where they differ.

    Raises:
        ComparisonError: the maps are of different layers.
    """
    for axis in ("y_layers", "x_layers"):
        one, other = getattr(first, axis), getattr(second, axis)
        if one != other:
            raise ComparisonError(
                f"two maps are subtracted layer by layer: {axis} are {_shown(one)} and "
                f"{_shown(other)}; choose maps of the same layers"
            )
    return CkaMap(
        first.similarity - second.similarity,
        y_label=_either(first.y_label, second.y_label),
        x_label=_either(first.x_label, second.x_label),
        y_layers=first.y_layers,
        x_layers=first.x_layers,
    )


def _either(one: str, other: str) -> str:
    return one if one == other else f"{one} − {other}"


def _round_up(apart: CkaMap) -> float:
    """Largest difference, up to its first digit; 1 where there is none."""
    values = np.abs(apart.similarity[np.isfinite(apart.similarity)])
    largest = float(values.max()) if len(values) else 0.0
    if largest < 1e-12:
        return 1.0
    unit = 10.0 ** np.floor(np.log10(largest))
    return float(np.ceil(largest / unit - 1e-9) * unit)


def _shown(layers: tuple[int, ...]) -> str:
    if len(layers) <= 4:
        return str(list(layers))
    return f"{layers[0]}..{layers[-1]} ({len(layers)} layers)"
