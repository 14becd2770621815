"""Results as booktabs tables: rounded, and short enough for a page.

Knows results only. Every table takes a sequence of results of one type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.errors import ComparisonError
from engramcka.figures.plain import plain
from engramcka.results import (
    AllocationSweep,
    CkaMap,
    GateMap,
    LensCurve,
    LossSweep,
    MemoryAblation,
    TrainingCurve,
)

Float = npt.NDArray[np.float64]
Table = tuple[list[str], list[list[str]]]  # head, rows

_ESCAPES = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "[": "{[}", "*": "{*}",  # behind the end of a row they would belong to it
}  # fmt: skip


def latex_table(results: Sequence[Any], k: int = 5, digits: int | None = None) -> str:
    """The table of results of one type; ``k`` and ``digits`` as in `to_latex`.

    Raises:
        TypeError: there is no table of such a thing.
        ComparisonError: the results have no table in common.
    """
    kind = type(results[0])
    if kind not in _TABLES:
        raise TypeError(f"no table of a {kind.__name__}")
    if kind is CkaMap:
        digits = 3 if digits is None else digits
        made = (
            _alignment_table(results[0], k, digits)
            if len(results) == 1
            else _series_table(results, digits)
        )
    else:
        made = _TABLES[kind](results, digits)
    return _booktabs(*made)


def escaped(name: str) -> str:
    """The name as LaTeX that prints it as it is."""
    return "".join(_ESCAPES.get(character, character) for character in plain(name))


def _alignment_table(cka: CkaMap, k: int, digits: int) -> Table:
    aligned = cka.soft_alignment(k)
    ends = cka.soft_alignment_interval(k)
    y, x = escaped(cka.y_label), escaped(cka.x_label)
    head = [f"{x} layer", f"Soft alignment ($k = {k}$)", *(["95\\,\\% interval"] if ends else [])]
    rows = []
    for j, layer in enumerate(cka.x_layers):
        column = cka.similarity[:, j]
        row = [str(layer), number(aligned[j], 1)]
        if ends is not None:
            row.append(_interval(ends[0][j], ends[1][j], 1))
        if np.isfinite(column).any():
            best = int(np.nanargmax(column))
            row += [str(cka.y_layers[best]), number(column[best], digits)]
        else:
            row += ["--", "--"]
        rows.append(row)
    return [*head, f"Nearest {y} layer", "CKA"], rows


def _series_table(maps: Sequence[CkaMap], digits: int) -> Table:
    """A row a checkpoint: the shift in nearest depth and the mean CKA of equal layers."""
    rows, shifts = [], [cka.depth_shift() for cka in maps]
    for cka, shift in zip(maps, shifts, strict=True):
        same = [
            cka.similarity[i, cka.x_layers.index(layer)]
            for i, layer in enumerate(cka.y_layers)
            if layer in cka.x_layers
        ]
        there = [value for value in same if np.isfinite(value)]
        rows.append(
            [
                "--" if cka.step is None else f"{cka.step:,}",
                number(shift.shift, 2),
                _interval(shift.shift_low, shift.shift_high, 2),
                f"{shift.n_determined} of {shift.n_columns}",
                number(float(np.mean(there)) if there else np.nan, digits),
            ]
        )
    unit = " and ".join(dict.fromkeys(shift.unit for shift in shifts))
    head = ["Step", f"Nearest depth ({unit})", "95\\,\\% interval", "Determined"]
    return [*head, "CKA of equal layers"], rows


def _loss_table(sweeps: Sequence[LossSweep], digits: int | None) -> Table:
    (sweep,) = _one(sweeps)
    digits, several = 4 if digits is None else digits, len(sweep.seeds) > 1
    low, high = sweep.difference_low, sweep.difference_high
    known = low is not None and high is not None
    rows = []
    for index, (layer, mean) in enumerate(zip(sweep.layers, sweep.mean, strict=True)):
        row = [str(layer), number(mean, digits), *_deviation(sweep.loss[index], several, digits)]
        if low is not None and high is not None:
            ends = _interval(low[index], high[index], digits)
            row.append(f"{number(sweep.difference[index], digits)} {ends}")
        rows.append(row)
    none = ["--"] if known else []
    if np.isfinite(sweep.baseline_mean):
        spread = _deviation(sweep.baseline, several, digits)
        mean = number(sweep.baseline_mean, digits)
        rows.append([escaped(sweep.baseline_label), mean, *spread, *none])
    for name, loss in [*sweep.reference.items(), *sweep.variants.items()]:
        rows.append([escaped(name), number(loss, digits), *(["--"] if several else []), *none])
    head = ["Insertion layer", f"Loss ({escaped(sweep.unit)})", *(["s.d."] if several else [])]
    return head + (["Above the baseline [95\\,\\%]"] if known else []), rows


def _allocation_table(sweeps: Sequence[AllocationSweep], digits: int | None) -> Table:
    (sweep,) = _one(sweeps)
    digits, several = 4 if digits is None else digits, len(sweep.seeds) > 1
    rows = []
    for index in np.argsort(sweep.rho, kind="stable"):
        experts = [str(sweep.experts[index])] if sweep.experts else []
        spread = _deviation(sweep.loss[index], several, digits)
        rows.append(
            [number(sweep.rho[index], 2), *experts, number(sweep.mean[index], digits), *spread]
        )
    head = [r"$\rho$", *(["Experts"] if sweep.experts else []), f"Loss ({escaped(sweep.unit)})",
            *(["s.d."] if several else [])]  # fmt: skip
    return head, rows


def _lens_table(curves: Sequence[LensCurve], digits: int | None) -> Table:
    """A row a layer, a column a model."""
    digits = 2 if digits is None else digits
    directions = {curve.direction for curve in curves} - {"unknown"}
    if len(directions) > 1:
        raise ComparisonError(
            f"curves of {' and '.join(sorted(directions))} are different divergences; write "
            "them apart"
        )
    layers = sorted({layer for curve in curves for layer in curve.layers})
    rows = []
    for layer in layers:
        row = [str(layer)]
        for curve in curves:
            if layer not in curve.layers:
                row.append("--")
                continue
            at = curve.layers.index(layer)
            text = number(curve.kl[at], digits)
            if curve.kl_low is not None and curve.kl_high is not None:
                text += f" {_interval(curve.kl_low[at], curve.kl_high[at], digits)}"
            row.append(text)
        rows.append(row)
    off = ["" if curve.memory else ", memory off" for curve in curves]
    names = [escaped(curve.label) + end for curve, end in zip(curves, off, strict=True)]
    return ["Layer", *names], rows


def _training_table(curves: Sequence[TrainingCurve], digits: int | None) -> Table:
    digits = 3 if digits is None else digits
    rows = []
    for curve in curves:
        last = number(curve.loss[-1], digits) if len(curve.loss) else "--"
        final = number(curve.validation_loss[-1], digits) if len(curve.validation_loss) else "--"
        best, at = "--", "--"
        if np.isfinite(curve.validation_loss).any():
            index = int(np.nanargmin(curve.validation_loss))
            best = number(curve.validation_loss[index], digits)
            at = f"{curve.validation_step[index]:,.0f}"
        steps = f"{curve.step[-1]:,.0f}" if len(curve.step) else "--"
        rows.append([escaped(curve.label), steps, last, final, best, at])
    return ["Model", "Steps", "Training loss", "Validation loss", "Best", "at step"], rows


def _memory_table(ablations: Sequence[MemoryAblation], digits: int | None) -> Table:
    digits = 3 if digits is None else digits
    rows = []
    for ablation in ablations:
        for index, name in enumerate(ablation.classes):
            count = f"{ablation.counts[index]:,}" if index < len(ablation.counts) else "--"
            on, off = ablation.loss_on[index], ablation.loss_off[index]
            gained = number(off - on, digits)
            if ablation.difference_low is not None and ablation.difference_high is not None:
                ends = ablation.difference_low[index], ablation.difference_high[index]
                gained += f" {_interval(*ends, digits)}"
            kept = f"{number(100 * ablation.kept[index], 1)}"
            rows.append(
                [escaped(ablation.label), escaped(name), count, number(on, digits),
                 number(off, digits), gained, kept]
            )  # fmt: skip
    head = ["Model", "Tokens", "n", "Loss", "Memory off", "Difference", r"Kept (\%)"]
    return head, rows


def _gate_table(gates: Sequence[GateMap], digits: int | None) -> Table:
    """A row a type, a column a module; means over the streams."""
    (one,) = _one(gates)
    digits = 2 if digits is None else digits
    rows = []
    for index, name in enumerate(one.types):
        count = f"{one.counts[index]:,}" if index < len(one.counts) else "--"
        means = one.alpha[index].mean(axis=1)
        rows.append([escaped(name), count, *(number(mean, digits) for mean in means)])
    return ["Type", "Tokens", *(f"Layer {layer}" for layer in one.layers)], rows


_TABLES: Mapping[type[Any], Callable[..., Table]] = {
    CkaMap: _alignment_table,
    LossSweep: _loss_table,
    AllocationSweep: _allocation_table,
    LensCurve: _lens_table,
    TrainingCurve: _training_table,
    MemoryAblation: _memory_table,
    GateMap: _gate_table,
}


def _one(results: Sequence[Any]) -> Sequence[Any]:
    if len(results) != 1:
        raise ComparisonError(
            f"a LaTeX table holds one {type(results[0]).__name__}, found {len(results)}"
        )
    return results


def _deviation(losses: Float, wanted: bool, digits: int) -> list[str]:
    there = losses[np.isfinite(losses)]
    if not wanted:
        return []
    return [number(float(np.std(there, ddof=1)), digits + 1) if len(there) > 1 else "--"]


def _interval(low: float, high: float, digits: int) -> str:
    ends = number(low, digits), number(high, digits)
    return "--" if "--" in ends else f"[{ends[0]}, {ends[1]}]"


def number(value: float, digits: int) -> str:
    """With so many digits after the point; a dash where it is unknown."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "--"


def _booktabs(head: list[str], rows: list[list[str]]) -> str:
    lines = [" & ".join(row) + r" \\" for row in rows]
    columns = "l" + "r" * (len(head) - 1)
    top = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    return "\n".join([*top, *lines, r"\bottomrule", r"\end{tabular}", ""])
