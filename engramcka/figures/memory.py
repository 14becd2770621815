"""What is left with the memory switched off: bars by token class (Engram paper, section 6.3).

A bar is the share of a token's likelihood that is kept, exp(loss with memory - loss without); the
difference in nats stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.text import Text

from engramcka.errors import ComparisonError, ConfigError
from engramcka.figures.draw import Drawing, Table, escaped, interval, number
from engramcka.figures.labels import as_plain, elided, fit, size_in_points, text_width, tick_size
from engramcka.figures.lines import LineStyle, draw_legend
from engramcka.figures.style import Style, as_style, on_own_axes, one_axes_figure
from engramcka.plain_text import one_line
from engramcka.results import MemoryAblation
from engramcka.results.statistics import Float

_ROW = 15.0  # points a bar
_THICK = 0.8  # of a class's row, for all its bars
_BESIDE = 4.0  # points from a bar to its value
_NAMES = 0.42  # of the width, for the longest class name


@dataclass(frozen=True)
class MemoryArtists:
    """What was drawn, to be changed at will; in the order of the ablations."""

    axes: Axes
    bars: list[BarContainer]
    values: list[Text]  # share and difference beside each bar
    legend: Legend | None


@on_own_axes(height=0.5)
def plot_memory(
    ablations: MemoryAblation | Sequence[MemoryAblation],
    ax: Axes | None = None,
    *,
    title: str | None = None,
) -> MemoryArtists:
    """Draw the share of the likelihood kept, a bar a token class and model.

    Args:
        ablations: one, or several with the same classes.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).
        title: plain text above.

    Returns:
        The artists.

    Raises:
        ConfigError: there is no ablation.
        ComparisonError: the classes differ.
    """
    assert ax is not None
    given = _checked(ablations)
    classes, each = len(given[0].classes), _THICK / len(given)
    middle = np.arange(classes, dtype=np.float64)
    bars, values = [], []
    for index, ablation in enumerate(given):
        at = middle + (index - (len(given) - 1) / 2) * each
        low, high = _interval(ablation)
        bars.append(
            ax.barh(
                at, ablation.kept, height=0.9 * each, color=LineStyle.of(index).colour, zorder=2,
                xerr=[low, high], error_kw={"elinewidth": 0.8, "capsize": 1.6,
                                            "ecolor": ax.xaxis.label.get_color()},
            )
        )  # fmt: skip
        values += _write_values(ax, ablation, at, np.nan_to_num(high))
    ax.axvline(1.0, color="#808080", linestyle=":", linewidth=0.8, zorder=1)
    _frame(ax, given, title)
    handles = [container.patches[0] for container in bars]
    names = draw_legend(ax, handles, [(one.label, "") for one in given], outside=True)
    return MemoryArtists(ax, bars, values, names)


def memory_figure(
    ablations: MemoryAblation | Sequence[MemoryAblation],
    style: Style | str = "plain",
    **options: Any,
) -> Figure:
    """A figure as high as its bars need; ``options`` are `plot_memory`'s, but ``ax``."""
    style = as_style(style)
    given = _checked(ablations)
    rows = max(len(given[0].classes) * len(given), 2)
    height = (rows * _ROW + 5.5 * style.font_size) / 72
    return one_axes_figure(style, height, lambda axes: plot_memory(ablations, axes, **options))


def _checked(ablations: MemoryAblation | Sequence[MemoryAblation]) -> list[MemoryAblation]:
    given = [ablations] if isinstance(ablations, MemoryAblation) else list(ablations)
    if not given or not given[0].classes:
        raise ConfigError("a figure of memory ablations needs at least one, with a token class")
    for one in given[1:]:
        if one.classes != given[0].classes:
            raise ComparisonError(
                f"{one_line(one.label)} has token classes {', '.join(one.classes)}, "
                f"{one_line(given[0].label)} {', '.join(given[0].classes)}; draw them apart"
            )
    return given


def _interval(ablation: MemoryAblation) -> tuple[Float, Float]:
    """How far the ends of the share's 95 % interval are below and above it; NaN where unknown."""
    unknown = np.full(len(ablation.classes), np.nan)
    low, high = ablation.difference_low, ablation.difference_high
    if low is None or high is None:
        return unknown, unknown
    return ablation.kept - np.exp(-high), np.exp(-low) - ablation.kept


