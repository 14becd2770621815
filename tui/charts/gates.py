"""Gates as rows with a bar each: means by entity type, shares and collisions by n-gram order."""

from __future__ import annotations

from engramcka.plain_text import clean
from engramcka.results import GateMap
from engramcka.tui import readout
from engramcka.tui.charts import Detail
from engramcka.tui.widgets.bar_list import BarRow


def gate_rows(gates: GateMap, module: int, stream: int | None) -> list[BarRow]:
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
        rows.append(BarRow(clean(kind), value, text, tuple(details), value))
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


def _order_rows(gates: GateMap, module: int) -> list[BarRow]:
    """Share of the value's squared norm and collisions of each n-gram order."""
    rows = []
    for name, values, what in (
        ("share of the value", gates.order_share, "of the value's squared norm"),
        ("n-grams sharing a row", gates.collisions, "of distinct n-grams share a row"),
    ):
        if values is None or not gates.orders:
            continue
        rows.append(BarRow(name))
        for index, order in enumerate(gates.orders):
            value = float(values[module, index])
            details: tuple[Detail, ...] = ((f"{order}-gram", f"{value:.1%}"), (what, None))
            rows.append(BarRow(f"{order}-gram", value, f"{value:.1%}", details, value))
    return rows
