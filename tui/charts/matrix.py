"""A matrix of models: what is told of a pair, its table, and the whole as text."""

from __future__ import annotations

import numpy as np

from engramcka.plain_text import clean
from engramcka.results import Float, ModelMatrix
from engramcka.tui import readout
from engramcka.tui.charts import Detail, tab_separated
from engramcka.tui.terminal import shorten

_NAME = 32  # characters of a name in a table at most
_CELL = 5  # characters of a number there


def ordered(found: ModelMatrix) -> Float:
    """(models, models) as the tree has them, the first row at the bottom: the last model."""
    order = found.order
    return np.asarray(found.similarity[np.ix_(order[::-1], order)])


def models_at(found: ModelMatrix, row: int, column: int) -> tuple[int, int]:
    """The two models of a cell, rows counted from the bottom, as places in the result."""
    order = found.order
    return order[len(order) - 1 - row], order[column]


def name_of(found: ModelMatrix, model: int) -> str:
    """A model by its number in the matrix and its label."""
    return f"{found.order.index(model) + 1} {clean(found.labels[model])}"


def pair_index(found: ModelMatrix, models: tuple[int, int]) -> int | None:
    """Which pair two models are; None for a model with itself."""
    first, second = sorted(models)
    return None if first == second else found.pairs.index((first, second))


def map_of(found: ModelMatrix, models: tuple[int, int]) -> str:
    """KIND/NAME of the map of two models; "" where there is none."""
    index = pair_index(found, models)
    return "" if index is None else found.maps[index]


def interval(found: ModelMatrix, models: tuple[int, int]) -> str:
    """The 95 % interval of a pair; "" where it is not known."""
    low, high = float(found.low[models]), float(found.high[models])
    if not np.isfinite(low + high) or models[0] == models[1]:
        return ""
    return f"{readout.decimals(low)} to {readout.decimals(high)}"


def pair_details(found: ModelMatrix, models: tuple[int, int]) -> list[Detail]:
    """What is known of two models, then how alike the first one is to all."""
    row, column = models
    lines: list[Detail] = [(name_of(found, row), None), (name_of(found, column), None)]
    index = pair_index(found, models)
    if index is None:
        lines.append(("", "the same model"))
    else:
        lines.append(("alike", readout.decimals(float(found.similarity[models]))))
        if ends := interval(found, models):
            tied, others = len(found.tied(index)), len(found.with_numbers) - 1
            lines += [("95 %", ends), ("tied with", f"{tied} of {others} other pairs")]
        if found.samples[index]:
            lines.append(("samples", f"{found.samples[index]:,}"))
        if found.maps[index]:
            lines.append(("map", clean(found.maps[index])))
    lines += [("", None), (f"{found.order.index(row) + 1} with", None)]
    for other in found.order:
        value = readout.decimals(float(found.similarity[row, other]), 2)
        lines.append((f"{value:>5} {name_of(found, other)}", None))
    return lines


def pair_summary(found: ModelMatrix, models: tuple[int, int]) -> list[str]:
    """The same in short parts for one line, the most important first."""
    in_order = sorted(models, key=found.order.index)
    names = " – ".join(name_of(found, model) for model in in_order)
    ends = interval(found, models)
    return [readout.decimals(float(found.similarity[models])), names, *([ends] if ends else [])]


def table(found: ModelMatrix, row: int | None = None) -> str:
    """Tab-separated: a row a pair with its interval, or one model with all others."""
    pairs = zip(found.rows(), found.pairs, strict=True)
    return tab_separated(values for values, pair in pairs if row is None or row in pair)


def matrix_lines(found: ModelMatrix, width: int) -> list[str]:
    """The matrix as the tree has it, the pairs from the most alike on, and the warnings."""
    n = len(found.labels)
    room = width - _CELL * n
    names = [name_of(found, model) for model in found.order]
    beside = max(min(max(map(len, names)), room - 1, _NAME), 3)
    fits = room > 8
    lines = []
    for place, model in enumerate(found.order):
        cells = "".join(
            f"{readout.decimals(float(found.similarity[model, other]), 2):>{_CELL}}"
            for other in found.order
        )
        name = f"{shorten(names[place], beside):<{beside}}"
        lines.append(f"{name}{cells}" if fits else names[place])
    if fits:
        head = "".join(f"{place + 1:>{_CELL}}" for place in range(n))
        lines.insert(0, f"{'':<{beside}}{head}")
    else:
        lines.append(f"the matrix does not fit this width: {n} models")
    lines.append("")
    by_value = sorted(found.pairs, key=lambda pair: -np.nan_to_num(found.similarity[pair], nan=-9))
    lines += ["  ".join(pair_summary(found, pair)) for pair in by_value]
    lines += ["", clean(found.summary())]
    return [*lines, *(f"warning: {clean(warning)}" for warning in found.warnings)]
