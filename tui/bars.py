"""Rows with a bar each: gates by entity type, losses with and without memory.

Pure functions of the results; knows no widgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engramcka.results import GateMap, MemoryAblation
from engramcka.tui import readout
from engramcka.tui.charts import Detail
from engramcka.tui.terminal import clean, cut, fixed

Line = list[tuple[str, str]]
BAR = "█"
_LABEL = 28  # characters of a label at most


@dataclass(frozen=True)
class Row:
    """One bar, or a heading (``length`` is None)."""

    label: str
    length: float | None = None  # of the bar, 0 to 1; NaN for none
    text: str = ""  # the number beside it
    details: tuple[Detail, ...] = ()  # what is known of it, for the panel
    value: float = float("nan")  # what is copied
    negative: bool = False


def gate_rows(gates: GateMap, module: int, stream: int | None) -> list[Row]:
    """Mean gate of every entity type for one module and stream (None: mean over the streams)."""
    rows = []
    for index, kind in enumerate(gates.types):
        value, low, high = gate_of(gates, index, module, stream)
        details: list[Detail] = [("type", clean(kind)), ("gate", readout.decimals(value))]
        text = f"{readout.decimals(value)}"
        if low == low and high == high:
            ends = f"{readout.short_decimals(low)}–{readout.short_decimals(high)}"
            details.append(("95 %", ends))
            text += f" {ends}"
        if gates.counts:
            details.append(("tokens", str(gates.counts[index])))
        rows.append(Row(clean(kind), value, text, tuple(details), value))
    return [*rows, *_order_rows(gates, module)]


def gate_of(
    gates: GateMap, kind: int, module: int, stream: int | None
) -> tuple[float, float, float]:
    """Mean gate of a type and the ends of its interval, which a mean over streams has not."""
    if stream is None and gates.alpha.shape[2] > 1:
        return float(gates.alpha[kind, module].mean()), float("nan"), float("nan")
    at = (kind, module, stream or 0)
    ends = [
        float("nan") if end is None else float(end[at])
        for end in (gates.alpha_low, gates.alpha_high)
    ]
    return float(gates.alpha[at]), ends[0], ends[1]


def _order_rows(gates: GateMap, module: int) -> list[Row]:
    """Share of the value's squared norm and collisions of each n-gram order."""
    rows = []
    for name, values, what in (
        ("share of the value", gates.order_share, "of the value's squared norm"),
        ("n-grams sharing a row", gates.collisions, "of distinct n-grams share a row"),
    ):
        if values is None or not gates.orders:
            continue
        rows.append(Row(name))
        for index, order in enumerate(gates.orders):
            value = float(values[module, index])
            details: tuple[Detail, ...] = ((f"{order}-gram", f"{value:.1%}"), (what, None))
            rows.append(Row(f"{order}-gram", value, f"{value:.1%}", details, value))
    return rows


def memory_rows(values: dict[str, MemoryAblation]) -> list[Row]:
    """What the memory is worth, loss without it minus loss with it, by model and token class."""
    differences = [v.loss_off - v.loss_on for v in values.values()]
    finite = [float(abs(d)) for part in differences for d in part if np.isfinite(d)]
    longest = max(finite, default=0.0) or 1.0
    rows: list[Row] = []
    for name, ablation in values.items():
        label = clean(ablation.label) if ablation.label != "model" else clean(name)
        rows.append(Row(label))
        for index, kind in enumerate(ablation.classes):
            rows.append(_memory_row(ablation, index, clean(kind), longest))
    return rows


def _memory_row(ablation: MemoryAblation, index: int, kind: str, longest: float) -> Row:
    on, off = float(ablation.loss_on[index]), float(ablation.loss_off[index])
    difference = off - on
    details: list[Detail] = [
        ("class", kind), ("with", f"{on:.4f}"), ("without", f"{off:.4f}"),
        ("apart", readout.signed(difference)),
    ]  # fmt: skip
    text = readout.signed(difference)
    if ablation.difference_low is not None and ablation.difference_high is not None:
        low, high = float(ablation.difference_low[index]), float(ablation.difference_high[index])
        ends = [readout.short_decimals(end) for end in (low, high)]
        details.append(("95 %", " to ".join(end.replace("-", "−") for end in ends)))
        text += f" ({readout.signed(low)} to {readout.signed(high)})"
    details.append(("kept", f"{float(ablation.kept[index]):.1%}"))
    if ablation.counts:
        details.append(("tokens", str(ablation.counts[index])))
    return Row(kind, abs(difference) / longest, text, tuple(details), difference, difference < 0)


def draw_rows(rows: Sequence[Row], width: int, cursor: int | None) -> list[Line]:
    """The rows as lines of (text, part): label, bar, number."""
    longest = max((len(row.label) for row in rows if row.length is not None), default=0)
    label_width = min(longest, _LABEL, width // 2)
    text_width = max((len(row.text) for row in rows), default=0)
    room = width - label_width - 4
    if room - text_width < 6:  # no room for the interval
        text_width = min(max((len(row.text.split(" ")[0]) for row in rows), default=0), room)
    return [
        _row_line(row, label_width, max(0, room - text_width), text_width, width, index == cursor)
        for index, row in enumerate(rows)
    ]


def _row_line(
    row: Row, label_width: int, bar_width: int, text_width: int, width: int, chosen: bool
) -> Line:
    if row.length is None:
        return [(cut(row.label, width), "label")]
    here = "mark" if chosen else "value"
    share = row.length if row.length == row.length else 0.0
    full = round(min(max(share, 0.0), 1.0) * bar_width)
    bar = (("░" if row.negative else BAR) * full).ljust(bar_width)
    text = row.text if len(row.text) <= text_width else row.text.split(" ")[0]
    return [
        ("▸" if chosen else " ", "mark"),
        (f"{fixed(row.label, label_width)} ", here),
        (bar, "mark" if chosen else "bar"),
        (f" {text}", here),
    ]


def rows_table(rows: Sequence[Row]) -> str:
    """The rows as tab-separated text."""
    return "".join(
        f"{row.label}\n" if row.length is None else f"{row.label}\t{row.value!r}\t{row.text}\n"
        for row in rows
    )
