"""Curves over a common axis drawn in characters: braille lines, marks, intervals, a legend.

Pure functions of a `Chart`; `engramcka.tui.charts` makes one of each kind of result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.cells import cell_len

from engramcka.plain_text import clean
from engramcka.results import Float
from engramcka.tui.terminal import shorten
from engramcka.tui.widgets.axes import round_values, value_text
from engramcka.tui.widgets.canvas import CharacterGrid

STYLES = 6
"""Colours and marks before they repeat: parts curve-0 .. and interval-0 .. of the lines drawn."""
_MARKS = "●◆▲■○◇"
_BELOW = 3  # lines under the plot: cursor's mark, numbers, a line of the caption
_ROOMY = 16  # lines of a drawing that has room for a caption on two
_LEGEND_ROWS = 3
_LABEL_WIDTH = 28  # characters of a point's label at most


@dataclass(frozen=True)
class Curve:
    """One curve; NaN where there is no point."""

    name: str  # "" for none in the legend
    x: Float  # (points,), rising
    y: Float  # (points,)
    low: Float | None = None  # (points,), ends of an interval or spread
    high: Float | None = None
    style: int | None = None  # which colour and mark; None: its place among the curves
    marked: bool = True  # a mark on every point that has room
    joined: bool = True  # lines between the points
    mark: str = ""  # the mark; "" for that of the style
    labels: tuple[str, ...] = ()  # (points,), written beside the marks where there is room
    optional: bool = False  # see `Chart.near`


@dataclass(frozen=True)
class Level:
    """A line across the whole plot: dashed for a baseline, solid for a reference."""

    name: str
    value: float
    solid: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves with what else is in the plot."""

    curves: tuple[Curve, ...]
    caption: str
    levels: tuple[Level, ...] = ()
    whole: bool = False  # x are whole numbers
    last_number: float | None = None  # no numbers under the axis beyond this x
    zero: bool = False  # the axis begins at zero where that is near
    near: bool = False
    """Whether the axis leaves out levels and optional curves that are farther from the other
    curves than these extend; an arrow at the edge then says where they are."""

    @property
    def places(self) -> list[float]:
        """Where a cursor can be: every x of every curve."""
        return sorted({float(x) for curve in self.curves for x in curve.x if np.isfinite(x)})

    def beyond(self, start: float) -> Chart:
        """Only what is at or right of a place."""
        return replace(self, curves=tuple(_beyond(curve, start) for curve in self.curves))


def _beyond(curve: Curve, start: float) -> Curve:
    kept = curve.x >= start
    ends = [None if end is None else end[kept] for end in (curve.low, curve.high)]
    labels = tuple(label for label, stays in zip(curve.labels, kept, strict=False) if stays)
    return replace(
        curve, x=curve.x[kept], y=curve.y[kept], low=ends[0], high=ends[1], labels=labels
    )


