"""The figure of a result, whatever it is, and what the tables of all kinds are made with.

The module of each kind (`engramcka.figures.cka` and the like) ends in its `Drawing`: plot, caption
and LaTeX table, which is short enough for a page.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.plain_text import one_line
from engramcka.results import Result
from engramcka.results.base import part
from engramcka.results.kinds import KINDS, kind_of
from engramcka.results.statistics import Float, deviation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from engramcka.figures.style import Style


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
    """With so many digits after the point; a dash where it is unknown, and no negative zero."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}" if np.isfinite(value) else "--"


def booktabs(head: list[str], rows: list[list[str]]) -> str:
    """The table as a LaTeX tabular with the rules of booktabs."""
    lines = [" & ".join(row) + r" \\" for row in rows]
    columns = "l" + "r" * (len(head) - 1)
    top = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    return "\n".join([*top, *lines, r"\bottomrule", r"\end{tabular}", ""])


@dataclass(frozen=True)
class Drawing:
    """How one kind of result is put on paper; "together" kinds take a sequence of results."""

    figure: Callable[..., Figure]
    plot: Callable[..., Any]  # on given axes; `figure` passes its options on
    caption: Callable[..., str]
    table: Callable[..., Table]  # of a sequence, with `digits` after the point


def drawing_of(kind: str) -> Drawing:
    """The drawing of a kind of result, a key of `engramcka.results.kinds.KINDS`."""
    found: Drawing = part("figures", kind).DRAWING
    return found


def result_figure(
    results: Result | Sequence[Result], style: Style | str = "plain", **options: Any
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
    single = results[0] if isinstance(results, Sequence) and len(results) == 1 else results
    return drawing_of(kind_of(first).name).figure(single, style, **options)


Form = Literal["result", "series", "text", "panels", "grid", "difference"]
"""What is made of results: each kind's own figure, or one of several maps or of a text's gates."""


def draw_form(form: Form, results: Any, style: Style | str = "plain", **options: Any) -> Figure:
    """Results in one of the forms that a figure of them may have.

    Args:
        form: "result" of any kind (see `result_figure`); of maps "series" over training, "panels"
            side by side, a "grid" of models, or the "difference" of two; "text" of gates.
        results: one or several, as the form takes them.
        style: a `Style` or the name of one.
        options: of the form's drawing.
    """
    from engramcka.figures import gate_text, grids, panels

    if form == "difference":
        first, second = results
        return panels.difference_figure(first, second, style, **options)
    drawings: dict[str, Callable[..., Figure]] = {
        "result": result_figure,
        "series": panels.series_figure,
        "text": gate_text.gate_text_figure,
        "panels": panels.cka_panels,
        "grid": grids.map_grid,
    }
    return drawings[form](results, style, **options)


def known_options(kind: str) -> set[str]:
    """Names of the options that the drawing of this kind of result takes."""
    drawing = drawing_of(kind)
    return _parameters(drawing.figure, drawing.plot) - {"ax", "style", "options"}


def captions(kind: str, results: Sequence[Result], options: Mapping[str, Any]) -> list[str]:
    """What a reader must know of results of one kind: one text where they stand in one figure.

    Args:
        kind: of all of them.
        results: of that kind.
        options: what the figure was drawn with; the caption takes those that it knows.
    """
    if not results:
        return []
    make = drawing_of(kind).caption
    known = {name: options[name] for name in _parameters(make) & options.keys()}
    if KINDS[kind].together:
        return [make(results, **known)]
    return [make(result, **known) for result in results]


def _parameters(*functions: Callable[..., Any]) -> set[str]:
    return {name for made in functions for name in inspect.signature(made).parameters}
