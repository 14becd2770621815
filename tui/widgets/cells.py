"""The cells of a map as text: half blocks in colour, shade characters, or digits.

Pure functions from levels and a geometry to rich segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
import numpy.typing as npt
from rich.color import Color
from rich.segment import Segment
from rich.style import Style

from engramcka import palettes
from engramcka.tui.terminal import with_minus
from engramcka.tui.widgets.geometry import Geometry

NAN, CURSOR, CURVE, GROUND, BELOW, ABOVE = 256, 257, 258, 259, 260, 261
"""Keys of colours beside the palette's 0 to 255: no estimate, cursor, alignment, nothing, and
values beyond either end of the scale."""

BEYOND = {BELOW: "<", ABOVE: ">"}  # cells beyond the scale where there are no colours

_ENDS = {  # colours of values beyond the scale: below, above
    "magma": ("#1b5e9e", "#b9f3ff"),
    "viridis": ("#9e1b4e", "#ff9d5c"),
    "cividis": ("#9e1b9a", "#ff9d5c"),
    "diverging": ("#6a2fb0", "#c2185b"),
}

_MARKS = {  # colours that do not occur in the palette: cursor, alignment
    "magma": ("#00e5ff", "#b6ff5c"),
    "viridis": ("#ff4fd8", "#ffffff"),
    "cividis": ("#ff3b30", "#ffffff"),
    "diverging": ("#00b050", "#101010"),
}


@dataclass(frozen=True)
class CellStyle:
    """Palette, range and mode (digits, shades or half cells) of a heatmap."""

    palette: str = palettes.PALETTES[0]
    low: float = 0.0  # value of the first colour
    high: float = 1.0  # value of the last colour
    mode: str = "half"  # half | shade | digits
    coloured: bool = True  # whether digits get a ground in the palette's colour
    ascii: bool = False
    signed: bool = False  # differences: digits carry their sign

    @property
    def sub(self) -> int:
        """Sub-rows a line."""
        return 2 if self.mode == "half" else 1

    @property
    def shades(self) -> str:
        """Characters from low to high."""
        return palettes.ASCII_SHADES if self.ascii else palettes.SHADES


def levels(values: npt.ArrayLike, low: float, high: float) -> npt.NDArray[np.int16]:
    """Values as indices into a palette of 256; `BELOW` and `ABOVE` by more than half a colour,
    NaN and infinities `NAN`. Any shape."""
    scaled = (np.asarray(values, dtype=np.float64) - low) / (high - low) * 255.0
    index = np.clip(np.nan_to_num(scaled, nan=0.0) + 0.5, 0, 255).astype(np.int16)
    index = np.where(scaled < -0.5, np.int16(BELOW), index)
    index = np.where(scaled > 255.5, np.int16(ABOVE), index)
    return np.where(np.isfinite(scaled), index, np.int16(NAN))


def curve_heights(numbers: Sequence[int], aligned: npt.NDArray[np.float64]) -> list[float]:
    """Alignment in y's layer numbers as heights in rows, between rows where it is between layers.

    Args:
        numbers: the rows' layer numbers.
        aligned: (columns,); NaN stays NaN.
    """
    order = np.argsort(numbers, kind="stable")
    rows = np.arange(len(numbers), dtype=np.float64)[order]
    heights = np.interp(aligned, np.asarray(numbers, dtype=np.float64)[order], rows)
    return np.where(np.isfinite(aligned), heights, np.nan).tolist()  # type: ignore[no-any-return]


@lru_cache(maxsize=32)
def key_colours(palette: str, ground: str) -> tuple[Color, ...]:
    """The colour of every key, in order."""
    table = [Color.from_rgb(*rgb) for rgb in palettes.rgb(palette)]
    marks = [Color.parse(mark) for mark in (*_MARKS[palette], ground, *_ENDS[palette])]
    return (*table, Color.from_rgb(*palettes.NO_VALUE[palette]), *marks)


@lru_cache(maxsize=65536)
def pair_style(palette: str, ground: str, top: int, bottom: int) -> Style:
    """Style of a half block with these two keys; of a blank where they are the same."""
    colours = key_colours(palette, ground)
    if top == bottom:
        return Style(bgcolor=colours[top])
    return Style(color=colours[top], bgcolor=colours[bottom])


@dataclass(frozen=True)
class Field:
    """All that the cells' lines are drawn from."""

    geometry: Geometry
    cell_style: CellStyle
    levels: npt.NDArray[np.int16]  # (rows, columns)
    values: npt.NDArray[np.float64]  # (rows, columns)
    curve: Sequence[float] | None = None  # a height in rows for each column, NaN for none
    ground: str = "#000000"

    def line(self, y: int, cursor: tuple[int, int] | None) -> list[Segment]:
        """The segments of one line, ``used_width`` characters."""
        if self.cell_style.mode == "half":
            return self._half_line(y, cursor)
        return self._text_line(y, cursor)

    def _half_line(self, y: int, cursor: tuple[int, int] | None) -> list[Segment]:
        top, bottom = self._keys(y, 0, cursor), self._keys(y, 1, cursor)
        segments = []
        for (upper, lower), run in groupby(zip(top, bottom, strict=True)):
            style = pair_style(self.cell_style.palette, self.ground, upper, lower)
            segments.append(Segment((" " if upper == lower else "▀") * len(list(run)), style))
        return segments

    def _keys(self, y: int, part: int, cursor: tuple[int, int] | None) -> list[int]:
        """The key of every character of one sub-row."""
        g = self.geometry
        row = g.row_at(y, part)
        if row is None:
            return [GROUND] * g.used_width
        columns = slice(g.first_column, g.first_column + g.shown_columns)
        wide = np.repeat(self.levels[row, columns], g.cell_width)[: g.used_width]
        keys: list[int] = wide.tolist()
        if self.curve is not None:
            self._mark_curve(keys, y * g.sub + part)
        if cursor is not None and cursor[0] == row:
            self._mark_cursor(keys, y, part, cursor)
        return keys

    def _mark_curve(self, keys: list[int], sub_row: int) -> None:
        g = self.geometry
        assert self.curve is not None
        for column in range(g.first_column, g.first_column + g.shown_columns):
            height = self.curve[column]
            if height == height and g.sub_row_of(height) == sub_row:
                x = g.x_of(column)
                stop = min(x + g.cell_width, len(keys))
                keys[x:stop] = [CURVE] * (stop - x)

    def _mark_cursor(self, keys: list[int], y: int, part: int, cursor: tuple[int, int]) -> None:
        """A ring in a cell that has an inside, else the whole cell."""
        g = self.geometry
        row, column = cursor
        if not 0 <= column - g.first_column < g.shown_columns:
            return
        x, width = g.x_of(column), g.cell_width
        from_bottom = g.used_lines * g.sub - 1 - (y * g.sub + part)
        height = from_bottom - (row - g.first_row) * g.cell_height
        ring = width >= 4 and g.cell_height >= 4
        inside = ring and 0 < height < g.cell_height - 1
        for at in range(x, min(x + width, len(keys))):
            if not inside or at in (x, x + width - 1):
                keys[at] = CURSOR

    def _text_line(self, y: int, cursor: tuple[int, int] | None) -> list[Segment]:
        g = self.geometry
        row = g.row_at(y)
        if row is None:
            return [Segment(" " * g.used_width)]
        nearest = g.middle_line(row) == y
        cells = [
            self._text_cell(row, column, (row, column) == cursor, nearest)
            for column in range(g.first_column, g.first_column + g.shown_columns)
        ]
        merged = groupby(cells, key=lambda cell: cell[1])
        return [Segment("".join(text for text, _ in run), style) for style, run in merged]

    def _text_cell(
        self, row: int, column: int, under_cursor: bool, nearest: bool
    ) -> tuple[str, Style | None]:
        level, width = int(self.levels[row, column]), self.geometry.cell_width
        on_curve = nearest and self.curve is not None and _rounds_to(self.curve[column], row)
        if self.cell_style.mode == "digits":
            value = float(self.values[row, column])
            text = digits(value, width, self.cell_style.signed) if nearest else " " * width
            style = self._digit_style(level)
            if on_curve:
                style += Style(underline=True, bold=True)
        else:
            text, style = shade(level, width, self.cell_style.shades), Style()
            if on_curve:
                text = _middle(text, "o")
        if under_cursor:
            style += Style(reverse=True)
            if self.cell_style.mode == "shade" and width > 1:
                text = f"[{text[1:-1]}]"
        return text, style

    def _digit_style(self, level: int) -> Style:
        if not self.cell_style.coloured:
            return Style()
        colour = key_colours(self.cell_style.palette, self.ground)[level]
        return Style(color=ink_on(colour), bgcolor=colour)


