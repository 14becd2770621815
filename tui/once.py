"""`--once`: the first result as text on standard output, for logs and scripts.

As wide as the terminal, or 80 characters; in colour only where the output is a terminal.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from engramcka.errors import ConfigError, StoreError
from engramcka.plain_text import clean, without_controls
from engramcka.results import GateMap, SimilarityMap
from engramcka.results.kinds import MAPS
from engramcka.tui import readout
from engramcka.tui.catalog import RunRef, chosen_entry, facts, part_of
from engramcka.tui.charts import Plotted, plotted
from engramcka.tui.charts.gates import gate_rows
from engramcka.tui.charts.matrix import matrix_lines
from engramcka.tui.charts.memory import BESIDE_BAR, memory_rows
from engramcka.tui.loading import Broken, Loaded, Several, load
from engramcka.tui.terminal import Capabilities, ascii_only, capabilities, to_ascii
from engramcka.tui.titles import result_facts
from engramcka.tui.widgets import axes
from engramcka.tui.widgets.bar_list import BarRow, draw_rows
from engramcka.tui.widgets.cells import CellStyle, Field, curve_heights, digits_width, levels
from engramcka.tui.widgets.chart_drawing import draw_chart
from engramcka.tui.widgets.geometry import fit
from engramcka.tui.widgets.tokens import visible

Lines = list[list[Segment]]

_MAP_LINES = 40  # of a map at most, where it has fewer rows
_CHART_LINES = 22
_PLACES = 40  # of an axis in the table at most
_LEVEL_COLOURS = {"baseline": "yellow", "reference": "green"}
_COLOURS = ("bright_blue", "yellow", "green", "magenta", "red", "white")


def print_first(refs: Sequence[RunRef], console: Console | None = None) -> None:
    """Print the result that was asked for, or the first.

    Raises:
        ConfigError: there is no result.
        StoreError: it cannot be read.
    """
    entries = [e for ref in refs for e in facts(ref).entries if e.kind != "log"]
    if not entries:
        raise ConfigError(f"{refs[0].run}: there is no result to print yet")
    asked = [entry for ref in refs if (entry := chosen_entry(ref, entries))]
    own = (entry for entry in entries if not part_of(entry))
    found = load(asked[0] if asked else next(own, entries[0]))
    if isinstance(found, Broken):
        raise StoreError(found.sentence)
    console = console or PipeConsole(highlight=False, emoji=False)
    if console.is_terminal:
        known = capabilities(os.environ)
    else:
        known = Capabilities("none", ascii_only(os.environ))
    width = min(console.width, 200)
    about = result_facts(found.value)
    lines = [[Segment(f"{clean(found.entry.ref.run)}  {found.entry.title}  {about}")], []]
    try:
        for line in [*lines, *result_lines(found, width, known)]:
            for shown in _wrapped(_safe(line, known.ascii), width):
                parts = ((text, style or "") for text, style, _ in shown)
                console.print(Text.assemble(*parts), soft_wrap=True)
        console.file.flush()
    except BrokenPipeError:  # `| head`: the reader has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class PipeConsole(Console):
    """A console whose reader may go away without that being an error."""

    def on_broken_pipe(self) -> None:
        """Leave it to `print_first`."""
        raise BrokenPipeError


def _wrapped(line: list[Segment], width: int) -> Lines:
    """A sentence in lines of the width; what is drawn fits already."""
    if cell_len("".join(text for text, *_ in line)) <= width or len(line) != 1:
        return [line]
    text, style, _ = line[0]
    pieces = textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
    return [[Segment(piece, style)] for piece in pieces]


def result_lines(found: Loaded, width: int, known: Capabilities) -> Lines:
    """Any result as lines of text."""
    if found.entry.kind in MAPS:
        return map_lines(found.value, width, known)
    if found.entry.kind == "series":
        return series_lines(found.value, width, known)
    if found.entry.kind == "gates":
        return gate_lines(found.value, width)
    if found.entry.kind == "memory":
        return memory_lines(found.value, width)
    if found.entry.kind == "matrix":
        return [[Segment(line)] for line in matrix_lines(found.value, width)]
    return curve_lines(plotted(found.entry.kind, found.value), width, known)


def _safe(line: list[Segment], ascii_text: bool) -> list[Segment]:
    """A line without control characters and trailing blanks, in ASCII if asked for."""
    shown = [Segment(without_controls(text), style) for text, style, _ in line]
    if shown and not (shown[-1].style and shown[-1].style.bgcolor):
        shown[-1] = Segment(shown[-1].text.rstrip(), shown[-1].style)
    if not ascii_text:
        return shown
    return [Segment(to_ascii(text), style) for text, style, _ in shown]


def map_lines(cka: SimilarityMap, width: int, known: Capabilities) -> Lines:
    """A map with its axes, colour bar, alignment and warnings."""
    rows, columns = cka.similarity.shape
    gutter = max(len(str(layer)) for layer in cka.y_layers) + 1
    style = CellStyle(ascii=known.ascii, coloured=known.half_blocks)
    if not known.half_blocks:
        fits = columns * digits_width(cka.similarity) + gutter <= width
        style = replace(style, mode="digits" if fits else "shade")
    lines_there = max(_MAP_LINES, rows if style.sub == 1 else rows // 2 + 1)
    if style.mode == "digits":
        lines_there = rows
    needed = digits_width(cka.similarity) if style.mode == "digits" else 0
    geometry = fit(rows, columns, width - gutter, lines_there, sub=style.sub, digits=needed)
    aligned = cka.soft_alignment()
    found = levels(cka.similarity, style.low, style.high)
    field = Field(
        geometry, style, found, cka.similarity,
        curve_heights(cka.y_layers, aligned) if style.mode != "digits" else None, "default",
    )  # fmt: skip
    labels = axes.y_labels(cka.y_layers, geometry)
    pad = Segment(" " * gutter)
    lines = [
        [Segment(f"{labels.get(y, ''):>{gutter - 1}} "), *field.line(y, None)]
        for y in range(geometry.used_lines)
    ]
    lines.append([pad, Segment(axes.x_labels(cka.x_layers, geometry))])
    lines.append(
        [pad, *axes.colour_bar(style, "default", width - gutter, Style(), axes.beyond(found))]
    )
    lines.append([Segment(f"rows {clean(cka.y_label)}, columns {clean(cka.x_label)}")])
    if not geometry.whole:
        shown = f"{geometry.shown_rows} x {geometry.shown_columns}"
        lines.append([Segment(f"only {shown} of {rows} x {columns} layers fit this width")])
    lines.append([Segment(cka.depth_shift().sentence)])
    values = " ".join(readout.decimals(float(a), 1) for a in aligned)
    lines.append([Segment(f"soft alignment of the columns, k = 5: {values}")])
    lines += [[Segment(f"warning: {clean(warning)}")] for warning in cka.warnings]
    return lines


def series_lines(several: Several, width: int, known: Capabilities) -> Lines:
    """What each checkpoint's map comes to, a line each, then the last map whole."""
    lines = []
    for cka in several.values.values():
        best = np.nanmax(cka.similarity, axis=0, initial=-np.inf)
        mean = float(best[np.isfinite(best)].mean()) if np.isfinite(best).any() else float("nan")
        depth = readout.shift(cka.depth_shift())
        text = f"step {cka.step:<8} mean of column maxima {readout.decimals(mean)}"
        text += f"  nearest depth {depth}"
        lines.append([Segment(text)])
    *_, last = several.values.values()
    lines += [[], [Segment(f"step {last.step}")], *map_lines(last, width, known)]
    return [*lines, *([Segment(f"warning: {sentence}")] for sentence in several.unread)]


