"""What is said and tabled of maps, CKA or another measure, beside their heatmap.

A caption says only what the result says: what is unknown is called unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engramcka.figures.draw import Drawing, Table, escaped, interval, number
from engramcka.figures.heatmap import cka_figure, plot_cka_map
from engramcka.figures.panels import bar_title, told_apart
from engramcka.measures import MEASURES
from engramcka.plain_text import one_line
from engramcka.results import CkaMap, SimilarityMap


def cka_caption(cka: SimilarityMap, *, k: int = 5, first_layer: int = 1) -> str:
    """All that a reader must know of a map, in a few sentences.

    Models, features, estimator, samples, curve, the layers that have no value, and every warning.
    """
    return " ".join(caption_parts(cka, k=k, first_layer=first_layer))


def caption_parts(cka: SimilarityMap, *, k: int = 5, first_layer: int = 1) -> list[str]:
    """The sentences of `cka_caption`."""
    parts = [
        _what_is_compared(cka),
        _capital(f"{_features(cka)}{_estimator(cka)}, on {_samples(cka)}.{_narrow(cka)}"),
        f"Dashed: soft alignment index over the {k} most similar rows of each column"
        + (f" with its 95 % interval over {_over(cka)}." if cka.jackknife is not None else "."),
        f"Dotted: equal layers. {_counting(cka, first_layer)}",
    ]
    parts += [f"Left out: {one_line(cka.left_out)}."] if cka.left_out else []
    missing = _missing(cka, first_layer)
    parts += [f"Hatched: no value ({missing})."] if missing else []
    return parts + [f"Note: {one_line(warning)}." for warning in cka.warnings]


def _what_is_compared(cka: SimilarityMap) -> str:
    y, x = one_line(cka.y_label), one_line(cka.x_label)
    return f"{cka.title} of the hidden states after each layer of {y} (rows) and {x} (columns)."


def changes(normalize: str, standardize: str) -> list[str]:
    """How hidden states were changed, one after the other; none where they were not."""
    words = {
        "rms": "each sample divided by its root mean square",
        "zscore": "each dimension divided by its standard deviation",
        "drop-massive": "without the dimensions of over 100 times the median variance",
    }
    return [words[how] for how in (normalize, standardize) if how in words]


def _features(cka: SimilarityMap) -> str:
    """The same in words, "" where they were not."""
    done = changes(cka.normalize, cka.standardize)
    if not done:
        return ""
    return f"{', then '.join(done)}; "


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _estimator(cka: SimilarityMap) -> str:
    if not isinstance(cka, CkaMap):
        return _measure(cka)
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


def _measure(cka: SimilarityMap) -> str:
    """What another measure than CKA is, its range and what it is by chance, where it is known."""
    known = MEASURES.get(cka.measure)
    if known is None:
        return "an unknown measure"
    text = f"{known.words}, from {known.range}"
    if cka.neighbours is not None:
        text += f", {cka.neighbours} neighbours"
    if cka.chance is not None:
        text += f", {cka.chance:.3f} by chance"
    if cka.variance is not None:
        text += f", of components with {cka.variance:.0%} of the variance"
    for counts in (cka.y_components, cka.x_components):
        there = [] if counts is None else counts[np.isfinite(counts)].astype(int).tolist()
        if there:
            span = f"{min(there)} to {max(there)}" if min(there) < max(there) else f"{there[0]}"
            text += f" ({span} in {'rows' if counts is cka.y_components else 'columns'})"
    if cka.pairs == "across-documents":
        text += ", pairs of samples of different documents"
    return text


def _narrow(cka: SimilarityMap) -> str:
    """Which precision hidden states are in, where one is less than float32."""
    if "16" not in cka.dtype:
        return ""
    return f" Hidden states in {cka.dtype.replace(' / ', ' (rows) and ')}" + (
        " (columns)." if "/" in cka.dtype else "."
    )


def _samples(cka: SimilarityMap) -> str:
    if not cka.n_samples:
        return "an unknown number of samples"
    text = f"{cka.n_samples:,} samples"
    text += f" of {cka.n_documents:,} documents" if cka.n_documents else ""
    return text + (f", those where {one_line(cka.where)}" if cka.where else "")


def _over(cka: SimilarityMap) -> str:
    return cka.interval_over or "groups of samples"


def _counting(cka: SimilarityMap, first_layer: int) -> str:
    """From where layers count, and what comes before the first block."""
    text = f"Blocks count from {first_layer}"
    if 0 in (*cka.y_layers, *cka.x_layers):
        return f"{text}; layer {first_layer - 1} is the embedding."
    return f"{text}."


def series_caption(maps: Sequence[SimilarityMap], *, k: int = 5, first_layer: int = 1) -> str:
    """The caption of one map, and which steps there are and which of them lack values."""
    steps = ", ".join(f"{cka.step:,}" for cka in maps if cka.step is not None)
    first = replace(maps[0], warnings=())
    parts = [cka_caption(first, k=k, first_layer=first_layer).split(" Hatched:")[0]]
    parts.append(f"{len(maps)} checkpoints, of steps {steps}.")
    for cka in maps:
        missing = _missing(cka, first_layer)
        if missing:
            parts.append(f"Hatched at step {cka.step:,}: no value ({missing}).")
        parts += [f"Note on step {cka.step:,}: {one_line(warning)}." for warning in cka.warnings]
    return " ".join(parts)


def _missing(cka: SimilarityMap, first_layer: int) -> str:
    """Rows and columns without any value by layer number, and how many cells beside them."""
    absent = ~np.isfinite(cka.similarity)
    rows, columns = absent.all(axis=1), absent.all(axis=0)
    named = []
    axes = ((cka.y_label, cka.y_layers, rows), (cka.x_label, cka.x_layers, columns))
    for label, layers, gone in axes:
        numbers = [str(layers[at] + first_layer - 1) for at in np.flatnonzero(gone)]
        if numbers:
            plural = "s" if len(numbers) > 1 else ""
            named.append(f"{one_line(label)} layer{plural} {', '.join(numbers)}")
    others = int(absent[np.ix_(~rows, ~columns)].sum())
    if others:
        named.append(f"{others} single cell{'s' if others > 1 else ''}")
    return "; ".join(named)


def cka_table(maps: Sequence[SimilarityMap], digits: int | None = None, k: int = 5) -> Table:
    """The alignment of one map, a row a layer of x; of several, a row a checkpoint or a map."""
    digits = 3 if digits is None else digits
    return _alignment_table(maps[0], k, digits) if len(maps) == 1 else _series_table(maps, digits)


def _alignment_table(cka: SimilarityMap, k: int, digits: int) -> Table:
    aligned = cka.soft_alignment(k)
    ends = cka.soft_alignment_interval(k)
    y, x = escaped(cka.y_label), escaped(cka.x_label)
    head = [f"{x} layer", f"Soft alignment ($k = {k}$)", *(["95\\,\\% interval"] if ends else [])]
    rows = []
    for j, layer in enumerate(cka.x_layers):
        column = cka.similarity[:, j]
        row = [str(layer), number(aligned[j], 1)]
        if ends is not None:
            row.append(interval(ends[0][j], ends[1][j], 1))
        if np.isfinite(column).any():
            best = int(np.nanargmax(column))
            row += [str(cka.y_layers[best]), number(column[best], digits)]
        else:
            row += ["--", "--"]
        rows.append(row)
    return [*head, f"Nearest {y} layer", escaped(cka.title)], rows


def _series_table(maps: Sequence[SimilarityMap], digits: int) -> Table:
    """A row a map: the shift in nearest depth and the mean CKA of equal layers.

    Named by its step in a series, else by its models, and how it was made where others are of the
    same ones.
    """
    rows, shifts = [], [cka.depth_shift() for cka in maps]
    units = list(dict.fromkeys(shift.unit for shift in shifts))
    is_series = any(cka.step is not None for cka in maps)
    ways = told_apart(maps)
    told = not is_series and any(ways)
    for cka, shift, way in zip(maps, shifts, ways, strict=True):
        steps = ["--" if cka.step is None else f"{cka.step:,}"]
        models = [escaped(cka.y_label), escaped(cka.x_label), *([escaped(way)] if told else [])]
        same = [
            cka.similarity[i, cka.x_layers.index(layer)]
            for i, layer in enumerate(cka.y_layers)
            if layer in cka.x_layers
        ]
        there = [value for value in same if np.isfinite(value)]
        rows.append(
            [
                *(steps if is_series else models),
                number(shift.shift, 2) + (f" {shift.unit}" if len(units) > 1 else ""),
                interval(shift.shift_low, shift.shift_high, 2),
                f"{shift.n_determined} of {shift.n_columns}",
                number(float(np.mean(there)) if there else np.nan, digits),
            ]
        )
    unit = " and ".join(units)
    named = ["Step"] if is_series else ["Rows", "Columns", *(["Made with"] if told else [])]
    head = [*named, f"Nearest depth ({unit})", "95\\,\\% interval", "Determined"]
    return [*head, f"{bar_title(maps)} of equal layers"], rows


DRAWING = Drawing(cka_figure, plot_cka_map, cka_caption, cka_table)
