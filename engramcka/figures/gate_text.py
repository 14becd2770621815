"""Text with each token on a ground coloured by its gate: the Engram paper's Figure 7, any script.

The paler a token's ground, the less the memory adds there. A character that no font of this machine
has is drawn as its number and named by `gate_text_caption`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from engramcka import palettes
from engramcka.errors import ComparisonError, ConfigError
from engramcka.figures.heatmap import finish_colour_bar
from engramcka.figures.labels import as_plain, drawable, elided, scripts, size_in_points, text_width
from engramcka.figures.style import Style, as_style, further_fonts, new_figure
from engramcka.figures.token_lines import PieceBox, joined, mirrored, pieces_of, set_in_lines
from engramcka.plain_text import one_line
from engramcka.results import GateMap, GateText
from engramcka.results.statistics import Float

_STRONG = "#d55e00"  # ground of a token whose gate is open
_LINE = 1.65  # line height in font sizes
_BOX = 1.35  # of it, coloured
_MARGIN = 3.0  # points around everything
_BAR = 26.0  # points for the colour bar below
_HIGHEST = 9.0  # inches a figure has at most; what does not fit is counted at its end


@dataclass(frozen=True)
class GateTextArtists:
    """What was drawn, to be changed at will; a ground and a text a piece of a token."""

    axes: Axes
    grounds: PolyCollection
    texts: list[Text]
    lines: int
    missing: frozenset[str]  # characters drawn as numbers


@dataclass(frozen=True)
class _Block:
    """One text with the gates of one module, set in lines."""

    heading: str
    shown: list[str]  # a text a piece, as drawn
    places: list[PieceBox]
    lines: int
    alpha: Float  # (pieces,)
    missing: frozenset[str]


def plot_gate_text(
    text: GateText,
    ax: Axes,
    *,
    module: int = 0,
    stream: int | None = None,
    size: float | None = None,
) -> GateTextArtists:
    """Draw one text on these axes, which become its page: x and y in points from the upper left.

    Args:
        text: tokens with their gates.
        ax: where to draw; its ticks and frame are turned off.
        module: which module's gates, from 0.
        stream: which residual stream's, from 0; without it their mean.
        size: of the font, in points; without it that of the axes' labels.

    Returns:
        The artists.

    Raises:
        ComparisonError: there is no such module or stream.
    """
    size = float(ax.xaxis.label.get_fontsize()) if size is None else size
    font = FontProperties(family=ax.xaxis.label.get_fontfamily(), size=size)
    width, height = size_in_points(ax)
    block = _set(text, module, stream, font, width, "")
    _make_page(ax, width, height)
    return _draw(ax, block, 0.0, font)


def gate_text_figure(
    gates: GateMap,
    style: Style | str = "plain",
    *,
    texts: Sequence[int] | None = None,
    layers: Sequence[int] | None = None,
    stream: int | None = None,
    first_layer: int = 1,
) -> Figure:
    """A page of texts, one below the other, each once a module, with a colour bar.

    Args:
        gates: with ``texts``.
        style: a `Style` or the name of one.
        texts: which texts, from 0; all if left out.
        layers: of which modules, blocks counted from 1; all if left out.
        stream: which residual stream, from 0; without it their mean.
        first_layer: number of the first block in headings: 1 as everywhere, or 0.

    Raises:
        ComparisonError: there are no texts, or none of that number, module or stream.
    """
    style = as_style(style)
    with style.context():
        font = FontProperties(family=[*style.fonts, *further_fonts()], size=style.small_size)
        width = 72 * style.inches - 2 * _MARGIN
        blocks = list(_blocks(gates, texts, layers, stream, first_layer, font, width))
        step = _LINE * style.small_size
        rows = [block.lines + bool(block.heading) for block in blocks]
        needed = step * (sum(rows) + 0.6 * (len(blocks) - 1))
        height = min(needed + 3 * _MARGIN + _BAR, 72 * _HIGHEST)
        figure = new_figure(style, height / 72)
        page = 1 - (_BAR + _MARGIN) / height
        ax = figure.add_axes(
            (_MARGIN / (width + 2 * _MARGIN), 1 - page, width / (width + 2 * _MARGIN),
             page - _MARGIN / height)
        )  # fmt: skip
        _make_page(ax, width, page * height - _MARGIN)
        top, room = 0.0, page * height - _MARGIN
        for block, count in zip(blocks, rows, strict=True):
            _draw(ax, _cut(block, int((room - top) / step + 1e-6)), top, font)
            top += step * (count + 0.6)
        _draw_bar(figure, style, height)
        figure.set_layout_engine("none")
    return figure


def gate_text_caption(gates: GateMap, style: Style | str = "plain") -> str:
    """What the colours are, and the characters drawn as numbers."""
    families = [*as_style(style).fonts, *further_fonts()]
    tokens = [token for text in gates.texts for token in text.tokens]
    missing = frozenset().union(*(drawable(token, families)[1] for token in tokens))
    caption = (
        f"Ground: gate α of the Engram module of {one_line(gates.label)} at each token, 0 to 1, "
        "mean over the residual streams."
    )
    if missing:
        count = f"{len(missing)} character{'s' if len(missing) > 1 else ''}"
        caption += f" In brackets: numbers of {count} that no font here has ({scripts(missing)})."
    return caption


def _blocks(
    gates: GateMap,
    texts: Sequence[int] | None,
    layers: Sequence[int] | None,
    stream: int | None,
    first_layer: int,
    font: FontProperties,
    width: float,
) -> Iterator[_Block]:
    """Every text chosen with every module chosen."""
    if not gates.texts:
        raise ComparisonError(f"the gates of {one_line(gates.label)} were not kept for any text")
    chosen = range(len(gates.texts)) if texts is None else texts
    wanted = gates.layers if layers is None else tuple(layers)
    for layer in wanted:
        if layer not in gates.layers:
            there = ", ".join(map(str, gates.layers))
            raise ComparisonError(f"no Engram module at layer {layer}; there are {there}")
    for index in chosen:
        if not 0 <= index < len(gates.texts):
            raise ComparisonError(f"no text {index}; there are 0 to {len(gates.texts) - 1}")
        for layer in wanted:
            module = gates.layers.index(layer)
            heading = f"layer {layer + first_layer - 1}" if len(wanted) > 1 else ""
            yield _set(gates.texts[index], module, stream, font, width, heading)


def _set(
    text: GateText,
    module: int,
    stream: int | None,
    font: FontProperties,
    width: float,
    heading: str,
) -> _Block:
    """One text set in lines of ``width`` points."""
    _, modules, streams = text.alpha.shape
    if not 0 <= module < modules or not 0 <= (stream or 0) < streams:
        raise ComparisonError(
            f"gates of {modules} modules and {streams} streams have no module {module}, stream "
            f"{stream or 0}"
        )
    if not text.tokens:
        raise ConfigError("a text without tokens cannot be drawn")
    alpha = text.alpha[:, module].mean(axis=1) if stream is None else text.alpha[:, module, stream]
    pieces = pieces_of(text.tokens)
    own = [piece.text for piece in pieces]
    drawn = [drawable(joined(own, index), font.get_family()) for index in range(len(own))]
    missing = frozenset[str]().union(*(found[1] for found in drawn))
    shown = [_fitting(found[0], font, width) for found in drawn]
    widths = {piece: _width(piece, font) for piece in set(shown)}
    places, lines = set_in_lines(own, [widths[piece] for piece in shown], width)
    gates = alpha[[piece.token for piece in pieces]]
    return _Block(heading, shown, places, lines, gates, missing)


def _fitting(shown: str, font: FontProperties, width: float) -> str:
    """What is drawn of a piece; one longer than a line loses its middle."""
    return elided(shown.strip(" "), font, width) if text_width(shown, font) > width else shown


def _width(shown: str, font: FontProperties) -> float:
    """With the blanks around it, in points."""
    core = shown.strip(" ")
    blank = text_width("n n", font) - text_width("nn", font)
    return (text_width(core, font) if core else 0.0) + (len(shown) - len(core)) * blank + 0.6


def _cut(block: _Block, lines: int) -> _Block:
    """The first lines of a block, and at its end how many tokens are not shown."""
    kept = lines - bool(block.heading)
    if block.lines <= kept:
        return block
    places = [place for place in block.places if place.line < kept - 1]
    left_out = len(block.places) - len(places)
    note = PieceBox(len(block.shown), max(kept - 1, 0), 0.0, 0.0)
    shown = [*block.shown, f"… {left_out:,} more tokens"]
    alpha = np.append(block.alpha, np.nan)
    return _Block(block.heading, shown, [*places, note], kept, alpha, block.missing)


def _make_page(ax: Axes, width: float, height: float) -> None:
    ax.set_xlim(0.0, width)
    ax.set_ylim(height, 0.0)
    ax.set_axis_off()


def _draw(ax: Axes, block: _Block, top: float, font: FontProperties) -> GateTextArtists:
    """Grounds and texts of a block whose upper edge is ``top`` points down the page."""
    size = font.get_size_in_points()
    step, half = _LINE * size, _BOX * size / 2
    ink, ground = ax.xaxis.label.get_color(), cast(Any, ax.figure).get_facecolor()
    colours = _map(to_rgb(ground))
    if block.heading:
        heading = ax.text(0, top + step / 2, block.heading, va="center_baseline", fontsize=size)
        as_plain((heading,))
        heading.set_color("#808080")
        top += step
    boxes, faces, texts = [], [], []
    for place in block.places:
        middle, value = top + (place.line + 0.5) * step, block.alpha[place.piece]
        known = bool(np.isfinite(value))
        colour = colours(float(value))[:3] if known else to_rgb(ground)
        left, right = place.left, place.left + place.width
        boxes.append([(left, middle - half), (right, middle - half),
                      (right, middle + half), (left, middle + half)])  # fmt: skip
        faces.append(colour)
        shown = block.shown[place.piece]
        if place.right_to_left:
            shown = mirrored(shown)
        lead = len(shown) - len(shown.lstrip(" "))
        trail = len(shown) - len(shown.rstrip(" "))
        blank = (lead - trail) * 0.27 * size / 2 if shown.strip(" ") else 0.0
        note = place.width == 0.0
        text = ax.text(
            left if note else (left + right) / 2 + blank, middle, shown.strip(" "), fontsize=size,
            ha="left" if note else "center", va="center_baseline",
            color=palettes.ink_on(*colour) if known else ink, zorder=3,
        )  # fmt: skip
        _keep(text)
        texts.append(text)
    grounds = PolyCollection(boxes, facecolors=faces, edgecolors="none", zorder=1)
    ax.add_collection(grounds, autolim=False)
    return GateTextArtists(ax, grounds, texts, block.lines, block.missing)


def _keep(text: Text) -> None:
    """As it is: `as_plain` would take the joiners of cursive scripts for format characters."""
    text.set_usetex(False)
    text.set_parse_math(False)


def _map(ground: tuple[float, float, float]) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("gate", [ground, to_rgb(_STRONG)])


def _draw_bar(figure: Figure, style: Style, height: float) -> None:
    """A lying bar at the lower left, as wide as a third of the page."""
    from matplotlib.cm import ScalarMappable

    box = (_MARGIN / 72 / style.inches + 0.02, (_BAR - 8) / height, 0.34, 6 / height)
    mappable = ScalarMappable(Normalize(0, 1), _map(to_rgb(style.ground)))
    bar = figure.colorbar(mappable, cax=figure.add_axes(box), orientation="horizontal")
    finish_colour_bar(bar, "", 72 * style.inches * 0.34)
    bar.set_label("gate α", fontsize=style.small_size)
    bar.ax.xaxis.set_label_coords(1.02, 0.5)
    bar.ax.xaxis.label.set(ha="left", va="center")
