"""Names of models and variants as plain text on a figure.

Knows nothing of results. A name is never read as TeX or mathematics: ``$``, ``_``, ``^`` and
backslashes are drawn as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import TextToPath

from engramcka.figures.plain import plain

_HINTED = 1.09  # text on a coarse grid of pixels is up to so much wider than its outlines


def text_width(text: str, font: FontProperties) -> float:
    """Width of the text set in this font, in points, and a little for what hinting adds."""
    width, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return _HINTED * float(width)


def elided(text: str, font: FontProperties, limit: float) -> str:
    """The text, its middle left out for an ellipsis where it is wider than ``limit`` points."""
    if text_width(text, font) <= limit:
        return text

    def shortened(kept: int) -> str:
        head, tail = text[: (kept + 1) // 2], text[len(text) - kept // 2 :]
        return f"{head.rstrip()}…{tail.lstrip()}"

    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        kept = (fits + too_long) // 2
        if text_width(shortened(kept), font) <= limit:
            fits = kept
        else:
            too_long = kept
    return shortened(fits)


def wrapped(text: str, font: FontProperties, limit: float, ending: str, most: int) -> str:
    """The text and its ending on up to ``most`` lines, none wider than ``limit`` points.

    Lines break at spaces, after hyphens, underscores and slashes, and within a piece that is wider
    by itself. What does not fit is left out at the end for an ellipsis, and the ending kept.
    """

    def fits(line: str) -> bool:
        return text_width(line, font) <= limit

    lines = _lines(text + ending, fits)
    if len(lines) <= most:
        return "\n".join(lines)
    kept = _lines(text, fits)[:most]
    last = kept[-1]
    while last and not fits(f"{last}…{ending}"):
        last = last[:-1].rstrip()
    return "\n".join([*kept[:-1], f"{last}…{ending}"])


def _lines(text: str, fits: Callable[[str], bool]) -> list[str]:
    """As few lines as the pieces need, each filled as far as it goes."""
    lines = [""]
    for piece in re.findall(r"\s+|[^\s\-_/]*[\-_/]+|[^\s\-_/]+", text):
        if fits(lines[-1] + piece.rstrip()):
            lines[-1] += piece
            continue
        if lines[-1].strip() and fits(piece.strip()):
            lines.append(piece.lstrip())
            continue
        for character in piece:  # no line holds it whole
            if lines[-1] and not fits(lines[-1] + character):
                lines.append("")
            lines[-1] += character
    return [line.strip() for line in lines if line.strip()] or [""]


def fit_lines(text: Text, limit: float, ending: str, most: int) -> None:
    """As `fit`, on up to ``most`` lines, and shortened at the end."""
    lines = wrapped(plain(text.get_text()), text.get_fontproperties(), limit, ending, most)
    as_plain((text,))
    text.set_text(lines)


def fit(text: Text, limit: float, ending: str = "") -> None:
    """Make one label plain and no wider than ``limit`` points, with ``ending`` kept whole."""
    font = text.get_fontproperties()
    name = elided(plain(text.get_text()), font, limit - text_width(ending, font))
    text.set_text(name + ending)
    as_plain((text,))


def as_plain(texts: Iterable[Text]) -> None:
    """Draw these texts as they are, whatever the caller's settings say about TeX."""
    for text in texts:
        text.set_usetex(False)
        text.set_parse_math(False)
        text.set_text(plain(text.get_text()))


def size_in_points(ax: Axes) -> tuple[float, float]:
    """Width and height of the axes, before the layout is made final, in points."""
    box, points = ax.get_window_extent(), 72.0 / ax.figure.dpi
    return box.width * points, box.height * points


def tick_size(ax: Axes) -> float:
    """Font size of the x axis's tick labels, in points."""
    return float(ax.xaxis.get_major_ticks(1)[0].label1.get_fontsize())
