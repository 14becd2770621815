"""Curves, gates and memory ablations as plain lines, for `--once`.

Pure functions; what ends on a terminal, and in which colours, is `engramcka.tui.once`' business.
"""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style

from engramcka.results import GateMap
from engramcka.tui import readout
from engramcka.tui.bars import Row, draw_rows, gate_rows, memory_rows
from engramcka.tui.capabilities import Capabilities
from engramcka.tui.charts import Plotted
from engramcka.tui.loading import Several
from engramcka.tui.terminal import clean
from engramcka.tui.widgets.chart_drawing import draw_chart
from engramcka.tui.widgets.tokens import visible

Lines = list[list[Segment]]

_HEIGHT = 22
_PLACES = 40  # of an axis in the table at most
_LEVEL_COLOURS = {"baseline": "yellow", "reference": "green"}
_COLOURS = ("bright_blue", "yellow", "green", "magenta", "red", "white")


def curve_lines(shown: Plotted, width: int, known: Capabilities) -> Lines:
    """Every reading as a plot, then what is known at each place."""
    lines: Lines = []
    for reading in range(len(shown.readings)):
        chart = shown.chart(reading)
        drawn = draw_chart(chart, min(width, 100), _HEIGHT, ascii_only=known.ascii)
        lines += [[Segment(text, _style(part, known)) for text, part in line] for line in drawn]
        places = chart.places
        step = -(-len(places) // _PLACES)
        kept = {*places[::step], *places[-1:]}
        lines += [[Segment("  ".join(shown.summary(reading, x)))] for x in places if x in kept]
        lines += [[Segment(f"{clean(one.name)} {one.value:.4f}")] for one in chart.levels]
        lines.append([])
    return [*lines, *([Segment(f"warning: {warning}")] for warning in shown.warnings)]


def _style(part: str, known: Capabilities) -> Style | None:
    name, _, number = part.rpartition("-")
    if known.colours == "none":
        return None
    if part in _LEVEL_COLOURS:
        return Style(color=_LEVEL_COLOURS[part])
    if name not in ("curve", "interval"):
        return None
    return Style(color=_COLOURS[int(number)], dim=name == "interval")


def gate_lines(gates: GateMap, width: int) -> Lines:
    """Means by type for every module and stream, then each text with its gates in brackets."""
    lines: Lines = []
    for module, layer in enumerate(gates.layers):
        for stream in range(gates.alpha.shape[2]):
            lines.append([Segment(f"module at layer {layer}, stream {stream + 1}")])
            rows = gate_rows(gates, module, stream)
            lines += _row_lines(rows if stream == 0 else _types_only(rows), width)
            lines.append([])
    for number, text in enumerate(gates.texts, 1):
        lines.append([Segment(f"text {number}, layer {gates.layers[0]}, mean of streams")])
        values = text.alpha[:, 0].mean(axis=-1).tolist()
        pairs = zip(text.tokens, values, strict=True)
        shown = "".join(f"{visible(t)}[{readout.short_decimals(v)}]" for t, v in pairs)
        lines.append([Segment(shown)])
    return [*lines, *([Segment(f"warning: {clean(w)}")] for w in gates.warnings)]


def _types_only(rows: list[Row]) -> list[Row]:
    """The rows above the first heading."""
    heading = next((i for i, row in enumerate(rows) if row.length is None), len(rows))
    return rows[:heading]


def memory_lines(several: Several, width: int) -> Lines:
    """The bars, then every number of each class."""
    rows = memory_rows(several.values)
    lines = [*_row_lines(rows, width), []]
    for row in rows:
        details = "  ".join(f"{label} {value}" for label, value in row.details)
        lines.append([Segment(details or row.label)])
    return [*lines, *([Segment(f"warning: {sentence}")] for sentence in several.unread)]


def _row_lines(rows: list[Row], width: int) -> Lines:
    return [[Segment("".join(text for text, _ in line))] for line in draw_rows(rows, width, None)]
