"""Training curves of several models: training loss thin, validation loss on top with markers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from engramcka.errors import ConfigError
from engramcka.figures.draw import Drawing, Table, escaped, number
from engramcka.figures.labels import (
    as_plain,
    fit,
    set_ticks,
    short_count,
    size_in_points,
    span_of,
    tick_size,
)
from engramcka.figures.lines import LineStyle, draw_legend, loss_label
from engramcka.figures.style import Style, as_style, on_own_axes, one_axes_figure
from engramcka.plain_text import one_line
from engramcka.results import TrainingCurve

_HIGH = 0.62  # height over width
_TOP_SHARE = 99.0  # percentile of losses that the axis reaches at least; a spike may leave it
_MOST = 4000  # points a line is drawn with


@dataclass(frozen=True)
class TrainingArtists:
    """What was drawn, to be changed at will; in the order of the curves."""

    axes: Axes
    training: list[Line2D]
    validation: list[Line2D | None]
    legend: Legend | None


@on_own_axes(height=_HIGH)
def plot_training(
    curves: TrainingCurve | Sequence[TrainingCurve],
    ax: Axes | None = None,
    *,
    title: str | None = None,
    legend: bool = True,
    until: float | None = None,
) -> TrainingArtists:
    """Draw the losses of one or several trainings on these axes, or on new ones.

    Args:
        curves: at least one.
        ax: where to draw; without it a figure in the plain style is made (``.axes.figure``).
        title: plain text above.
        legend: name the curves, where there are several.
        until: a step; what comes after it is faint, and a line marks it.

    Returns:
        The artists.

    Raises:
        ConfigError: there is no curve.
    """
    assert ax is not None
    curves = [curves] if isinstance(curves, TrainingCurve) else list(curves)
    if not curves:
        raise ConfigError("a figure of training curves needs at least one curve")
    training, validation = [], []
    for index, curve in enumerate(curves):
        look = LineStyle.of(index)
        training.append(_draw_training(ax, curve, look))
        validation.append(_draw_validation(ax, curve, look))
    if until is not None:
        ax.axvspan(until, 1e18, facecolor=ax.get_facecolor(), alpha=0.75, zorder=4, linewidth=0.0)
        ax.axvline(until, color="#808080", linewidth=0.8, zorder=5)
    _frame(ax, curves, title)
    handles = [line or thin for line, thin in zip(validation, training, strict=True)]
    names = draw_legend(ax, handles, [(curve.label, "") for curve in curves]) if legend else None
    return TrainingArtists(ax, training, validation, names)


def training_figure(
    curves: TrainingCurve | Sequence[TrainingCurve], style: Style | str = "plain", **options: Any
) -> Figure:
    """A figure with one or several curves; ``options`` are `plot_training`'s, but ``ax``."""
    style = as_style(style)
    height = max(1.8, min(_HIGH * style.inches, 3.2))
    return one_axes_figure(style, height, lambda axes: plot_training(curves, axes, **options))


def _draw_training(ax: Axes, curve: TrainingCurve, look: LineStyle) -> Line2D:
    every = max(1, len(curve.step) // _MOST)
    (line,) = ax.plot(
        curve.step[::every], curve.loss[::every], color=look.colour, linestyle=look.dashes,
        linewidth=0.7, alpha=0.45 if len(curve.validation_step) else 0.9, zorder=2,
        marker="o" if len(curve.step) == 1 else "", markersize=3.0,
    )  # fmt: skip
    return line


def _draw_validation(ax: Axes, curve: TrainingCurve, look: LineStyle) -> Line2D | None:
    if not len(curve.validation_step):
        return None
    room = size_in_points(ax)[0] / len(curve.validation_step)
    (line,) = ax.plot(
        curve.validation_step, curve.validation_loss, color=look.colour, linestyle=look.dashes,
        linewidth=1.2, marker=look.marker if room > 4 else "", markersize=min(3.2, 0.5 * room),
        markeredgewidth=0.0, zorder=3,
    )  # fmt: skip
    return line


def _frame(ax: Axes, curves: Sequence[TrainingCurve], title: str | None) -> None:
    """Labels, limits and fixed ticks."""
    width, height = size_in_points(ax)
    losses = np.concatenate(
        [values for curve in curves for values in (curve.loss, curve.validation_loss)]
    )
    losses = losses[np.isfinite(losses)]
    steps = np.concatenate(
        [values for curve in curves for values in (curve.step, curve.validation_step)]
    )
    right = float(steps.max()) if len(steps) and steps.max() > 0 else 1.0
    ax.set_xlim(-0.02 * right, 1.02 * right)
    room = max(2, min(6, int(width / (tick_size(ax) * 4.2))))
    ticks = MaxNLocator(room, steps=[1, 2, 2.5, 5, 10]).tick_values(0, right)
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if 0 <= tick <= right]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short_count(step)))
    ax.set_xlabel("step")
    if len(losses):
        top = max(float(np.percentile(losses, _TOP_SHARE)), *_last(curves, float(losses.min())))
        margin = 0.05 * span_of(np.array([losses.min(), top]))
        limits = float(losses.min()) - margin, top + margin
        ax.set_ylim(*limits)
        set_ticks(ax, (limits,), 6)
    else:
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no loss yet", transform=ax.transAxes, ha="center", va="center")
    ax.set_ylabel(loss_label(ax, "nats/token", height, "loss"))
    as_plain((ax.xaxis.label, ax.yaxis.label))
    if title is not None:
        ax.set_title(one_line(title))
        fit(ax.title, width)


def _last(curves: Sequence[TrainingCurve], least: float) -> list[float]:
    """Each curve's largest validation loss, which is never left out."""
    found = [curve.validation_loss[np.isfinite(curve.validation_loss)] for curve in curves]
    return [float(values.max()) for values in found if len(values)] or [least]


def training_caption(curves: Sequence[TrainingCurve]) -> str:
    """Which line is the training loss and which the validation loss."""
    checked = any(len(curve.validation_step) for curve in curves)
    both = " Thin: training loss; thick, with markers: validation loss." if checked else ""
    return f"Loss (nats/token) against optimiser steps.{both}"


def training_table(curves: Sequence[TrainingCurve], digits: int | None) -> Table:
    """A row a model: its last losses, and its best validation loss."""
    digits = 3 if digits is None else digits
    rows = []
    for curve in curves:
        last = number(curve.loss[-1], digits) if len(curve.loss) else "--"
        final = number(curve.validation_loss[-1], digits) if len(curve.validation_loss) else "--"
        best, at = "--", "--"
        if np.isfinite(curve.validation_loss).any():
            index = int(np.nanargmin(curve.validation_loss))
            best = number(curve.validation_loss[index], digits)
            at = f"{curve.validation_step[index]:,.0f}"
        steps = f"{curve.step[-1]:,.0f}" if len(curve.step) else "--"
        rows.append([escaped(curve.label), steps, last, final, best, at])
    return ["Model", "Steps", "Training loss", "Validation loss", "Best", "at step"], rows


DRAWING = Drawing(training_figure, plot_training, training_caption, training_table)
