"""A series of maps over training checkpoints as small multiples with one colour bar.

Knows results, no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from engramcka.errors import ComparisonError
from engramcka.figures.panels import cka_panels
from engramcka.figures.plain import plain
from engramcka.figures.style import Style
from engramcka.results import CkaMap

MOST_PANELS = 12
"""Panels a figure of a series has at most; of a longer one, evenly spaced maps are shown."""


def series_figure(
    maps: Sequence[CkaMap], style: Style | str = "plain", *, most: int = MOST_PANELS, **options: Any
) -> Figure:
    """Small multiples of a series, earliest checkpoint first, the step above each.

    Args:
        maps: of one pair of models, with their ``step``.
        style: a `Style` or the name of one.
        most: panels at most; the first and the last map are always shown.
        options: those of `cka_panels`, but ``titles``.

    Raises:
        ComparisonError: there are no maps, one has no step, or a step occurs twice.
    """
    ordered = in_order(maps)
    shown = np.unique(np.linspace(0, len(ordered) - 1, min(most, len(ordered))).round().astype(int))
    chosen = [ordered[index] for index in shown]
    return cka_panels(chosen, style, titles=[step_title(cka) for cka in chosen], **options)


def in_order(maps: Sequence[CkaMap]) -> list[CkaMap]:
    """The maps by step.

    Raises:
        ComparisonError: as `series_figure`.
    """
    if not maps:
        raise ComparisonError("a series needs at least one map")
    for cka in maps:
        if cka.step is None:
            raise ComparisonError(
                f"the map of {plain(cka.y_label)} and {plain(cka.x_label)} has no training step, "
                "which a series is ordered by"
            )
    ordered = sorted(maps, key=lambda cka: cka.step or 0)
    steps = [cka.step for cka in ordered]
    for before, after in pairwise(steps):
        if before == after:
            raise ComparisonError(f"two maps of the series are of step {after}")
    return ordered


def step_title(cka: CkaMap) -> str:
    """As it stands above a map."""
    return f"step {cka.step:,}"
