"""Text on a figure: names of models as plain text, characters that fonts have, numbers on an axis.

A name is never read as TeX or mathematics: ``$``, ``_``, ``^`` and backslashes are drawn as they
are. A character that no font has is named by its number. Ticks stand at round numbers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from matplotlib.textpath import TextToPath
from matplotlib.ticker import FixedLocator, FormatStrFormatter, MaxNLocator

from engramcka.plain_text import one_line
from engramcka.results.statistics import Float

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
    lines = wrapped(one_line(text.get_text()), text.get_fontproperties(), limit, ending, most)
    as_plain((text,))
    text.set_text(lines)


def fit(text: Text, limit: float, ending: str = "") -> None:
    """Make one label plain and no wider than ``limit`` points, with ``ending`` kept whole."""
    font = text.get_fontproperties()
    name = elided(one_line(text.get_text()), font, limit - text_width(ending, font))
    text.set_text(name + ending)
    as_plain((text,))


def as_plain(texts: Iterable[Text]) -> None:
    """Draw these texts as they are, whatever the caller's settings say about TeX."""
    for text in texts:
        text.set_usetex(False)
        text.set_parse_math(False)
        text.set_text(one_line(text.get_text()))


def size_in_points(ax: Axes) -> tuple[float, float]:
    """Width and height of the axes, before the layout is made final, in points."""
    box, points = ax.get_window_extent(), 72.0 / ax.figure.dpi
    return box.width * points, box.height * points


def tick_size(ax: Axes) -> float:
    """Font size of the x axis's tick labels, in points."""
    return float(ax.xaxis.get_major_ticks(1)[0].label1.get_fontsize())


_SHOWN = {"\n": "↵", "\r": "↵", "\t": "⇥", "\u00a0": " "}


def drawable(text: str, families: Sequence[str]) -> tuple[str, frozenset[str]]:
    """The text on one line, with a character's number, as [4E2D], where no font has it.

    Args:
        text: any; line ends and tabs become signs, other control characters numbers.
        families: font families, the first that has a character draws it.

    Returns:
        What can be drawn, and the characters that cannot.
    """
    known = _covered(tuple(families))
    shown, missing = [], set()
    for character in text:
        character = _SHOWN.get(character, character)
        category = unicodedata.category(character)
        if category in ("Mn", "Me", "Cf", "Zs") or ord(character) in known:
            shown.append(character if category[0] != "Z" else " ")
            continue
        shown.append(f"[{ord(character):04X}]")
        missing.add(character)
    return "".join(shown), frozenset(missing)


def scripts(characters: frozenset[str]) -> str:
    """What the characters are, for a caption: 'CJK, Thai'. Control characters are 'control'."""
    names = {unicodedata.name(character, "control").split()[0] for character in characters}
    return ", ".join(sorted(name if name == "CJK" else name.lower() for name in names))


@cache
def _covered(families: tuple[str, ...]) -> frozenset[int]:
    """Every character that one of these families has."""
    found: set[int] = set()
    for family in families:
        path = findfont(FontProperties(family=[family]), fallback_to_default=True)
        found.update(get_font(path).get_charmap())
    return frozenset(found)


_STEPS = tuple(base * 10**power for power in range(6) for base in (1, 2, 5))
_ROOM = 0.7  # of a step, that the first layer's tick needs before the next one


def layer_ticks(numbers: Sequence[int] | npt.NDArray[np.float64], most: int) -> list[int]:
    """Layer numbers to write on an axis: all, or few enough to be read apart.

    Args:
        numbers: the layers there are, ascending.
        most: how many numbers have room, at least 1.

    Returns:
        Some of ``numbers``: all where they fit; multiples of a round step, after the first one,
        where the layers follow each other; else every so many.
    """
    layers = [round(number) for number in numbers]
    most = max(most, 1)
    if len(layers) <= most:
        return layers
    if layers[-1] - layers[0] != len(layers) - 1:
        return layers[:: -(-len(layers) // most)]
    step = next(step for step in _STEPS if step != 2 and len(layers) / step <= most)
    multiples = [layer for layer in layers if layer % step == 0]
    first = layers[:1] if not multiples or multiples[0] - layers[0] >= _ROOM * step else []
    return first + multiples


def short_count(number: float) -> str:
    """1500 as 1.5k, 2000000 as 2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def span_of(values: Float) -> float:
    """Largest less smallest value, or a small share of the value where all are equal."""
    span = float(np.ptp(values))
    return span if span > 0 else max(abs(float(values[0])) * 1e-3, 1e-9)


def set_ticks(ax: Axes, parts: Sequence[tuple[float, float]], most: int = 5) -> None:
    """Ticks at multiples of one round step in each part of the axis, all with the same decimals.

    A part too short for any gets one at its middle, where a lone line is. ``most`` is how many
    steps there are at most.
    """
    step = _step(*max(parts, key=lambda part: part[1] - part[0]), most)
    places = decimals(step)
    ticks: list[float] = []
    for bottom, top in parts:
        inside = _multiples(bottom, top, step)
        if not inside:
            middle = (bottom + top) / 2
            while not bottom <= round(middle, places) <= top:
                places += 1
            inside = [round(middle, places)]
        ticks += inside
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(FixedLocator([]))
    ax.yaxis.set_major_formatter(FormatStrFormatter(f"%.{places}f"))


def decimals(step: float) -> int:
    """Decimals that tell multiples of ``step`` (1, 2 or 5 times a power of ten) apart."""
    return max(0, -int(np.floor(np.log10(step) + 1e-9)))


def _step(bottom: float, top: float, most: int) -> float:
    ticks = MaxNLocator(nbins=most, steps=[1, 2, 5, 10]).tick_values(bottom, top)
    return float(f"{ticks[1] - ticks[0]:.1g}")


def _multiples(bottom: float, top: float, step: float) -> list[float]:
    first, last = np.ceil(bottom / step - 1e-9), np.floor(top / step + 1e-9)
    return [round(count * step, decimals(step)) + 0.0 for count in np.arange(first, last + 1)]
