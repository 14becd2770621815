"""LogitLens curves of several models, with bands: the Engram paper's Figure 4 (a).

A curve without memory is dashed, in the colour of its model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from engramcka.errors import ComparisonError, ConfigError
from engramcka.figures.draw import Drawing, Table, escaped, interval, number
from engramcka.figures.labels import (
    as_plain,
    fit,
    layer_ticks,
    set_ticks,
    size_in_points,
    text_width,
    tick_size,
)
from engramcka.figures.lines import LineStyle, draw_band, draw_curve, draw_legend
from engramcka.figures.options import READINGS, Reading
from engramcka.figures.style import Style, as_style, compose, new_figure, on_own_axes
from engramcka.plain_text import one_line
from engramcka.results import LensCurve
from engramcka.results.statistics import Float

_LOWEST = 1e-3  # of the largest value: what a logarithmic axis goes down to
_WIDE = 6.0  # inches; narrower, panels stand under each other
_HIGH = 0.62  # height over width of a panel
_OFF = ", memory off"  # behind the label of a curve whose memory is off


@dataclass(frozen=True)
class LensArtists:
    """What was drawn, to be changed at will; in the order of the curves."""

    axes: Axes
    curves: list[Line2D]
    bands: list[PolyCollection | None]  # 95 % intervals, where a curve has one
    final: list[Line2D]  # the models' own entropy, beside that of their layers
    legend: Legend | None


@on_own_axes(height=_HIGH)
def plot_lens(
    curves: LensCurve | Sequence[LensCurve],
    ax: Axes | None = None,
    *,
    reading: Reading = "kl",
    log: bool = False,
    first_layer: int = 1,
    interval: bool = True,
    legend: bool = True,
    title: str | None = None,
) -> LensArtists:
    """Draw one reading of one or several models on these axes, or on new ones.

    Args:
        curves: one, or several of one direction.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).
        reading: KL divergence from the model's own prediction, entropy of the layer's, or share
            of tokens on which both guess the same.
        log: a logarithmic axis for the divergence, down to a thousandth of the largest value.
        first_layer: number of the first block: 1, or 0 as the paper's Figure 4 counts.
        interval: draw 95 % intervals where there are any.
        legend: name the curves, where there are several.
        title: plain text above.

    Returns:
        The artists.

    Raises:
        ConfigError: there is no curve or no such reading.
        ComparisonError: no curve has the reading, or directions of the divergence differ.
    """
    assert ax is not None
    curves = _checked(curves, reading)
    looks = _looks(curves)
    floor = _floor(curves) if log and reading == "kl" else 0.0
    lines, bands, final = [], [], []
    for curve, look in zip(curves, looks, strict=True):
        x = np.asarray(curve.layers, dtype=np.float64) + (first_layer - 1)
        order = np.argsort(x, kind="stable")
        x = x[order]
        value, low, high = (_ordered(curve, reading + end, order) for end in ("", "_low", "_high"))
        assert value is not None
        if floor > 0:
            low, high = _above_zero(low, high, floor)
        lines.append(draw_curve(ax, x, value, look))
        bands.append(draw_band(ax, x, low, high, look) if interval else None)
        if reading == "entropy" and curve.final_entropy is not None:
            final.append(
                ax.axhline(curve.final_entropy, color=look.colour, linestyle=":", linewidth=0.8)
            )
    _limits(ax, lines, bands, reading, floor)
    _frame(ax, curves, reading, first_layer, title)
    names = draw_legend(ax, lines, _names(curves)) if legend else None
    return LensArtists(ax, lines, bands, final, names)


def lens_figure(
    curves: LensCurve | Sequence[LensCurve],
    style: Style | str = "plain",
    *,
    readings: Sequence[Reading] = ("kl",),
    **options: Any,
) -> Figure:
    """A figure with a panel a reading: beside each other where the style is wide, else below.

    Divergences of two directions have a panel each.

    Args:
        curves: one or several.
        style: a `Style` or the name of one.
        readings: some of `READINGS`.
        options: those of `plot_lens`, but ``ax``, ``reading`` and ``legend``.
    """
    style = as_style(style)
    if not readings:
        raise ConfigError(f"a lens figure shows at least one of {', '.join(READINGS)}")
    given = [curves] if isinstance(curves, LensCurve) else list(curves)
    panels = [(reading, part) for reading in readings for part in _apart(given, reading)]
    count, beside = len(panels), style.inches >= _WIDE
    shape = (1, count) if beside else (count, 1)
    high = style.inches * _HIGH * (1.0 if count == 1 else 0.85)
    height = max(1.7, high / count) if beside else min(high, 3.2) * count
    with style.context():
        figure = new_figure(style, min(height, 3.2 * shape[0]))
        grid = figure.subplots(*shape, squeeze=False)

        def draw() -> None:
            for index, ((reading, part), ax) in enumerate(zip(panels, grid.ravel(), strict=True)):
                named = index == 0 or part != panels[0][1]
                plot_lens(part, ax, reading=reading, legend=named, **options)
                if not beside and index + 1 < count:
                    ax.set_xlabel("")

        compose(figure, draw)
    return figure


def _apart(curves: list[LensCurve], reading: str) -> list[list[LensCurve]]:
    """All curves as one, or those of each direction where divergences of two are there."""
    known = dict.fromkeys(curve.direction for curve in curves if curve.direction != "unknown")
    if reading != "kl" or len(known) < 2:
        return [curves]
    first, *_ = known
    named = [first if curve.direction == "unknown" else curve.direction for curve in curves]
    return [
        [curve for curve, own in zip(curves, named, strict=True) if own == direction]
        for direction in known
    ]


def _checked(curves: LensCurve | Sequence[LensCurve], reading: str) -> list[LensCurve]:
    """The curves that have the reading."""
    if reading not in READINGS:
        raise ConfigError(f"no lens reading {reading!r}; there are {', '.join(READINGS)}")
    given = [curves] if isinstance(curves, LensCurve) else list(curves)
    if not given:
        raise ConfigError("a figure of lens curves needs at least one curve")
    there = [curve for curve in given if getattr(curve, reading) is not None]
    if not there:
        raise ComparisonError(f"no lens curve here has {reading!r}")
    directions = {curve.direction for curve in there} - {"unknown"}
    if reading == "kl" and len(directions) > 1:
        raise ComparisonError(
            f"curves of {' and '.join(sorted(directions))} are different divergences; draw those "
            "of one direction"
        )
    return there


def _looks(curves: Sequence[LensCurve]) -> list[LineStyle]:
    """A colour a model and text; dashes where its memory is off."""
    models = list(dict.fromkeys((curve.label, curve.where) for curve in curves))
    return [
        LineStyle.of(models.index((curve.label, curve.where)), None if curve.memory else "--")
        for curve in curves
    ]


def _names(curves: Sequence[LensCurve]) -> list[tuple[str, str]]:
    """Each curve's label, and what it says beside it."""
    several = len({curve.where for curve in curves}) > 1
    return [
        (
            curve.label,
            (f" ({curve.where})" if several and curve.where else "")
            + ("" if curve.memory else _OFF),
        )
        for curve in curves
    ]


