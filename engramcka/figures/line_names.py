"""Names of the horizontal lines of a sweep, each where least is in the way.

Knows axes and values, no results.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from engramcka.figures.ablations import LINE, heights_of, put_on_ground
from engramcka.figures.labels import fit, size_in_points, text_width, tick_size
from engramcka.figures.plain import plain

Float = npt.NDArray[np.float64]

_NEAR = 4.0  # points: what is nearer to a name than this is in its way


def name_lines(
    ax: Axes,
    lines: Sequence[Line2D],
    names: Sequence[str],
    x: Float,
    mean: Float,
    taken: Float,
) -> list[Annotation]:
    """Each horizontal line's name above or below it, at the end where least is in the way.

    A name longer than the layers' part of the axes reaches on under the ablations. ``taken`` are
    further (points, 2) places not to cover, in points.
    """
    width, height = size_in_points(ax)
    size = tick_size(ax)
    left, right = ax.get_xlim()
    at = (x - left) / (right - left) * width
    ends = 0.02 * width, float(at[-1])
    busy = np.column_stack([at, heights_of(ax, mean)])
    busy = np.concatenate([busy, taken])
    losses = np.array([float(np.asarray(line.get_ydata())[0]) for line in lines])
    levels = heights_of(ax, losses)
    texts = []
    for index, (line, name) in enumerate(zip(lines, names, strict=True)):
        text = ax.annotate(
            plain(name), (0, losses[index]), (0, 0), textcoords="offset points", fontsize=size,
            color=line.get_color(), annotation_clip=False,
        )  # fmt: skip
        fit(text, width - 2 * ends[0])
        put_on_ground(text, ax)
        long = text_width(text.get_text(), text.get_fontproperties())
        others = np.delete(levels, index)
        below, at_right = min(
            product((False, True), (False, True) if long <= ends[1] - ends[0] else (False,)),
            key=lambda place: _in_the_way(
                busy, others, (ends[1] - long if place[1] else ends[0]) - 3, long + 13,
                levels[index] - place[0] * LINE * size, LINE * size, height,
            ),
        )  # fmt: skip
        text.xy = (left + ends[at_right] * (right - left) / width, losses[index])
        text.set_position((0, -0.2 * size if below else 0.2 * size))
        text.set_horizontalalignment("right" if at_right else "left")
        text.set_verticalalignment("top" if below else "bottom")
        texts.append(text)
    return texts


def _in_the_way(
    busy: Float, lines: Float, left: float, long: float, bottom: float, tall: float, height: float
) -> float:
    """How much a name in this box would cover: how deep points lie in it, lines, the frame."""
    across = (busy[:, 0] > left) & (busy[:, 0] < left + long)
    deep = np.minimum(busy[:, 1] - bottom, bottom + tall - busy[:, 1]) + _NEAR
    crossed = ((lines > bottom) & (lines < bottom + tall)).sum()
    outside = bottom < 0 or bottom + tall > height
    return float(deep[across & (deep > 0)].sum() + tall * crossed + 1000.0 * outside)
