"""Gates of every Engram module by entity type, and which n-gram order answers.

A dot is one residual stream's mean gate over the tokens of a type, with its 95 % interval; a colour
is one module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.text import Text

from engramcka.errors import ComparisonError
from engramcka.figures.draw import Drawing, Table, escaped, number, only
from engramcka.figures.labels import as_plain, elided, fit, size_in_points, text_width, tick_size
from engramcka.figures.lines import COLOURS, LineStyle, draw_legend
from engramcka.figures.style import Style, as_style, compose, new_figure, on_own_axes
from engramcka.plain_text import one_line
from engramcka.results import GateMap
from engramcka.results.statistics import Float

_ROW = 10.0  # points a type at least
_DOT = 2.7  # points a dot of a type
_NAMES = 0.36  # of the figure's width, for the longest type
_BAR = 14.0  # points a module's bar of orders


@dataclass(frozen=True)
class GateArtists:
    """What was drawn, to be changed at will; a container a module."""

    axes: Axes
    points: list[ErrorbarContainer]
    legend: Legend | None


@on_own_axes(height=0.9)
def plot_gates(
    gates: GateMap, ax: Axes | None = None, *, first_layer: int = 1, title: str | None = None
) -> GateArtists:
    """Draw the mean gate by entity type, a dot a module and stream.

    Args:
        gates: means over the tokens of each type, with intervals where there are any.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).
        first_layer: number of the first block: 1 as everywhere, or 0.
        title: plain text above.

    Returns:
        The artists.
    """
    assert ax is not None
    rows = np.arange(len(gates.types), dtype=np.float64)
    modules, streams = gates.alpha.shape[1:]
    offsets = (np.arange(modules * streams) - (modules * streams - 1) / 2) * (
        0.8 / (modules * streams)
    )
    points = []
    for module in range(modules):
        look = LineStyle.of(module)
        own = offsets[module * streams : (module + 1) * streams]
        at = (rows[:, None] + own).ravel()
        points.append(
            ax.errorbar(
                gates.alpha[:, module].ravel(), at, xerr=_errors(gates, module), linestyle="none",
                color=look.colour, marker=look.marker, markersize=2.2, elinewidth=0.7,
                capsize=0.0, markeredgewidth=0.0, zorder=3,
            )
        )  # fmt: skip
    for row in rows[:-1]:
        ax.axhline(row + 0.5, color="#80808040", linewidth=0.5, zorder=1)
    _frame(ax, gates, title)
    handles = [container.lines[0] for container in points]
    names = [(f"layer {layer + first_layer - 1}", "") for layer in gates.layers]
    return GateArtists(ax, points, draw_legend(ax, handles, names, outside=True))


@on_own_axes(height=0.4)
def plot_gate_orders(
    gates: GateMap, ax: Axes | None = None, *, first_layer: int = 1
) -> list[list[Text]]:
    """Draw which n-gram order the value comes from: a bar a module, with the row collisions.

    Args:
        gates: with ``order_share``, (modules, orders).
        ax: where to draw; without it a figure in the plain style is made.
        first_layer: number of the first block: 1 as everywhere, or 0.

    Returns:
        The text of each part, by module and order.

    Raises:
        ComparisonError: there are no shares.
    """
    assert ax is not None
    shares = gates.order_share
    if shares is None or not gates.orders:
        raise ComparisonError(
            f"the gates of {one_line(gates.label)} have no shares of n-gram orders"
        )
    texts: list[list[Text]] = [[] for _ in gates.layers]
    left = np.zeros(len(gates.layers))
    for order, (grams, colour) in enumerate(zip(gates.orders, _greys(gates), strict=True)):
        part = np.nan_to_num(shares[:, order])
        ax.barh(range(len(part)), part, 0.75, left=left, color=colour, zorder=2)
        for module in range(len(part)):
            text = _order_text(ax, gates, module, order, grams, left[module] + part[module] / 2)
            texts[module].append(text)
        left += part
    ax.set_xlim(0, 1)
    ax.set_ylim(len(gates.layers) - 0.5, -0.5)
    ax.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    layers = [layer + first_layer - 1 for layer in gates.layers]
    ax.set_yticks(range(len(layers)), [f"layer {layer}" for layer in layers])
    ax.set_xlabel("value by n-gram order")
    fit(ax.xaxis.label, size_in_points(ax)[0])
    return texts


def gates_figure(
    gates: GateMap, style: Style | str = "plain", *, first_layer: int = 1, **options: Any
) -> Figure:
    """Gates by type, and below them the n-gram orders where these are known.

    Args:
        gates: of one model.
        style: a `Style` or the name of one.
        first_layer: number of the first block: 1 as everywhere, or 0.
        options: those of `plot_gates`, but ``ax``.
    """
    style = as_style(style)
    dots = gates.alpha.shape[1] * gates.alpha.shape[2]
    rows = [max(len(gates.types), 2) * max(_ROW, _DOT * dots)]
    if gates.order_share is not None and gates.orders:
        rows.append(len(gates.layers) * _BAR)
    with style.context():
        height = (sum(rows) + len(rows) * 4.5 * style.font_size) / 72
        figure = new_figure(style, height)
        axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows)[:, 0]

        def draw() -> None:
            plot_gates(gates, axes[0], first_layer=first_layer, **options)
            if len(axes) > 1:
                plot_gate_orders(gates, axes[1], first_layer=first_layer)

        compose(figure, draw)
    return figure


def _errors(gates: GateMap, module: int) -> Float | None:
    """(2, types x streams) how far the interval reaches below and above the mean."""
    if gates.alpha_low is None or gates.alpha_high is None:
        return None
    mean = gates.alpha[:, module]
    ends = mean - gates.alpha_low[:, module], gates.alpha_high[:, module] - mean
    return np.stack([np.clip(end, 0.0, None).ravel() for end in ends])


def _frame(ax: Axes, gates: GateMap, title: str | None) -> None:
    width, _ = size_in_points(ax)
    size = tick_size(ax)
    font = FontProperties(family=ax.xaxis.label.get_fontfamily(), size=size)
    room = _NAMES * 72 * cast(Figure, ax.figure).get_figwidth()
    names = []
    for index, name in enumerate(gates.types):
        count = f" ({gates.counts[index]:,})" if index < len(gates.counts) else ""
        names.append(elided(one_line(name), font, room - text_width(count, font)) + count)
    ax.set_yticks(range(len(names)), names)
    as_plain(ax.get_yticklabels())
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(0.0, 1.0)
    ax.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1], ["0", "0.2", "0.4", "0.6", "0.8", "1"])
    ax.set_xlabel("mean gate α")
    fit(ax.xaxis.label, width)
    if title is not None:
        ax.set_title(one_line(title))
        fit(ax.title, width)


def _greys(gates: GateMap) -> list[str]:
    """A colour an n-gram order, other than the modules'."""
    return [COLOURS[(index + 3) % len(COLOURS)] for index in range(len(gates.orders))]


