"""The figure of a result, whatever it is.

The module of each kind (`engramcka.figures.cka` and the like) ends in its `Drawing`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from engramcka.figures.latex import Table
from engramcka.results import Result
from engramcka.results.base import part
from engramcka.results.kinds import KINDS, kind_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from engramcka.figures.style import Style


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


Form = Literal["result", "series", "text", "panels", "difference"]
"""What is made of results: each kind's own figure, or one of several maps or of a text's gates."""


def draw_form(form: Form, results: Any, style: Style | str = "plain", **options: Any) -> Figure:
    """Results in one of the forms that a figure of them may have.

    Args:
        form: "result" of any kind (see `result_figure`); of maps "series" over training, "panels"
            side by side, or the "difference" of two; "text" of gates.
        results: one or several, as the form takes them.
        style: a `Style` or the name of one.
        options: of the form's drawing.
    """
    from engramcka.figures import gate_text, panels

    if form == "difference":
        first, second = results
        return panels.difference_figure(first, second, style, **options)
    drawings: dict[str, Callable[..., Figure]] = {
        "result": result_figure,
        "series": panels.series_figure,
        "text": gate_text.gate_text_figure,
        "panels": panels.cka_panels,
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
