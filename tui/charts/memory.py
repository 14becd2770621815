"""Memory ablations as rows with a bar each: loss without the memory minus loss with it."""

from __future__ import annotations

import numpy as np

from engramcka.plain_text import clean
from engramcka.results import MemoryAblation
from engramcka.tui import readout
from engramcka.tui.charts import Detail
from engramcka.tui.widgets.bar_list import BarRow

BESIDE_BAR = ("apart", "95 %")
"""Details of a row that its text beside the bar says too."""


def memory_rows(values: dict[str, MemoryAblation]) -> list[BarRow]:
    """What the memory is worth, loss without it minus loss with it, by model and token class."""
    differences = [v.loss_off - v.loss_on for v in values.values()]
    finite = [float(abs(d)) for part in differences for d in part if np.isfinite(d)]
    longest = max(finite, default=0.0) or 1.0
    rows: list[BarRow] = []
    for name, ablation in values.items():
        label = clean(ablation.label) if ablation.label != "model" else clean(name)
        rows.append(BarRow(label))
        for index, kind in enumerate(ablation.classes):
            rows.append(_memory_row(ablation, index, clean(kind), longest))
    return rows


def _memory_row(ablation: MemoryAblation, index: int, kind: str, longest: float) -> BarRow:
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
    return BarRow(kind, abs(difference) / longest, text, tuple(details), difference, difference < 0)