def _write_values(ax: Axes, ablation: MemoryAblation, at: Float, above: Float) -> list[Text]:
    texts: list[Text] = []
    for y, label, kept, end in zip(at, _labels(ablation), ablation.kept, above, strict=True):
        text = ax.annotate(
            label, (max(kept + end, 1.0) if np.isfinite(kept) else 0.0, y), (_BESIDE, 0),
            textcoords="offset points", va="center", ha="left", fontsize=tick_size(ax),
            annotation_clip=False,
        )  # fmt: skip
        texts.append(text)
    as_plain(texts)
    return texts


def _labels(ablation: MemoryAblation) -> list[str]:
    """Share kept and loss gained, in nats a token."""
    gained = ablation.loss_off - ablation.loss_on
    return [
        f"{100 * kept:.0f} % ({more:+.2f})".replace("-", "−") if np.isfinite(kept) else "no tokens"
        for kept, more in zip(ablation.kept, gained, strict=True)
    ]


def _frame(ax: Axes, given: Sequence[MemoryAblation], title: str | None) -> None:
    width, _ = size_in_points(ax)
    size = tick_size(ax)
    font = FontProperties(family=ax.xaxis.label.get_fontfamily(), size=size)
    names = [elided(one_line(name), font, _NAMES * width) for name in given[0].classes]
    ax.set_yticks(range(len(names)), names)
    as_plain(ax.get_yticklabels())
    ax.set_ylim(len(names) - 0.45, -0.55)
    ends = [np.append(one.kept + np.nan_to_num(_interval(one)[1]), 1.0) for one in given]
    right = float(np.nanmax(np.concatenate(ends)))
    labels = [label for one in given for label in _labels(one)]
    beside = max(text_width(label, font) for label in labels) + 2 * _BESIDE
    ax.set_xlim(0.0, right / max(0.3, 1.0 - beside / width))
    ticks = [0.0, 0.5, 1.0] if right < 2 else [0.0, 1.0, float(np.floor(right))]
    ax.set_xticks(ticks, [f"{100 * tick:.0f} %" for tick in ticks])
    ax.set_xlabel("likelihood kept, memory off")
    fit(ax.xaxis.label, width)
    if title is not None:
        ax.set_title(one_line(title))
        fit(ax.title, width)


def memory_caption(ablations: Sequence[MemoryAblation]) -> str:
    """What a bar is, and over how many tokens."""
    bars = all(one.difference_low is not None for one in ablations)
    counts = [
        f"{one_line(name)} {count:,}"
        for name, count in zip(ablations[0].classes, ablations[0].counts, strict=False)
    ]
    return (
        "Share of a token's likelihood kept with the memory off, exp(loss with memory - loss "
        "without), and in brackets the loss gained (nats/token)."
        + (" Bars: 95 % intervals." if bars else "")
        + (f" Tokens: {', '.join(counts)}." if counts else "")
    )


def memory_table(ablations: Sequence[MemoryAblation], digits: int | None) -> Table:
    """A row a model and token class."""
    digits = 3 if digits is None else digits
    rows = []
    for ablation in ablations:
        for index, name in enumerate(ablation.classes):
            count = f"{ablation.counts[index]:,}" if index < len(ablation.counts) else "--"
            on, off = ablation.loss_on[index], ablation.loss_off[index]
            gained = number(off - on, digits)
            if ablation.difference_low is not None and ablation.difference_high is not None:
                ends = ablation.difference_low[index], ablation.difference_high[index]
                gained += f" {interval(*ends, digits)}"
            kept = f"{number(100 * ablation.kept[index], 1)}"
            rows.append(
                [escaped(ablation.label), escaped(name), count, number(on, digits),
                 number(off, digits), gained, kept]
            )  # fmt: skip
    head = ["Model", "Tokens", "n", "Loss", "Memory off", "Difference", r"Kept (\%)"]
    return head, rows


DRAWING = Drawing(memory_figure, plot_memory, memory_caption, memory_table)