def ink_on(colour: Color) -> str:
    """Black or white, whichever has the higher contrast (WCAG 2) on a colour."""
    red, green, blue = (part / 255 for part in colour.get_truecolor())
    return palettes.ink_on(red, green, blue)


def _rounds_to(height: float, row: int) -> bool:
    return height == height and int(height + 0.5) == row


def _middle(text: str, mark: str) -> str:
    at = len(text) // 2
    return f"{text[:at]}{mark}{text[at + 1 :]}"


def shade(level: int, width: int, shades: str) -> str:
    """A cell as a shade character; a question mark where there is no estimate, < and > beyond."""
    if level == NAN:
        return "?" * width
    if level in BEYOND:
        return BEYOND[level] * width
    return shades[min(level * len(shades) // 256, len(shades) - 1)] * width


def digits_width(values: npt.NDArray[np.float64], signed: bool = False) -> int:
    """Characters that the numbers of a map need, with a gap."""
    return 5 if signed or bool((np.nan_to_num(values) < -0.005).any()) else 4


def digits(value: float, width: int, signed: bool = False) -> str:
    """A cell as a number with two decimals and no leading zero, right-aligned."""
    if value != value:
        return "–".rjust(width - 1) + " "
    value = round(value, 2) + 0.0  # no negative zero
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    if abs(value) >= 1:
        text = text[:-1]
    elif text.lstrip("+-").startswith("0"):
        text = text.replace("0", "", 1)
    text = with_minus(text)
    return text.rjust(width - 1).ljust(width)[-max(width, len(text)) :]
