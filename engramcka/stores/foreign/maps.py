"""Similarity maps made elsewhere: .npy, .safetensors and .csv as a `CkaMap`.

Rows are the layers of y and columns those of x, blocks counted from 1. A CSV file is the bare
matrix, or a line a cell with the columns y_layer, x_layer, similarity and, where known, ci_low and
ci_high, as `engramcka export` writes it. Nothing that a file holds is executed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engramcka import foreign_files
from engramcka.errors import EngramckaError
from engramcka.plain_text import first_line
from engramcka.results import CkaMap
from engramcka.stores.foreign import limits
from engramcka.stores.foreign.array_files import mapped
from engramcka.stores.foreign.sweeps import MAX_BYTES, read_text, refusal

MATRICES = ("similarity", "ci_low", "ci_high")
AXES = ("y_layers", "x_layers")
_MOST_LAYERS = 1_000_000  # a layer's number is below
LARGEST = 1.5  # an unbiased estimate may lie a little outside [-1, 1]; beyond this it is none

Matrix = np.ndarray[Any, Any]
Parts = dict[str, Any]  # fields of CkaMap


def read_map_file(
    path: Path, y_label: str = "y", x_label: str = "x", first_layer: int | None = None
) -> CkaMap:
    """Read a map by its file's extension.

    Args:
        path: .npy (one matrix), .safetensors (one matrix, or `similarity` with `ci_low`, `ci_high`,
            `y_layers` and `x_layers`) or .csv.
        y_label: of the model whose layers are the rows.
        x_label: of the model whose layers are the columns.
        first_layer: number of the first row and column of a file that does not number its layers;
            None for 1.

    Raises:
        StoreError: names the file, what was found and what is allowed.
    """
    readers: dict[str, Callable[[Path], Parts]] = {
        ".npy": _read_npy,
        ".safetensors": _read_safetensors,
        ".csv": _read_csv,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise refusal(f"{path}: no map by its name", f"allowed: {', '.join(readers)}")
    try:
        foreign_files.require_file(path)
    except OSError as error:
        raise refusal(f"{path}: cannot be read ({error.strerror or error})") from error
    if path.stat().st_size > MAX_BYTES:
        raise refusal(f"{path}: larger than {MAX_BYTES >> 20} MiB, no map of layers")
    parts = reader(path)
    for name in MATRICES:
        if parts.get(name) is not None:
            parts[name] = _checked(f"{path}, {name}", parts[name], name == "similarity")
    if first_layer is not None:
        numbered = [axis for axis in AXES if axis in parts]
        if numbered:
            raise refusal(f"{path}: says itself which {' and '.join(numbered)} it has",
                          "leave out --first-layer")  # fmt: skip
        for axis, count in zip(AXES, parts["similarity"].shape, strict=True):
            parts[axis] = tuple(range(first_layer, first_layer + count))
    try:
        return CkaMap(**parts, y_label=y_label, x_label=x_label)
    except EngramckaError as error:
        raise refusal(f"{path}: {error}") from error


def _checked(where: str, values: Matrix, is_similarity: bool) -> Matrix:
    """A matrix of similarities, or of ends of their intervals, in float64; NaN where there is
    none."""
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiu":
        raise refusal(
            f"{where}: found shape {values.shape} of {values.dtype}",
            "allowed: a matrix of numbers (y layers, x layers)",
        )
    values = values.astype(np.float64)
    largest = LARGEST if is_similarity else np.inf
    wrong = np.argwhere(np.isinf(values) | (np.abs(values) > largest))
    if len(wrong):
        row, column = (int(index) for index in wrong[0])
        raise refusal(
            f"{where}: {values[row, column]:g} in row {row + 1}, column {column + 1}",
            "allowed: similarities, at most 1 in size, or NaN",
        )
    return values


def _read_npy(path: Path) -> Parts:
    try:
        return {"similarity": np.asarray(mapped(path))}
    except Exception as error:  # NumPy's header is Python, which fails in many ways
        raise refusal(f"{path}: no plain .npy array ({first_line(error)})") from error


def _read_safetensors(path: Path) -> Parts:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        limits.check_header(path)
        tensors = load_file(path)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise refusal(
            f"{path}: cannot be read ({first_line(error)})", "allowed: float64, float32 or float16"
        ) from error
    if "similarity" in tensors:
        found: Parts = {name: tensors[name] for name in MATRICES if name in tensors}
        layers = {name: tensors[name] for name in AXES if name in tensors}
        for name, numbers in layers.items():
            if numbers.ndim != 1 or not all(map(_is_layer, numbers.tolist())):
                raise refusal(f"{path}, {name}: no list of layers", _LAYERS_ALLOWED)
            if len(set(numbers.tolist())) < len(numbers):
                raise refusal(f"{path}, {name}: names one twice", _LAYERS_ALLOWED)
        return {**found, **{name: tuple(map(int, layers[name])) for name in layers}}
    if len(tensors) != 1:
        raise refusal(
            f"{path}: holds {', '.join(sorted(tensors)) or 'nothing'}",
            "allowed: one tensor, or one called similarity",
        )
    return {"similarity": next(iter(tensors.values()))}


def _read_csv(path: Path) -> Parts:
    try:
        rows = [row for row in csv.reader(io.StringIO(read_text(path)), strict=True) if row]
    except csv.Error as error:
        raise refusal(f"{path}: no CSV ({error})") from error
    if not rows:
        raise refusal(f"{path}: empty")
    header = [name.strip() for name in rows[0]]
    if {"y_layer", "x_layer", "similarity"} <= set(header):
        return _cells(path, header, rows[1:])
    if len({len(row) for row in rows}) > 1:
        raise refusal(
            f"{path}: rows of different lengths",
            "allowed: a bare matrix, or columns y_layer, x_layer, similarity",
        )
    return {"similarity": np.array([_numbers(path, i, row) for i, row in enumerate(rows, 1)])}


def _cells(path: Path, header: list[str], rows: list[list[str]]) -> Parts:
    columns = [name for name in MATRICES if name in header]
    cells: dict[tuple[int, int], list[float]] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise refusal(f"{path}, line {number}: {len(row)} values, {len(header)} columns")
        entry = dict(zip(header, _numbers(path, number, row), strict=True))
        y, x = entry["y_layer"], entry["x_layer"]
        if not (_is_layer(y) and _is_layer(x)):
            raise refusal(f"{path}, line {number}: layers {y:g} and {x:g}", _LAYERS_ALLOWED)
        if (int(y), int(x)) in cells:
            raise refusal(f"{path}, line {number}: y_layer {y:g}, x_layer {x:g} once more")
        cells[int(y), int(x)] = [entry[name] for name in columns]
    y_layers = sorted({y for y, _ in cells})
    x_layers = sorted({x for _, x in cells})
    if not cells or len(cells) != len(y_layers) * len(x_layers):
        raise refusal(
            f"{path}: {len(cells)} cells, {len(y_layers)} x {len(x_layers)} layers",
            "allowed: every cell once, an empty similarity where there is none",
        )
    values = np.array([[cells[y, x] for x in x_layers] for y in y_layers])
    found: Parts = {name: values[..., index] for index, name in enumerate(columns)}
    return {**found, "y_layers": tuple(y_layers), "x_layers": tuple(x_layers)}


_LAYERS_ALLOWED = "allowed: whole numbers from 0, the embedding"


def _is_layer(number: float) -> bool:
    return 0 <= number < _MOST_LAYERS and number == int(number)


def _numbers(path: Path, line: int, row: list[str]) -> list[float]:
    """A row's values; an empty one is NaN."""
    try:
        return [float(value) if value.strip() else float("nan") for value in row]
    except ValueError as error:
        raise refusal(f"{path}, line {line}: {error}") from error