def _ordered(curve: LensCurve, name: str, order: npt.NDArray[np.intp]) -> Float | None:
    values = getattr(curve, name)
    return None if values is None else cast(Float, values[order])


def _floor(curves: Sequence[LensCurve]) -> float:
    """What a logarithmic axis goes down to; 0 where there is nothing above zero."""
    values = np.concatenate([curve.kl for curve in curves])
    values = values[values > 0]
    return max(float(values.min()), _LOWEST * float(values.max())) / 1.3 if len(values) else 0.0


def _above_zero(
    low: Float | None, high: Float | None, floor: float
) -> tuple[Float | None, Float | None]:
    """A band on a logarithmic axis: from ``floor`` where its lower end is below, and none where
    all of it is not above zero."""
    if low is None or high is None:
        return low, high
    high = np.where(high > 0, high, np.nan)
    return np.maximum(low, np.minimum(floor, high)), high


def _limits(
    ax: Axes,
    lines: Sequence[Line2D],
    bands: Sequence[PolyCollection | None],
    reading: Reading,
    floor: float,
) -> None:
    """From zero, or from ``floor`` on a logarithmic axis; ticks are fixed, as the layout is."""
    values = [np.asarray(line.get_ydata(), dtype=np.float64) for line in lines]
    values += [np.asarray(b.get_paths()[0].vertices)[:, 1] for b in bands if b is not None]
    there = np.concatenate(values)
    there = there[np.isfinite(there)]
    largest = float(there.max()) if len(there) else 0.0
    if floor > 0:
        ax.set_yscale("log", nonpositive="mask")
        ax.set_ylim(floor, 1.3 * largest)
        ax.yaxis.set_minor_locator(NullLocator())
        steps = (1.0, 2.0, 5.0) if largest < 300 * floor else (1.0,)
        powers = 10.0 ** np.arange(np.floor(np.log10(floor)), np.log10(1.3 * largest))
        ticks = np.outer(powers, steps).ravel()
        ticks = ticks[(ticks >= floor) & (ticks <= 1.3 * largest)]
        ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        return
    limits = (-0.03, 1.03) if reading == "top1" else (min(0.0, *there, 0.0), 1.06 * largest or 1.0)
    ax.set_ylim(*limits)
    set_ticks(ax, ((0.0, 1.0) if reading == "top1" else limits,), 6)


