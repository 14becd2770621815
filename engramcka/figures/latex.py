"""Pieces of a LaTeX table (booktabs): names escaped, numbers rounded, rows set.

A table is short enough for a page; the tables of each kind of result stand beside its figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.plain_text import one_line
from engramcka.results.statistics import Float, deviation

Table = tuple[list[str], list[list[str]]]  # head, rows

_ESCAPES = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "[": "{[}", "*": "{*}",  # behind the end of a row they would belong to it
}  # fmt: skip


def escaped(name: str) -> str:
    """The name as LaTeX that prints it as it is."""
    return "".join(_ESCAPES.get(character, character) for character in one_line(name))


def only(results: Sequence[Any]) -> Any:
    """The one result that the table is of.

    Raises:
        ComparisonError: there are several.
    """
    if len(results) != 1:
        raise ComparisonError(
            f"a LaTeX table holds one {type(results[0]).__name__}, found {len(results)}"
        )
    return results[0]


def deviations(losses: Float, wanted: bool, digits: int) -> list[str]:
    """A cell with the standard deviation over seeds, or none where there is no such column."""
    return [number(float(deviation(losses)), digits + 1)] if wanted else []


def interval(low: float, high: float, digits: int) -> str:
    """Both ends in brackets; a dash where one is unknown."""
    ends = number(low, digits), number(high, digits)
    return "--" if "--" in ends else f"[{ends[0]}, {ends[1]}]"


def number(value: float, digits: int) -> str:
    """With so many digits after the point; a dash where it is unknown."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "--"


def booktabs(head: list[str], rows: list[list[str]]) -> str:
    """The table as a LaTeX tabular with the rules of booktabs."""
    lines = [" & ".join(row) + r" \\" for row in rows]
    columns = "l" + "r" * (len(head) - 1)
    top = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    return "\n".join([*top, *lines, r"\bottomrule", r"\end{tabular}", ""])
