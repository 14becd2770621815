"""The numbers of every kind of result as rows of named values, as a CSV keeps them.

Knows results only. Layers count from 1; nothing is rounded; an unknown is None or NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

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
Row = dict[str, Any]


def rows_of(result: Any) -> Iterator[Row]:
    """The rows of one result; the first has every column.

    Raises:
        TypeError: it is no result that rows are known of.
    """
    maker = next((make for kind, make in _ROWS.items() if isinstance(result, kind)), None)
    if maker is None:
        raise TypeError(f"no table of a {type(result).__name__}")
    return maker(result)


def _map_rows(cka: CkaMap) -> Iterator[Row]:
    values = {"similarity": cka.similarity, "ci_low": cka.ci_low, "ci_high": cka.ci_high}
    there = {name: cells for name, cells in values.items() if cells is not None}
    step = {} if cka.step is None else {"step": cka.step}
    for i, y in enumerate(cka.y_layers):
        for j, x in enumerate(cka.x_layers):
            cells = {name: float(cells[i, j]) for name, cells in there.items()}
            yield {**step, "y_layer": y, "x_layer": x, **cells}


def _sweep_rows(sweep: LossSweep) -> Iterator[Row]:
    """A baseline, reference or ablation has its name and no layer.

    The interval of a layer's mean difference from the baseline stands beside each of its seeds.
    """
    ends = {"difference_low": sweep.difference_low, "difference_high": sweep.difference_high}
    there = {name: values for name, values in ends.items() if values is not None}
    for index, (layer, losses) in enumerate(zip(sweep.layers, sweep.loss, strict=True)):
        interval = {name: float(values[index]) for name, values in there.items()}
        for seed, loss in zip(sweep.seeds, losses, strict=True):
            yield {"kind": "layer", "name": plain(sweep.label), "layer": layer, "seed": seed,
                   "loss": float(loss), **interval}  # fmt: skip
    count = len(sweep.baseline)
    seeds: Sequence[Any] = sweep.seeds if count == len(sweep.seeds) else [None] * count
    for seed, loss in zip(seeds, sweep.baseline, strict=True):
        name = plain(sweep.baseline_label)
        yield {"kind": "baseline", "name": name, "layer": None, "seed": seed, "loss": float(loss)}
    for kind, lines in (("reference", sweep.reference), ("variant", sweep.variants)):
        for name, loss in lines.items():
            yield {"kind": kind, "name": plain(name), "layer": None, "seed": None,
                   "loss": float(loss)}  # fmt: skip


def _allocation_rows(sweep: AllocationSweep) -> Iterator[Row]:
    experts: Sequence[Any] = sweep.experts or [None] * len(sweep.rho)
    for rho, count, losses in zip(sweep.rho, experts, sweep.loss, strict=True):
        for seed, loss in zip(sweep.seeds, losses, strict=True):
            yield {"name": plain(sweep.label), "rho": float(rho), "experts": count, "seed": seed,
                   "loss": float(loss)}  # fmt: skip


def _lens_rows(curve: LensCurve) -> Iterator[Row]:
    names = [f"{reading}{end}" for reading in ("kl", "entropy", "top1")
             for end in ("", "_low", "_high")]  # fmt: skip
    there = {name: v for name in names if (v := getattr(curve, name)) is not None}
    for index, layer in enumerate(curve.layers):
        yield {"model": plain(curve.label), "memory": "on" if curve.memory else "off",
               "direction": curve.direction, "layer": layer,
               **{name: float(values[index]) for name, values in there.items()}}  # fmt: skip


def _training_rows(curve: TrainingCurve) -> Iterator[Row]:
    for split, steps, losses in (
        ("training", curve.step, curve.loss),
        ("validation", curve.validation_step, curve.validation_loss),
    ):
        for step, loss in zip(steps, losses, strict=True):
            yield {"model": plain(curve.label), "split": split, "step": round(float(step)),
                   "loss": float(loss)}  # fmt: skip


def _memory_rows(ablation: MemoryAblation) -> Iterator[Row]:
    columns = {
        "loss_on": ablation.loss_on, "loss_off": ablation.loss_off,
        "difference_low": ablation.difference_low, "difference_high": ablation.difference_high,
        "kept": ablation.kept,
    }  # fmt: skip
    for index, name in enumerate(ablation.classes):
        count = ablation.counts[index] if index < len(ablation.counts) else None
        yield {"model": plain(ablation.label), "class": plain(name), "tokens": count,
               **{k: float(v[index]) for k, v in columns.items() if v is not None}}  # fmt: skip


def _gate_rows(gates: GateMap) -> Iterator[Row]:
    columns = {"alpha": gates.alpha, "alpha_low": gates.alpha_low, "alpha_high": gates.alpha_high}
    there = {name: values for name, values in columns.items() if values is not None}
    for kind, name in enumerate(gates.types):
        count = gates.counts[kind] if kind < len(gates.counts) else None
        for module, layer in enumerate(gates.layers):
            for stream in range(gates.alpha.shape[2]):
                cells = {key: float(values[kind, module, stream]) for key, values in there.items()}
                yield {"model": plain(gates.label), "type": plain(name), "tokens": count,
                       "layer": layer, "stream": stream, **cells}  # fmt: skip


_ROWS: Mapping[type[Any], Callable[[Any], Iterator[Row]]] = {
    CkaMap: _map_rows,
    LossSweep: _sweep_rows,
    AllocationSweep: _allocation_rows,
    LensCurve: _lens_rows,
    TrainingCurve: _training_rows,
    MemoryAblation: _memory_rows,
    GateMap: _gate_rows,
}


def text_rows(gates: GateMap) -> Iterator[Row]:
    """The gates of every token of the texts, a row a token, module and stream."""
    for number, text in enumerate(gates.texts):
        for index, token in enumerate(text.tokens):
            for module, layer in enumerate(gates.layers):
                for stream, alpha in enumerate(text.alpha[index, module]):
                    yield {"text": number, "position": index, "token": token, "layer": layer,
                           "stream": stream, "alpha": float(alpha)}  # fmt: skip