def mark_of(style: int) -> str:
    """The mark of a curve; where colours come again, they come with other marks."""
    return _MARKS[(style + style // STYLES) % STYLES]


@dataclass(frozen=True)
class ChartFrame:
    """The plot's field in characters and its ranges."""

    left: int
    top: int
    width: int
    height: int
    x_low: float
    x_high: float
    low: float
    high: float

    def x(self, value: float) -> float:
        """Place of a value, in characters."""
        if self.x_high <= self.x_low:
            return self.left + (self.width - 1) / 2
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return self.left + 0.5 + share * (self.width - 2)

    def y(self, value: float) -> float:
        """Line of a value, from the top of the drawing."""
        return self.top + (self.high - value) / (self.high - self.low) * (self.height - 1)

    def inside(self, value: float) -> bool:
        """Whether the axis takes the value in."""
        return self.low <= value <= self.high

    def row(self, value: float) -> int:
        """The line nearest to a value; that of the edge for one beyond the axis."""
        return round(self.y(min(max(value, self.low), self.high)))

    def nearest(self, places: Sequence[float], character: int) -> int:
        """Index of the place that is nearest to a character."""
        return min(range(len(places)), key=lambda index: abs(self.x(places[index]) - character))


def value_range(chart: Chart) -> tuple[float, float]:
    """Lowest and highest value to show, with a margin."""
    needed = [v for curve in chart.curves if not curve.optional for v in _values(curve)]
    others = [v for curve in chart.curves if curve.optional for v in _values(curve)]
    others += [level.value for level in chart.levels if np.isfinite(level.value)]
    if chart.near and needed and max(needed) > min(needed):
        low, high = min(needed), max(needed)
        others = [v for v in others if low - (high - low) <= v <= high + (high - low)]
    found = needed + others
    if not found:
        return 0.0, 1.0
    low, high = min(found), max(found)
    if chart.zero and low >= 0 and low < high / 3:
        return 0.0, high * 1.04 or 1.0
    margin = (high - low) * 0.06 or abs(low) * 0.01 or 1.0
    return low - margin, high + margin


def _values(curve: Curve) -> list[float]:
    """All finite values of a curve and of its intervals."""
    arrays = [values for values in (curve.y, curve.low, curve.high) if values is not None]
    return [float(value) for values in arrays for value in values[np.isfinite(values)]]


def chart_frame(chart: Chart, width: int, height: int) -> ChartFrame | None:
    """Where the curves lie; None where there is no room for any."""
    low, high = value_range(chart)
    gutter = max(len(value_text(v, low, high)) for v in (low, high)) + 2
    top = len(_legend_rows(chart, width - gutter))
    places = chart.places or [0.0]
    across = width - gutter - 1
    down = height - _BELOW - top - len(_caption_rows(chart, across, height)) + 1
    if width - gutter < 10 or down < 4:
        return None
    return ChartFrame(gutter, top, across, down, places[0], places[-1], low, high)


def _caption_rows(chart: Chart, width: int, height: int) -> list[str]:
    """The caption; what is after its first semicolon on a second line, where one is too short."""
    text = clean(chart.caption)
    first, apart, rest = text.partition("; ")
    if cell_len(text) <= width or not apart or height < _ROOMY:
        return [shorten(text, width)]
    return [shorten(f"{first};", width), shorten(rest, width)]


def draw_chart(
    chart: Chart, width: int, height: int, cursor: float | None = None, *, ascii_only: bool = False
) -> list[list[tuple[str, str]]]:
    """The chart as lines of (text, part), ``width`` x ``height`` characters."""
    grid = CharacterGrid(width, height, ascii_only)
    frame = chart_frame(chart, width, height)
    if frame is None:
        grid.text(0, 0, "too small for the curves", "axis")
        return grid.lines()
    _axes(grid, chart, frame, cursor)
    for y, row in enumerate(_caption_rows(chart, frame.width, height)):
        grid.text(frame.left, frame.top + frame.height + 2 + y, row, "axis")
    for level in chart.levels:
        if frame.inside(level.value):
            dash = "─" if level.solid else "╌"
            grid.text(frame.left, frame.row(level.value), dash * frame.width, _level_part(level))
    styled = [(i if c.style is None else c.style, c) for i, c in enumerate(chart.curves)]
    for style, curve in styled:
        _intervals(grid, frame, curve, f"interval-{style % STYLES}")
    for style, curve in styled:
        _line(grid, frame, curve, f"curve-{style % STYLES}")
    for style, curve in styled:
        _marks(grid, frame, curve, style, cursor)
    for level in chart.levels:
        _level_name(grid, frame, level)
    for style, curve in styled:
        _labels(grid, frame, curve, f"curve-{style % STYLES}")
    for y, names in enumerate(_legend_rows(chart, width - frame.left)):
        _legend(grid, frame.left, y, names)
    return grid.lines()


def _legend_rows(chart: Chart, width: int) -> list[list[tuple[str, str]]]:
    """(text, part) of the curves' names, wrapped into at most three lines, the last of which says
    how many more there are; none for one curve."""
    named = [
        (index if curve.style is None else curve.style, curve.mark, clean(curve.name))
        for index, curve in enumerate(chart.curves)
        if curve.name
    ]
    if len(named) < 2:
        return []
    rows: list[list[tuple[str, str]]] = [[]]
    used = 0
    for style, mark, name in named:
        text = f"{mark or mark_of(style)} {shorten(name, max(8, min(28, width - 3)))}  "
        if used and used + cell_len(text) > width:
            rows.append([])
            used = 0
        rows[-1].append((text, f"curve-{style % STYLES}"))
        used += cell_len(text)
    if len(rows) <= _LEGEND_ROWS:
        return rows
    rows = rows[:_LEGEND_ROWS]
    while True:
        more = f"and {len(named) - sum(map(len, rows))} more"
        if not rows[-1] or sum(cell_len(text) for text, _ in rows[-1]) + len(more) <= width:
            rows[-1].append((more, "axis"))
            return rows
        rows[-1].pop()


def _level_part(level: Level) -> str:
    return "reference" if level.solid else "baseline"


def _level_name(grid: CharacterGrid, frame: ChartFrame, level: Level) -> None:
    """A level's name on the free place nearest to it, or to the edge that it is beyond."""
    text = f"{clean(level.name)} {level.value:.4g}"
    at = frame.row(level.value)
    if not frame.inside(level.value):
        text = f"{_arrow(frame, level.value)} {text}"
        at += -1 if level.value > frame.high else 1
    label = shorten(text, frame.width)
    right = frame.left + frame.width - cell_len(label)
    rows = range(frame.top, frame.top + frame.height)
    columns = (right, *range(frame.left + 1, right))
    for y in sorted((row for row in rows if row != at), key=lambda row: abs(row - at)):
        for x in columns:
            if grid.free(x - 1, y, cell_len(label) + 1):
                grid.text(x, y, label, _level_part(level))
                return


def _arrow(frame: ChartFrame, value: float) -> str:
    """The side of the axis on which a value is beyond it."""
    return "↑" if value > frame.high else "↓"


def _labels(grid: CharacterGrid, frame: ChartFrame, curve: Curve, part: str) -> None:
    """The labels of a curve's points to the right or left of their marks, where there is room."""
    for label, x, y in zip(curve.labels, curve.x, curve.y, strict=False):
        if not np.isfinite(y):
            continue
        column, row = int(frame.x(x)), frame.row(y)
        whole = shorten(clean(label), min(_LABEL_WIDTH, frame.width - 1))
        places = [
            (text, start)
            for text in dict.fromkeys((whole, shorten(whole, frame.width // 2)))
            for start in (column + 2, column - 1 - cell_len(text))
        ]
        for text, start in places:
            if start > frame.left and grid.free(start - 1, row, cell_len(text) + 1):
                grid.text(start, row, text, part)
                break


def _legend(grid: CharacterGrid, x: int, y: int, row: list[tuple[str, str]]) -> None:
    for text, part in row:
        grid.text(x, y, text, part)
        x += cell_len(text)


def _axes(grid: CharacterGrid, chart: Chart, frame: ChartFrame, cursor: float | None) -> None:
    for y in range(frame.top, frame.top + frame.height):
        grid.text(frame.left - 1, y, "│", "axis")
    for value in round_values(frame.low, frame.high, max(2, frame.height // 4)):
        text, y = value_text(value, frame.low, frame.high), round(frame.y(value))
        grid.text(frame.left - 2 - len(text), y, text, "axis")
        grid.text(frame.left - 1, y, "┤", "axis")
    below = frame.top + frame.height
    if cursor is not None and frame.x_low <= cursor <= frame.x_high:
        grid.text(int(frame.x(cursor)), below, "▲", "mark")
    for x, text in _x_numbers(chart, frame):
        grid.text(x, below + 1, text, "axis", under=True)


def _x_numbers(chart: Chart, frame: ChartFrame) -> list[tuple[int, str]]:
    """(character, text) of the numbers under the axis."""
    low, high = frame.x_low, frame.x_high
    if chart.last_number is not None:
        high = min(high, chart.last_number)
    if high <= low:
        return [(int(frame.x(low)), f"{low:g}")] if high == low else []
    found = round_values(low, high, max(2, frame.width // 8))
    if chart.whole:
        found = sorted({low, *(value for value in found if value == int(value))})
    texts = [(value, value_text(value, low, high) if abs(value) < 1e5 else f"{value:.3g}")
             for value in found]  # fmt: skip
    if chart.whole or all(value == int(value) for value in found):
        texts = [(value, f"{value:.0f}") for value in found]
    placed: list[tuple[int, str]] = []
    for value, text in texts:
        x = int(frame.x(value)) - (len(text) - 1) // 2
        x = min(x, frame.left + frame.width - len(text))
        if not placed or x > placed[-1][0] + len(placed[-1][1]):
            placed.append((x, text))
    return placed


def _dots(frame: ChartFrame, x: float, y: float) -> tuple[float, float]:
    """A place in braille dots."""
    return int(2 * frame.x(x)), 4 * frame.y(y) + 1.5


def _intervals(grid: CharacterGrid, frame: ChartFrame, curve: Curve, part: str) -> None:
    if curve.low is None or curve.high is None:
        return
    for x, low, high in zip(curve.x, curve.low, curve.high, strict=True):
        if np.isfinite(low) and np.isfinite(high):
            (column, top), (_, bottom) = _dots(frame, x, high), _dots(frame, x, low)
            grid.line(column, top, column, bottom, part)


def _line(grid: CharacterGrid, frame: ChartFrame, curve: Curve, part: str) -> None:
    if not curve.joined:
        return
    previous: tuple[float, float] | None = None
    for x, y in zip(*thinned(curve, frame), strict=True):
        at = _dots(frame, x, y) if np.isfinite(y) else None
        if at is not None:
            grid.line(*(previous or at), *at, part)
        previous = at


def thinned(curve: Curve, frame: ChartFrame) -> tuple[Float, Float]:
    """The points, or where many share a column of dots the lowest and highest of each."""
    if len(curve.x) <= 8 * frame.width:
        return curve.x, curve.y
    columns = (2 * np.array([frame.x(x) for x in curve.x])).astype(int)
    starts = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
    kept: list[int] = []
    for part in np.split(np.arange(len(curve.x)), starts[1:]):
        there = part[np.isfinite(curve.y[part])]
        if len(there):
            ends = {int(there[np.argmin(curve.y[there])]), int(there[np.argmax(curve.y[there])])}
            kept += sorted(ends)
    return curve.x[kept], curve.y[kept]


def _marks(
    grid: CharacterGrid, frame: ChartFrame, curve: Curve, style: int, cursor: float | None
) -> None:
    roomy = curve.marked and len(curve.x) * 2 <= frame.width
    for x, y in zip(curve.x, curve.y, strict=True):
        under = cursor is not None and x == cursor
        if np.isfinite(y) and (roomy or under or (curve.marked and not curve.joined)):
            part = "mark" if under else f"curve-{style % STYLES}"
            mark = (curve.mark or mark_of(style)) if frame.inside(y) else _arrow(frame, y)
            grid.text(int(frame.x(x)), frame.row(y), mark, part)
