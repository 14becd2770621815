"""What every map is asked for, whatever its measure: two models, their samples, and options.

And what it says of them: `known_of` gives the fields that all maps have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from engramcka.errors import ComparisonError
from engramcka.results import Float
from engramcka.similarity.device_layers import send_if_it_fits
from engramcka.similarity.diagnostics import layer_diagnostics
from engramcka.similarity.documents import Ints, document_numbers
from engramcka.similarity.gram_tiles import Moments
from engramcka.similarity.layers import Layers, choose_device, load_if_it_fits
from engramcka.similarity.massive import Outliers
from engramcka.similarity.prepare import Pair, Prepared

Standardize = Literal["none", "zscore", "drop-massive"]
Nonfinite = Literal["error", "drop"]
Massive = Literal["keep", "drop"]
Normalize = Literal["none", "rms"]
Pairs = Literal["across-documents", "all"]

MOST_NAMED = 1000  # massive samples that a map names


@dataclass(frozen=True)
class Inputs:
    """Two models over the same samples."""

    y: Layers
    x: Layers
    documents: Ints | None  # (samples,) number of each sample's; None where none are known
    like: torch.Tensor  # of the dtype and on the device to compute with


def open_inputs(
    y: Sequence[Any],
    x: Sequence[Any],
    *,
    layers: tuple[Sequence[int], Sequence[int]],
    samples: tuple[Sequence[Any] | None, Sequence[Any] | None],
    groups: Sequence[Any] | None,
    names: Sequence[str] | None,
    device: str | torch.device,
    ranks: int,
) -> Inputs:
    """Two models as `cka_map` takes them, checked, and on the GPU or in memory where they fit.

    Args:
        y: one array a layer of one model.
        x: those of the other.
        layers: block numbers of y and of x.
        samples: identities of y's samples and of x's.
        groups: the document of each sample.
        names: what to call each sample.
        device: where to compute.
        ranks: processes that share the memory.

    Raises:
        ComparisonError: shapes, dtypes, counts or identities do not fit.
    """
    sides = Layers.from_arrays(y, "y", layers[0]), Layers.from_arrays(x, "x", layers[1])
    _check_pair(*sides, *samples)
    n = sides[0].n_samples
    documents = _numbered(groups, n)
    if names and len(names) != n:
        raise ComparisonError(f"names names {len(names)} samples, y has {n}")
    place = choose_device(*sides, device)  # before files are read, which then lie on the CPU
    sides = send_if_it_fits(*sides, place) or load_if_it_fits(*sides, ranks)
    dtype = torch.float64 if any(side.needs_float64 for side in sides) else torch.float32
    return Inputs(*sides, documents, torch.empty(0, dtype=dtype, device=place))


def known_of(
    pair: Pair, moments: Moments, squared: tuple[Float, Float] | None, outliers: Outliers
) -> dict[str, Any]:
    """Fields of a map that say what its samples and layers are.

    Args:
        pair: both models as they were compared.
        moments: of all samples.
        squared: as `layer_diagnostics` takes it.
        outliers: samples that are far out.
    """
    y_found, x_found = layer_diagnostics(
        moments, pair.y, pair.x, squared, outliers.massive, outliers.top_share
    )
    massive = outliers.samples if pair.y.rows is None else pair.y.rows[outliers.samples]
    return {
        "y_diagnostics": y_found,
        "x_diagnostics": x_found,
        "n_samples": pair.y.n_samples,
        "n_dropped": pair.n_nonfinite,
        "n_massive": len(massive),
        "massive_samples": tuple(sorted(massive.tolist())[:MOST_NAMED]),
        "n_massive_dropped": pair.n_massive,
        "dtype": " / ".join(dict.fromkeys(side.dtype for side in (pair.y, pair.x))),
    }


def check_choices(options: Mapping[str, tuple[str, Any]]) -> None:
    """Refuse an option that is not among those of its Literal.

    Raises:
        ComparisonError: names the option and what it may be.
    """
    for name, (value, allowed) in options.items():
        if value not in get_args(allowed):
            raise ComparisonError(
                f"{name} is {value!r}; it must be one of {', '.join(get_args(allowed))}"
            )


def check_least(**numbers: tuple[int, int]) -> None:
    """Refuse a number below its least.

    Args:
        numbers: (value, least) by name.

    Raises:
        ComparisonError: names the number and its least.
    """
    for name, (number, least) in numbers.items():
        if number < least:
            raise ComparisonError(f"{name} is {number}; it must be at least {least}")


def _check_pair(
    y: Layers,
    x: Layers,
    y_samples: Sequence[Any] | None = None,
    x_samples: Sequence[Any] | None = None,
) -> None:
    """Raise ComparisonError unless y and x hold the same, sufficient number of samples.

    Args:
        y: one model.
        x: the other.
        y_samples: identities of y's samples; where both are given they must be the same.
        x_samples: identities of x's samples.
    """
    if y.n_samples != x.n_samples:
        raise ComparisonError(
            f"y has {y.n_samples} samples, x {x.n_samples}; both need the same samples in the "
            "same order"
        )
    if y.n_samples < 4:
        raise ComparisonError(
            f"{y.n_samples} samples; the unbiased estimator of HSIC needs at least 4"
        )
    if y_samples is None or x_samples is None:
        return
    for name, samples in (("y_samples", y_samples), ("x_samples", x_samples)):
        if len(samples) != y.n_samples:
            raise ComparisonError(f"{name} names {len(samples)} samples, y has {y.n_samples}")
    for index, (a, b) in enumerate(zip(y_samples, x_samples, strict=True)):
        if not np.array_equal(a, b):
            raise ComparisonError(
                f"sample {index} is {a!r} in y and {b!r} in x; both need the same samples in the "
                "same order"
            )


def _numbered(groups: Sequence[Any] | None, n: int) -> Ints | None:
    """(samples,) document numbers; None where there are none."""
    if groups is None:
        return None
    if len(groups) != n:
        raise ComparisonError(f"groups names {len(groups)} samples' documents, y has {n} samples")
    return document_numbers(groups)


def documents_left(documents: Ints | None, side: Prepared) -> tuple[int | None, Ints | None]:
    """How many documents the samples kept are of, and the number of each sample's.

    Args:
        documents: (all samples,) numbers; None where there are none.
        side: one of the models.

    Returns:
        The count, None where no documents are known; and (samples,) numbers, None where every
        sample is a document of its own.
    """
    if documents is None:
        return None, None
    if side.rows is not None:
        documents = document_numbers(documents[side.rows])
    count = int(documents.max()) + 1
    return count, None if count == side.n_samples else documents
