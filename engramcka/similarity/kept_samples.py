"""Which samples a map is over that left some out for their values: found again from the layers.

The slow second way of `prepare`: samples with a value that is not finite in some layer of either
model, then samples that are massive in some layer. NumPy only, a layer in memory a part at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.errors import ComparisonError
from engramcka.results import CkaMap, Float
from engramcka.similarity.constants import (
    CENTRE_EVERY,
    CENTRE_FEWEST,
    CENTRE_SAMPLES,
    FAR,
)
from engramcka.similarity.documents import Ints, some_samples
from engramcka.similarity.terms import normalize_rms, picked

_READ_SAMPLES = 1024

Progress = Callable[[int, int], None]
Flags = npt.NDArray[np.bool_]


def kept_samples(
    cka: CkaMap, y: Sequence[Any], x: Sequence[Any], on_progress: Progress | None = None
) -> Ints:
    """The rows of the samples that a map is over.

    Args:
        cka: the map.
        y: (samples, width) hidden states, one array a layer, of all samples that it was made from.
        x: those of the other model.
        on_progress: called with (samples read, samples to read), of all layers.

    Raises:
        ComparisonError: other numbers of samples would be left out than the map says.
    """
    layers = [*y, *x]
    n = len(layers[0])
    rows = np.arange(n)
    passes = int(cka.n_dropped > 0) + int(cka.n_massive_dropped > 0)
    done = 0

    def read() -> None:
        nonlocal done
        done += n
        if on_progress is not None:
            on_progress(done, passes * n * len(layers))

    for which, left_out in (
        (_not_finite, cka.n_dropped),
        (_massive_of(cka), cka.n_massive_dropped),
    ):
        if not left_out:
            continue
        gone = np.zeros(len(rows), dtype=bool)
        for layer in layers:
            gone |= which(layer, rows)
            read()
        if int(gone.sum()) != left_out:
            raise ComparisonError(
                f"the map left out {left_out} samples for their values, of the hidden states "
                f"there are now {int(gone.sum())} would be: they are not those of the map"
            )
        rows = rows[~gone]
    return rows


def _parts(rows: Ints) -> list[Ints]:
    return [rows[at : at + _READ_SAMPLES] for at in range(0, len(rows), _READ_SAMPLES)]


def _not_finite(layer: Any, rows: Ints) -> Flags:
    found = [~np.isfinite(picked(layer, part)).all(axis=1) for part in _parts(rows)]
    return np.concatenate(found)


def _massive_of(cka: CkaMap) -> Callable[[Any, Ints], Flags]:
    """Which samples of a layer are over `FAR` times as far from its centre as the median one."""

    def values(layer: Any, rows: Ints) -> Float:
        found = picked(layer, rows)
        if cka.normalize == "rms":
            normalize_rms(found)
        return found

    def massive(layer: Any, rows: Ints) -> Flags:
        looked_at = values(layer, rows[some_samples(len(rows), CENTRE_SAMPLES, cka.seed or 0)])
        step = CENTRE_EVERY if len(looked_at) == CENTRE_SAMPLES else 1
        centre = _lower_median(looked_at[::step])
        typical = _lower_median(np.linalg.norm(looked_at - centre, axis=1))
        if typical == 0 or len(looked_at) < CENTRE_FEWEST:
            return np.zeros(len(rows), dtype=bool)
        far = [np.linalg.norm(values(layer, part) - centre, axis=1) for part in _parts(rows)]
        return np.concatenate(far) > FAR * typical

    return massive


def _lower_median(values: Float) -> Float:
    """Of an even number of values the smaller of the middle two."""
    middle = (len(values) - 1) // 2
    found: Float = np.partition(values, middle, axis=0)[middle]
    return found
