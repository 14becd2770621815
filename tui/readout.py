"""Numbers of a map as short texts: a cell, its interval and null, alignment, shift, tables.

Every number is read from the result, none is estimated here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

import numpy as np

from engramcka.results import (
    DepthShift,
    Float,
    LayerDiagnostics,
    SimilarityMap,
)
from engramcka.results.statistics import deviation
from engramcka.tui.terminal import with_minus

NONE = "–"
LABEL_WIDTH = 9  # characters of a label in the panel
NEGATIVE, MISSING = -1, -2  # heights of a profile where it is below 0, or has no value


def decimals(value: float, places: int = 3) -> str:
    """A similarity with a fixed number of decimals; NaN as a dash, no negative zero."""
    if value != value:
        return NONE
    return with_minus(f"{round(value, places) + 0.0:.{places}f}")


def short_decimals(value: float) -> str:
    """The same without the zero before the point: .907."""
    text = decimals(value)
    return text.replace("0.", ".", 1) if text.lstrip("−").startswith("0.") else text


def interval(cka: SimilarityMap, row: int, column: int) -> str | None:
    """The 95 % interval of a cell, None where the map has none."""
    if cka.ci_low is None or cka.ci_high is None:
        return None
    low, high = cka.ci_low[row, column], cka.ci_high[row, column]
    return f"{short_decimals(low)}{_dash(low, high)}{short_decimals(high)}"


def _dash(low: float, high: float) -> str:
    return " to " if low < 0 or high < 0 else "–"


def null(cka: SimilarityMap, row: int, column: int) -> str | None:
    """The mean of the permutation null in a cell and the cell's p value; None without a null."""
    p_value = cka.p_value
    if cka.null is None or p_value is None or not len(cka.null):
        return None
    mean = short_decimals(float(_mean(cka.null[:, row, column])))
    return f"{mean} p {short_decimals(float(p_value[row, column]))}"


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def column_maximum(cka: SimilarityMap, column: int) -> int | None:
    """Index of the row with the highest similarity in a column; None where it has no number."""
    values = cka.similarity[:, column]
    return int(np.nanargmax(values)) if np.isfinite(values).any() else None


def place(cka: SimilarityMap, row: int, column: int) -> str:
    """A cell by its layers."""
    return f"row {cka.y_layers[row]} column {cka.x_layers[column]}"


@dataclass(frozen=True)
class Alignment:
    """Soft alignment of a map over k rows, with what is known of its accuracy."""

    k: int
    layers: Float  # (columns,), in y's layer numbers
    half_widths: Float | None  # (columns,), half of the 95 % interval; None without a jackknife
    shift: DepthShift


def alignment(cka: SimilarityMap, k: int) -> Alignment:
    """Everything about the alignment of a map, computed once for all cells."""
    ends = cka.soft_alignment_interval(k)
    half_widths = None if ends is None else (ends[1] - ends[0]) / 2
    return Alignment(k, cka.soft_alignment(k), half_widths, cka.depth_shift())


def with_half_width(value: float, half_width: float, sign: str = "", places: int = 1) -> str:
    """A number of layers with one decimal, and half of its interval where there is one."""
    if value != value:
        return NONE
    shown = with_minus(f"{round(value, places) + 0.0:{sign}.{places}f}")  # no negative zero
    return f"{shown}±{half_width:.{places}f}" if half_width == half_width else shown


def cell(cka: SimilarityMap, row: int, column: int, aligned: Alignment) -> list[tuple[str, str]]:
    """(label, value) of everything that is known about a cell, in reading order."""
    value = float(cka.similarity[row, column])
    name = cka.title if len(cka.title) < LABEL_WIDTH else "value"  # the header has it whole
    lines = [(name, decimals(value) if value == value else "no value")]
    for label, text in (("95 %", interval(cka, row, column)), ("null", null(cka, row, column))):
        if text is not None:
            lines.append((label, text))
    best = column_maximum(cka, column)
    highest = f"max {cka.y_layers[best]}" if best is not None else ""
    half = np.nan if aligned.half_widths is None else float(aligned.half_widths[column])
    layer = with_half_width(float(aligned.layers[column]), half)
    lines.append((f"a_{aligned.k}", f"{layer:<8} {highest}".rstrip()))
    return lines


def shift(found: DepthShift) -> str:
    """The map's shift in nearest depth, short, with the columns that it is the mean of."""
    places = 1 if found.unit == "layers" else 2
    half = (found.shift_high - found.shift_low) / 2
    value = with_half_width(found.shift, half, "+", places)
    value = "not det." if value == NONE else value
    return f"{value} {found.n_determined}/{found.n_columns}"


def diagnostics(cka: SimilarityMap, row: int, column: int) -> list[tuple[str, str]]:
    """Effective rank and share of the largest dimension of the cell's two layers: y, then x."""
    sides = ((cka.y_diagnostics, row), (cka.x_diagnostics, column))
    if any(side is None for side, _ in sides):
        return []
    known: list[tuple[LayerDiagnostics, int]] = [(s, i) for s, i in sides if s is not None]
    ranks = [float(side.effective_rank[i]) for side, i in known]
    share = " / ".join(f"{side.top_dimension_share[i]:.0%}" for side, i in known)
    if not any(map(isfinite, ranks)):  # of kernels and measures that have none
        return [("top dim", share)]
    return [("rank", " / ".join(f"{rank:.3g}" for rank in ranks)), ("top dim", share)]


def seeds_deviation(losses: Float) -> list[tuple[str, str]]:
    """The standard deviation over seeds as a line of details; none of fewer than two seeds."""
    found = float(deviation(losses))
    return [("s.d.", f"{found:.4f}")] if found == found else []


def signed(value: float, places: int = 4) -> str:
    """A difference with its sign, no negative zero; NaN as a dash."""
    return with_minus(f"{round(value, places) + 0.0:+.{places}f}") if value == value else NONE


def spark_levels(values: np.ndarray, width: int, top: float = 1.0) -> list[int]:
    """A profile as ``width`` (or fewer) heights from 0 (nothing) to 8, `NEGATIVE` or `MISSING`.

    Where there are more values than characters, each character is the highest of its values. What
    is nearer to 0 than half a step is 0.
    """
    numbers = values.tolist()
    count = min(width, len(numbers))
    edges = [i * len(numbers) // count for i in range(count + 1)]
    heights = []
    for start, stop in pairwise(edges):
        there = [value for value in numbers[start:stop] if isfinite(value)]
        if not there:
            heights.append(MISSING)
            continue
        height = round(max(there) / top * 8)
        heights.append(min(height, 8) if height >= 0 else NEGATIVE)
    return heights


def table(cka: SimilarityMap) -> str:
    """The whole map as tab-separated text: layer numbers in the first row and column."""
    lines = ["\t".join([f"{cka.y_label}\\{cka.x_label}", *map(str, cka.x_layers)])]
    for number, row in zip(cka.y_layers, cka.similarity, strict=True):
        lines.append("\t".join([str(number), *(repr(float(value)) for value in row)]))
    return "\n".join(lines) + "\n"


def row_table(cka: SimilarityMap, row: int) -> str:
    """One row of the map as tab-separated text, under its layer numbers."""
    values = "\t".join(repr(float(value)) for value in cka.similarity[row])
    numbers = "\t".join(map(str, cka.x_layers))
    return f"{cka.y_label}\\{cka.x_label}\t{numbers}\n{cka.y_layers[row]}\t{values}\n"
