"""The cells of a heatmap by layer number: borders, colours, hatched ground where there is no value.

Knows matrices and layer numbers, no results.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import ListedColormap

from engramcka import palettes
from engramcka.errors import ComparisonError
from engramcka.figures.labels import size_in_points

Float = npt.NDArray[np.float64]

_LINED = 2.5  # points: lines part cells at least so large
_RASTER_CELLS = 10_000  # above, cells are one image in a vector file, at its dpi


def layer_numbers(
    layers: Sequence[int], first_layer: int, name: str
) -> tuple[Float, npt.NDArray[np.intp]]:
    """Layer numbers in ascending order, and the order that sorts the map's rows or columns."""
    numbers = np.asarray(layers, dtype=np.float64) + (first_layer - 1)
    order = np.argsort(numbers, kind="stable")
    twice = np.flatnonzero(np.diff(numbers[order]) == 0)
    if len(twice):
        raise ComparisonError(
            f"{name} names layer {numbers[order][twice[0]]:g} twice; a map is drawn by layer number"
        )
    return numbers[order], order


def edges(numbers: Float) -> Float:
    """Cell borders midway between layers; the outer ones as far out as the next is in."""
    if len(numbers) == 1:
        return np.array([numbers[0] - 0.5, numbers[0] + 0.5])
    middle = (numbers[1:] + numbers[:-1]) / 2
    first, last = 2 * numbers[:1] - middle[:1], 2 * numbers[-1:] - middle[-1:]
    return np.concatenate((first, middle, last))


def draw_cells(
    ax: Axes,
    values: Float,
    x_edges: Float,
    y_edges: Float,
    palette: str,
    low: float,
    high: float,
) -> QuadMesh:
    """Colour (y, x) values between these borders; white lines part large ones."""
    colours = ListedColormap(palettes.table(palette) / 255.0, name=palette)
    size = min(size_in_points(ax)) / max(values.shape)
    lined = size >= _LINED
    return ax.pcolormesh(
        x_edges,
        y_edges,
        np.ma.masked_invalid(values),
        cmap=colours,
        vmin=low,
        vmax=high,
        edgecolors="white" if lined else "face",
        linewidth=min(0.8, 0.045 * size) if lined else 0.1,
        antialiased=lined,
        rasterized=values.size > _RASTER_CELLS,
    )


def draw_missing(ax: Axes, values: Float, x_edges: Float, y_edges: Float) -> PolyCollection | None:
    """Hatched grey where there is no value, a patch for each run of such cells."""
    missing = ~np.isfinite(values)
    if not missing.any():
        return None
    patches = [
        [(x_edges[left], y_edges[bottom]), (x_edges[right], y_edges[bottom]),
         (x_edges[right], y_edges[top]), (x_edges[left], y_edges[top])]
        for bottom, top, left, right in _rectangles(missing)
    ]  # fmt: skip
    ground = PolyCollection(
        patches, facecolor="#d9d9d9", edgecolor="#8c8c8c", hatch="/////", linewidth=0.0
    )
    ax.add_collection(ground, autolim=False)
    return ground


def _rectangles(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Disjoint rectangles (bottom, top, left, right) that cover the mask: equal rows merged."""
    found: list[tuple[int, int, int, int]] = []
    row = 0
    while row < len(mask):
        top = row + 1
        while top < len(mask) and (mask[top] == mask[row]).all():
            top += 1
        steps = np.flatnonzero(np.diff(mask[row].astype(np.int8), prepend=0, append=0))
        found += [(row, top, int(a), int(b)) for a, b in zip(steps[::2], steps[1::2], strict=True)]
        row = top
    return found