def curve_lines(shown: Plotted, width: int, known: Capabilities) -> Lines:
    """Every reading as a plot, then what is known at each place."""
    lines: Lines = []
    for reading in range(len(shown.readings)):
        chart = shown.chart(reading)
        drawn = draw_chart(chart, min(width, 100), _CHART_LINES, ascii_only=known.ascii)
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


def _types_only(rows: list[BarRow]) -> list[BarRow]:
    """The rows above the first heading."""
    heading = next((i for i, row in enumerate(rows) if row.length is None), len(rows))
    return rows[:heading]


def memory_lines(several: Several, width: int) -> Lines:
    """The bars, then of each class the numbers that do not stand beside its bar."""
    rows = memory_rows(several.values)
    lines = [*_row_lines(rows, width), []]
    for row, drawn in zip(rows, draw_rows(rows, width, None), strict=True):
        is_whole = bool(row.text) and drawn[-1][0].strip() == row.text
        beside = BESIDE_BAR if is_whole else ()
        details = "  ".join(f"{name} {value}" for name, value in row.details if name not in beside)
        lines.append([Segment(details or row.label)])
    return [*lines, *([Segment(f"warning: {sentence}")] for sentence in several.unread)]


def _row_lines(rows: list[BarRow], width: int) -> Lines:
    return [[Segment("".join(text for text, _ in line))] for line in draw_rows(rows, width, None)]
