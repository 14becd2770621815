"""One pair of models compared in many ways: alignment curves, and the shift by each way.

The curves are those of a map's figure, one a way, the first with its interval. Beside them stands
each way's shift in nearest depth with its interval, and of how many layers it is the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import blended_transform_factory

from engramcka.errors import ConfigError
from engramcka.figures.draw import Drawing, Table, escaped, interval, number, only
from engramcka.figures.labels import (
    as_plain,
    elided,
    fit,
    layer_ticks,
    size_in_points,
    text_width,
    tick_size,
)
from engramcka.figures.lines import COLOURS, LineStyle, draw_band, draw_curve
from engramcka.figures.style import Style, as_style, compose, new_figure, on_own_axes
from engramcka.measures import MEASURES
from engramcka.plain_text import one_line
from engramcka.results import Float, Robustness

Curve = Literal["alignment", "depth"]
CURVES: tuple[Curve, ...] = get_args(Curve)

_WIDE = 6.0  # inches; narrower, the panels stand under each other
_HIGH = 0.8  # height over width of the curves
_ROW = 10.5  # points a way
_NAMES = 0.45  # of the figure's width, or of its part's, for the longest name of a way
_BESIDE = 3.0  # points from the axes to what stands right of them
_VARIANTS = ("-", "--", ":", "-.")
_MARKERS = "os^DvP*X"
_GREY = "#808080"
_COLOURS = (*COLOURS, "#882255")  # as many as there are measures
_SHIFTS = ("shift in nearest depth ({})", "shift in depth ({})", "shift ({})", "shift")


@dataclass(frozen=True)
class RobustnessArtists:
    """The curves drawn, to be changed at will; in the order of the ways."""

    axes: Axes
    curves: list[Line2D]
    band: PolyCollection | None  # interval of the first way, where it has one


@dataclass(frozen=True)
class ShiftArtists:
    """The shifts drawn, to be changed at will; in the order of the ways."""

    axes: Axes
    points: list[ErrorbarContainer | None]  # None where the shift is not determined
    counts: list[Text]  # determined layers of each


def _looks(found: Robustness) -> list[LineStyle]:
    """A colour a measure; marker and dashes for its variants."""
    measures = list(dict.fromkeys(found.measures))
    seen: dict[str, int] = {}
    looks = []
    for measure in found.measures:
        variant = seen[measure] = seen.get(measure, -1) + 1
        colour = _COLOURS[measures.index(measure) % len(_COLOURS)]
        marker = _MARKERS[(variant + measures.index(measure)) % len(_MARKERS)]
        looks.append(LineStyle(colour, marker, _VARIANTS[variant % len(_VARIANTS)]))
    return looks


@on_own_axes(height=_HIGH)
def plot_robustness(
    found: Robustness,
    ax: Axes | None = None,
    *,
    curve: Curve = "alignment",
    first_layer: int = 1,
    map_interval: bool = True,
    title: str | None = None,
) -> RobustnessArtists:
    """Draw which layer of y each layer of x is like, a line a way, on these axes or on new ones.

    Args:
        found: the ways.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).
        curve: the soft alignment index, or the nearest layer where a way determines it.
        first_layer: number of the first block: 1, or 0 as the paper's Figure 4 counts.
        map_interval: draw the first way's 95 % interval, where there is one.
        title: plain text above.

    Returns:
        The artists.

    Raises:
        ConfigError: there is no such curve.
    """
    assert ax is not None
    if curve not in CURVES:
        raise ConfigError(f"no curve {curve!r}; there are {', '.join(CURVES)}")
    moved = first_layer - 1
    x = np.array(found.x_layers, dtype=np.float64) + moved
    order = np.argsort(x, kind="stable")
    x = x[order]
    looks = _looks(found)
    lines: list[Line2D] = []
    for way in reversed(range(len(found.ways))):  # the first above all others
        line = draw_curve(ax, x, _values(found, curve, way)[order] + moved, looks[way])
        line.set(zorder=4 if way == 0 else 3, alpha=1.0 if way == 0 else 0.8)
        line.set_linewidth(1.8 if way == 0 else 0.9)
        lines.insert(0, line)
    there = np.isfinite(_values(found, curve, 0))
    low, high = (
        np.where(there, getattr(found, f"{curve}_{end}")[0], np.nan)[order] + moved
        for end in ("low", "high")
    )
    band = draw_band(ax, x, low, high, looks[0]) if map_interval else None
    _frame(ax, found, x, moved, title)
    return RobustnessArtists(ax, lines, band)


def _values(found: Robustness, curve: Curve, way: int) -> Float:
    """(x layers,) of a way; of nearest layers those alone that are determined."""
    if curve == "alignment":
        return np.asarray(found.alignment[way])
    return np.asarray(np.where(found.determined[way] > 0, found.depth[way], np.nan))


def _frame(ax: Axes, found: Robustness, x: Float, moved: int, title: str | None) -> None:
    """Both axes in layers, with the line on which equal depths lie."""
    width, height = size_in_points(ax)
    x_blocks = max(found.x_layers)
    scale = 1.0 if found.unit == "layers" else found.y_blocks / max(x_blocks, 1)
    ends = np.array([x[0], x[-1]])
    ax.plot(ends, (ends - moved) * scale + moved, color=_GREY, linestyle=":", linewidth=0.8)
    margin = 0.02 * max(float(np.ptp(x)), 1.0) + 0.1
    ax.set_xlim(x[0] - margin, x[-1] + margin)
    room, size = 0.04 * found.y_blocks, tick_size(ax)
    ax.set_ylim(min(found.x_layers[0], 1) + moved - room, found.y_blocks + moved + room)
    y = np.arange(min(found.x_layers[0], 1), found.y_blocks + 1) + moved
    digits = len(f"{max(x[-1], y[-1]):.0f}")
    ax.set_xticks(layer_ticks(x, int(width / (size * (0.65 * digits + 0.6)))))
    ax.set_yticks(layer_ticks(y.astype(np.float64), int(height / (1.6 * size))))
    ax.set_xlabel(one_line(found.x_label))
    ax.set_ylabel(one_line(found.y_label))
    fit(ax.xaxis.label, width, " layer")
    fit(ax.yaxis.label, height, " layer")
    if title is not None:
        ax.set_title(one_line(title))
        fit(ax.title, width)


@on_own_axes(height=_HIGH)
def plot_shifts(found: Robustness, ax: Axes | None = None) -> ShiftArtists:
    """Draw each way's shift in nearest depth with its interval, a row a way.

    Args:
        found: the ways; where a shift is not determined, its row says so.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).

    Returns:
        The artists.
    """
    assert ax is not None
    width, _ = size_in_points(ax)
    size = tick_size(ax)
    looks = _looks(found)
    points: list[ErrorbarContainer | None] = []
    beside = blended_transform_factory(ax.transAxes, ax.transData)
    texts: list[Text] = []
    counts: list[Text] = []
    for way, look in enumerate(looks):
        value = found.shift[way]
        low, high = found.shift_low[way], found.shift_high[way]
        if np.isfinite(value):
            half = None if not np.isfinite(low + high) else [[value - low], [high - value]]
            points.append(
                ax.errorbar(
                    [value], [way], xerr=half, color=look.colour, marker=look.marker,
                    markersize=3.5, linewidth=1.1, elinewidth=1.0, capsize=1.6, zorder=3,
                )
            )  # fmt: skip
        else:
            points.append(None)
            texts.append(
                ax.text(0.5, way, "not determined", transform=beside, ha="center", va="center",
                        fontsize=size, color=_GREY,
                        bbox={"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 0.5})
            )  # fmt: skip
        text = "{}/{}".format(*found.known_layers(way))
        counts.append(
            ax.annotate(text, (1, way), (_BESIDE, 0), xycoords=beside, textcoords="offset points",
                        ha="left", va="center", fontsize=size, annotation_clip=False)
        )  # fmt: skip
    if np.isfinite(found.shift_low[0] + found.shift_high[0]):
        ax.axvspan(
            found.shift_low[0], found.shift_high[0], color=looks[0].colour, alpha=0.12,
            linewidth=0.0, zorder=1,
        )  # fmt: skip
    ax.axvline(0.0, color=_GREY, linestyle=":", linewidth=0.8, zorder=1)
    font = FontProperties(family=ax.xaxis.label.get_fontfamily(), size=size)
    room = _NAMES * ax.figure.bbox.width * 72 / ax.figure.dpi
    names = [elided(one_line(name), font, room) for name in found.ways]
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.4, -0.6)
    _limit_shifts(ax, found)
    _name_shifts(ax, found, width)
    as_plain([*ax.get_yticklabels(), *texts, *counts])
    return ShiftArtists(ax, points, counts)


def _name_shifts(ax: Axes, found: Robustness, room: float) -> None:
    """The longest name of the axis that fits."""
    font = ax.xaxis.label.get_fontproperties()
    names = [name.format(found.unit) for name in _SHIFTS]
    ax.set_xlabel(next((name for name in names if text_width(name, font) <= room), names[-1]))
    as_plain((ax.xaxis.label,))


def _limit_shifts(ax: Axes, found: Robustness) -> None:
    """Room around all shifts, their intervals and zero; few round ticks."""
    values = np.concatenate([found.shift, found.shift_low, found.shift_high, [0.0]])
    values = values[np.isfinite(values)]
    room = 0.08 * max(float(np.ptp(values)), 0.1)
    ax.set_xlim(float(values.min()) - room, float(values.max()) + room)
    ax.locator_params(axis="x", nbins=5)
    ax.set_xticks(
        [tick for tick in ax.get_xticks() if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]]
    )


def robustness_figure(
    found: Robustness, style: Style | str = "plain", *, title: str | None = None, **options: Any
) -> Figure:
    """The curves and the shifts: beside each other where the style is wide, else below.

    Args:
        found: the ways.
        style: a `Style` or the name of one.
        title: plain text above.
        options: those of `plot_robustness`, but ``ax``.
    """
    style = as_style(style)
    rows = (max(len(found.ways), 3) * _ROW + 4.5 * style.font_size) / 72
    beside = style.inches >= _WIDE
    curves = min((0.5 if beside else 1.0) * style.inches * _HIGH, 3.2)
    with style.context():
        if beside:
            figure = new_figure(style, max(curves, rows))
            shape: dict[str, Any] = {"nrows": 1, "ncols": 2}
        else:
            figure = new_figure(style, curves + rows)
            shape = {"nrows": 2, "ncols": 1, "height_ratios": (curves, rows)}
        axes = [part.subplots() for part in figure.subfigures(squeeze=False, **shape).ravel()]

        def draw() -> None:
            plot_robustness(found, axes[0], title=title, **options)
            plot_shifts(found, axes[1])

        compose(figure, draw)
    return figure


def robustness_caption(found: Robustness, *, curve: Curve = "alignment") -> str:
    """What the ways are, what the curves and the shifts are, and what of them survives."""
    y, x = one_line(found.y_label), one_line(found.x_label)
    what = (
        f"soft alignment index over the {found.k} most similar rows of each column"
        if curve == "alignment"
        else "nearest layer, where it is determined"
    )
    counts = sorted({one for one in found.samples if one})
    span = f"{counts[0]:,} to {counts[-1]:,}" if len(counts) > 1 else f"{sum(counts):,}"
    known = f" On {span} samples" if counts else " On an unknown number of samples"
    where = f", those where {one_line(found.where)}" if found.where else ""
    over = f" over {found.interval_over}" if found.interval_over else ""
    return (
        f"Which layer of {y} each layer of {x} is like, in {len(found.ways)} ways: {what} (left or "
        f"above; band: 95 % interval of {one_line(found.ways[0])}{over}; dotted: equal depth) and "
        "mean shift in nearest depth with its 95 % interval (shaded: that of the first), with the "
        "number of layers that determine it. Each way is as the first but for what it is called."
        f"{known}{where}. {_measures(found)} {_capital(found.summary())}."
    )


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _measures(found: Robustness) -> str:
    """What the first way is made with, and what each measure is."""
    estimator = f", {found.estimators[0]} estimator" if found.estimators[0] else ""
    said = [
        MEASURES[measure].words for measure in dict.fromkeys(found.measures) if measure in MEASURES
    ]
    return (
        f"{one_line(found.ways[0])} is {said[0]}{estimator}. Also: {'; '.join(said[1:])}."
        if (len(said) > 1)
        else f"{one_line(found.ways[0])} is {'; '.join(said) or 'an unknown measure'}{estimator}."
    )


def robustness_table(results: Sequence[Robustness], digits: int | None) -> Table:
    """A row a way: shift, interval, layers determined, and those nearest as by the first way."""
    found: Robustness = only(results)
    digits = 2 if digits is None else digits
    at = None if found.layer is None else found.x_layers.index(found.layer)
    rows = []
    for way, name in enumerate(found.ways):
        row = [
            escaped(name),
            number(found.shift[way], digits),
            interval(found.shift_low[way], found.shift_high[way], digits),
            "{} of {}".format(*found.known_layers(way)),
            f"{int(found.same[way].sum())} of {int(found.both_determined[way].sum())}",
        ]
        if at is not None:
            ends = found.alignment_low[way, at], found.alignment_high[way, at]
            depth = found.depth[way, at] if found.determined[way, at] else float("nan")
            row += [number(depth, 1), f"{number(found.alignment[way, at], 1)} {interval(*ends, 1)}"]
        rows.append(row)
    unit = "layers" if found.unit == "layers" else "relative depth"
    head = ["Way", f"Nearest depth ({unit})", "95\\,\\% interval", "Determined", "Same layer"]
    if at is not None:
        head += [f"Layer {found.layer}: nearest", f"soft alignment ($k = {found.k}$)"]
    return head, rows


DRAWING = Drawing(robustness_figure, plot_robustness, robustness_caption, robustness_table)