def _order_text(
    ax: Axes, gates: GateMap, module: int, order: int, number: int, middle: float
) -> Text:
    """The longest of a few texts that fits into a part of a bar; empty where none does."""
    assert gates.order_share is not None
    share = float(gates.order_share[module, order])
    size = tick_size(ax)
    font = FontProperties(family=ax.xaxis.label.get_fontfamily(), size=size)
    texts = [f"{number}-grams {100 * share:.0f} %", f"{number}: {100 * share:.0f} %", f"{number}"]
    if gates.collisions is not None and np.isfinite(gates.collisions[module, order]):
        texts.insert(0, f"{texts[0]}, {100 * gates.collisions[module, order]:.0f} % collide")
    room = share * size_in_points(ax)[0] - 4
    shown = next((text for text in texts if text_width(text, font) <= room), "")
    text = ax.text(
        middle, module, shown, ha="center", va="center", fontsize=size, color="black", zorder=3
    )
    as_plain((text,))
    return text


def gates_caption(gates: GateMap) -> str:
    """Whose gates they are, and what a dot, a bar and a colour stand for."""
    bars = " with its 95 % interval" if gates.alpha_low is not None else ""
    streams = gates.alpha.shape[2]
    dot = f"one of {streams} residual streams" if streams > 1 else "one module"
    return (
        f"Mean gate α of {one_line(gates.label)} by entity type (tokens in brackets); a dot is "
        f"{dot}{bars}, a colour the layer of one module."
    )


def gates_table(gates: Sequence[GateMap], digits: int | None) -> Table:
    """A row a type, a column a module; means over the streams."""
    one = only(gates)
    digits = 2 if digits is None else digits
    rows = []
    for index, name in enumerate(one.types):
        count = f"{one.counts[index]:,}" if index < len(one.counts) else "--"
        means = one.alpha[index].mean(axis=1)
        rows.append([escaped(name), count, *(number(mean, digits) for mean in means)])
    return ["Type", "Tokens", *(f"Layer {layer}" for layer in one.layers)], rows


DRAWING = Drawing(gates_figure, plot_gates, gates_caption, gates_table)
