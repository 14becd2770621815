"""What a reader must know to read a figure, as plain text to start a caption from.

Knows results, no figures and no files. Says only what the result says: what is unknown is called
unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

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


def cka_caption(cka: CkaMap, *, k: int = 5, first_layer: int = 1) -> str:
    """All that a reader must know of a map, in a few sentences.

    Models, features, estimator, samples, curve, the layers that have no value, and every warning.
    """
    parts = [
        _what_is_compared(cka),
        _capital(f"{_features(cka)}{_estimator(cka)}, on {_samples(cka)}.{_narrow(cka)}"),
        f"Dashed: soft alignment index over the {k} most similar rows of each column"
        + (f" with its 95 % interval over {_over(cka)}." if cka.jackknife is not None else "."),
        f"Dotted: equal layers. {_counting(cka, first_layer)}",
    ]
    parts += [f"Left out: {plain(cka.left_out)}."] if cka.left_out else []
    missing = _missing(cka, first_layer)
    parts += [f"Hatched: no value ({missing})."] if missing else []
    return " ".join(parts + [f"Note: {plain(warning)}." for warning in cka.warnings])


def _what_is_compared(cka: CkaMap) -> str:
    y, x = plain(cka.y_label), plain(cka.x_label)
    return f"CKA of the hidden states after each layer of {y} (rows) and {x} (columns)."


def _features(cka: CkaMap) -> str:
    """How hidden states were changed, "" where they were not."""
    changes = {
        "rms": "each sample divided by its root mean square",
        "zscore": "each dimension divided by its standard deviation",
        "drop-massive": "without the dimensions of over 100 times the median variance",
    }
    done = [changes[how] for how in (cka.normalize, cka.standardize) if how in changes]
    if not done:
        return ""
    return f"{', then '.join(done)}; "


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _estimator(cka: CkaMap) -> str:
    text = f"{cka.kernel} kernel, {cka.estimator} estimator"
    if cka.batch_size:
        drawn = {"random": "drawn at random, ", "in-order": "of neighbours, "}.get(cka.batches, "")
        size = cka.batch_size
        if cka.n_batches and cka.n_samples:
            size = -(-cka.n_samples // cka.n_batches)
        text += f", batches {drawn}of {size:,} samples"
    if cka.pairs == "across-documents":
        text += ", pairs of samples of different documents"
    return text


def _narrow(cka: CkaMap) -> str:
    """Which precision hidden states are in, where one is less than float32."""
    if "16" not in cka.dtype:
        return ""
    return f" Hidden states in {cka.dtype.replace(' / ', ' (rows) and ')}" + (
        " (columns)." if "/" in cka.dtype else "."
    )


def _samples(cka: CkaMap) -> str:
    if not cka.n_samples:
        return "an unknown number of samples"
    text = f"{cka.n_samples:,} samples"
    return text + (f" of {cka.n_documents:,} documents" if cka.n_documents else "")


def _over(cka: CkaMap) -> str:
    return cka.interval_over or "groups of samples"


def _counting(cka: CkaMap, first_layer: int) -> str:
    """From where layers count, and what comes before the first block."""
    text = f"Blocks count from {first_layer}"
    if 0 in (*cka.y_layers, *cka.x_layers):
        return f"{text}; layer {first_layer - 1} is the embedding."
    return f"{text}."


def sweep_caption(sweep: LossSweep) -> str:
    """What the points, bars and lines are."""
    seeds = len(sweep.seeds)
    several = f"Points are means over {seeds} seeds (faint), bars"
    if sweep.difference_high is not None:
        what = f"the 95 % interval of the difference from {plain(sweep.baseline_label)}, over"
        spread = (
            f"{several} {what} validation documents and seeds."
            if seeds > 1
            else f"Bars: {what} validation documents; the spread between seeds is unknown."
        )
    elif seeds > 1:
        spread = f"{several} one standard deviation."
    else:
        spread = "One seed: the spread between seeds is unknown."
    return f"Validation loss ({plain(sweep.unit)}) against the insertion layer. {spread}"


def lens_caption(curves: Sequence[LensCurve], *, first_layer: int = 1) -> str:
    """What diverges from what, over how many tokens, and what the bands are."""
    directions = {curve.direction for curve in curves}
    known = directions.pop() if len(directions) == 1 else "unknown"
    what = (
        "KL divergence of unknown direction between each layer's LogitLens prediction and the "
        "model's own"
        if known == "unknown"
        else f"KL({known.replace('||', ' || ')}) of each layer's LogitLens prediction and the "
        "model's own"
    )
    counts = {curve.n_tokens for curve in curves}
    one = counts.pop() if len(counts) == 1 else None
    unknown = "an unknown number of tokens" if counts <= {None} else "numbers of tokens that differ"
    tokens = f"{one:,} tokens" if one else unknown
    banded = all(curve.kl_low is not None for curve in curves)
    bands = "Bands: 95 % intervals." if banded else "Curves without a band have no interval."
    off = " Dashed: memory off." if any(not curve.memory for curve in curves) else ""
    notes = "".join(
        f" Note on {plain(curve.label)}: {plain(warning)}."
        for curve in curves
        for warning in curve.warnings
    )
    return f"{what}, mean over {tokens}. {bands}{off} Layers count from {first_layer}.{notes}"


def series_caption(maps: Sequence[CkaMap], *, k: int = 5, first_layer: int = 1) -> str:
    """The caption of one map, and which steps there are and which of them lack values."""
    steps = ", ".join(f"{cka.step:,}" for cka in maps if cka.step is not None)
    first = replace(maps[0], warnings=())
    parts = [cka_caption(first, k=k, first_layer=first_layer).split(" Hatched:")[0]]
    parts.append(f"{len(maps)} checkpoints, of steps {steps}.")
    for cka in maps:
        missing = _missing(cka, first_layer)
        if missing:
            parts.append(f"Hatched at step {cka.step:,}: no value ({missing}).")
        parts += [f"Note on step {cka.step:,}: {plain(warning)}." for warning in cka.warnings]
    return " ".join(parts)


def allocation_caption(sweeps: Sequence[AllocationSweep]) -> str:
    """What rho is, the ring and the dashed line."""
    seeds = sorted({len(sweep.seeds) for sweep in sweeps})
    spread = (
        "One seed: the spread between seeds is unknown."
        if seeds == [1]
        else f"Points are means over {' or '.join(map(str, seeds))} seeds (faint), bars one "
        "standard deviation."
    )
    return (
        f"Validation loss ({plain(sweeps[0].unit)}) against rho, the share of the sparse "
        f"parameters that experts keep. {spread} Ringed: the lowest mean. Dashed: experts alone."
    )


def training_caption(curves: Sequence[TrainingCurve]) -> str:
    """Which line is which."""
    checked = any(len(curve.validation_step) for curve in curves)
    both = " Thin: training loss; thick, with markers: validation loss." if checked else ""
    return f"Loss (nats/token) against optimiser steps.{both}"


def memory_caption(ablations: Sequence[MemoryAblation]) -> str:
    """What a bar is, and over how many tokens."""
    bars = all(one.difference_low is not None for one in ablations)
    counts = [
        f"{plain(name)} {count:,}"
        for name, count in zip(ablations[0].classes, ablations[0].counts, strict=False)
    ]
    return (
        "Share of a token's likelihood kept with the memory off, exp(loss with memory - loss "
        "without), and in brackets the loss gained (nats/token)."
        + (" Bars: 95 % intervals." if bars else "")
        + (f" Tokens: {', '.join(counts)}." if counts else "")
    )


def gates_caption(gates: GateMap) -> str:
    """What a dot is."""
    bars = " with its 95 % interval" if gates.alpha_low is not None else ""
    streams = gates.alpha.shape[2]
    dot = f"one of {streams} residual streams" if streams > 1 else "one module"
    return (
        f"Mean gate α of {plain(gates.label)} by entity type (tokens in brackets); a dot is "
        f"{dot}{bars}, a colour the layer of one module."
    )


def _missing(cka: CkaMap, first_layer: int) -> str:
    """Rows and columns without any value by layer number, and how many cells beside them."""
    absent = ~np.isfinite(cka.similarity)
    rows, columns = absent.all(axis=1), absent.all(axis=0)
    named = []
    axes = ((cka.y_label, cka.y_layers, rows), (cka.x_label, cka.x_layers, columns))
    for label, layers, gone in axes:
        numbers = [str(layers[at] + first_layer - 1) for at in np.flatnonzero(gone)]
        if numbers:
            plural = "s" if len(numbers) > 1 else ""
            named.append(f"{plain(label)} layer{plural} {', '.join(numbers)}")
    others = int(absent[np.ix_(~rows, ~columns)].sum())
    if others:
        named.append(f"{others} single cell{'s' if others > 1 else ''}")
    return "; ".join(named)