def _frame(
    ax: Axes, curves: Sequence[LensCurve], reading: Reading, first_layer: int, title: str | None
) -> None:
    width, height = size_in_points(ax)
    layers = np.unique(np.concatenate([curve.layers for curve in curves])) + (first_layer - 1)
    margin = 0.02 * max(float(np.ptp(layers)), 1.0) + 0.1
    ax.set_xlim(layers[0] - margin, layers[-1] + margin)
    digits, size = len(f"{layers[-1]:.0f}"), tick_size(ax)
    ax.set_xticks(layer_ticks(layers, int(width / (size * (0.65 * digits + 0.6)))))
    ax.set_xlabel("layer")
    ax.set_ylabel(_y_label(ax, curves, reading, height))
    as_plain((ax.xaxis.label, ax.yaxis.label))
    if title is not None:
        ax.set_title(one_line(title))
        fit(ax.title, width)


def _y_label(ax: Axes, curves: Sequence[LensCurve], reading: Reading, room: float) -> str:
    """The longest that fits."""
    directions = {curve.direction for curve in curves}
    known = next(iter(directions)).replace("||", " ‖ ") if len(directions) == 1 else "unknown"
    kl = "KL divergence" if known == "unknown" else f"KL({known})"
    choices = {
        "kl": [f"{kl} (nats/token)", kl],
        "entropy": ["entropy (nats/token)", "entropy"],
        "top1": ["agreement of the first guess", "first guess agrees", "top-1"],
    }[reading]
    font = ax.yaxis.label.get_fontproperties()
    return next((text for text in choices if text_width(text, font) <= room), choices[-1])


def lens_caption(curves: Sequence[LensCurve], *, first_layer: int = 1) -> str:
    """What diverges from what, over how many tokens, and what the bands are."""
    directions = {curve.direction for curve in curves}
    known = directions.pop() if len(directions) == 1 else "unknown"
    what = (
        "KL divergence of unknown direction between each layer's LogitLens prediction and the "
        "model's own"
        if known == "unknown"
        else f"KL({known.replace('||', ' || ')}) of each layer's LogitLens prediction and the "
        "model's own"
    )
    counts = {curve.n_tokens for curve in curves}
    one = counts.pop() if len(counts) == 1 else None
    unknown = "an unknown number of tokens" if counts <= {None} else "numbers of tokens that differ"
    tokens = f"{one:,} tokens" if one else unknown
    banded = all(curve.kl_low is not None for curve in curves)
    bands = "Bands: 95 % intervals." if banded else "Curves without a band have no interval."
    off = " Dashed: memory off." if any(not curve.memory for curve in curves) else ""
    notes = "".join(f" Note on {name}: {warning}." for name, warning in _notes(curves))
    return f"{what}, mean over {tokens}. {bands}{off} Layers count from {first_layer}.{notes}"


def _notes(curves: Sequence[LensCurve]) -> list[tuple[str, str]]:
    """(curve, warning), once where a model's curves with memory on and off have the same one."""
    memory: dict[tuple[str, str], set[bool]] = {}
    for curve, (label, beside) in zip(curves, _names(curves), strict=True):
        name = one_line(label + beside.removesuffix(_OFF))
        for warning in curve.warnings:
            memory.setdefault((name, one_line(warning)), set()).add(curve.memory)
    return [
        (name + (_OFF if states == {False} else ""), warning)
        for (name, warning), states in memory.items()
    ]


def lens_table(curves: Sequence[LensCurve], digits: int | None) -> Table:
    """A row a layer, a column a model."""
    digits = 2 if digits is None else digits
    directions = {curve.direction for curve in curves} - {"unknown"}
    if len(directions) > 1:
        raise ComparisonError(
            f"curves of {' and '.join(sorted(directions))} are different divergences; write "
            "them apart"
        )
    layers = sorted({layer for curve in curves for layer in curve.layers})
    rows = []
    for layer in layers:
        row = [str(layer)]
        for curve in curves:
            if layer not in curve.layers:
                row.append("--")
                continue
            at = curve.layers.index(layer)
            text = number(curve.kl[at], digits)
            if curve.kl_low is not None and curve.kl_high is not None:
                text += f" {interval(curve.kl_low[at], curve.kl_high[at], digits)}"
            row.append(text)
        rows.append(row)
    off = ["" if curve.memory else _OFF for curve in curves]
    names = [escaped(curve.label) + end for curve, end in zip(curves, off, strict=True)]
    return ["Layer", *names], rows


DRAWING = Drawing(lens_figure, plot_lens, lens_caption, lens_table)
