"""Lens readings of single tokens as a curve over layers with intervals. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.errors import ComparisonError
from engramcka.results import LensCurve
from engramcka.results.lens import Direction
from engramcka.results.statistics import clustered_mean

FEW_DOCUMENTS = 20
"""Below this an interval over documents is itself uncertain, and a warning says so."""

_COLUMN: Mapping[Direction, str] = {
    "final||layer": "kl_final_layer",
    "layer||final": "kl_layer_final",
}


def lens_curve(
    readings: Mapping[str, npt.NDArray[Any]],
    documents: npt.NDArray[Any],
    layers: Sequence[int],
    *,
    direction: Direction,
    label: str,
    memory: bool = True,
    where: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> LensCurve:
    """Means over tokens of what `read_layers` read, with 95 % intervals over documents.

    Args:
        readings: name -> (tokens, layers), as `engramcka.lens.logit_lens.read_layers` gives them.
        documents: (tokens,) id of the document that each token stands in; tokens of one document
            are not independent, so documents are what the interval counts.
        layers: block numbers.
        direction: which divergence.
        label: of the model.
        memory: False where the Engram modules were silenced.
        where: which samples, as in the config.
        provenance: kept as it is.

    Raises:
        ComparisonError: no token, or readings that are not finite, which come from hidden states
            that are not.
    """
    names = {"kl": _COLUMN[direction], "entropy": "entropy", "top1": "top1"}
    values = {name: np.asarray(readings[key], np.float64) for name, key in names.items()}
    _check(values, layers, label)
    found, cluster = np.unique(documents, return_inverse=True)
    fields: dict[str, Any] = {}
    for name, value in values.items():
        mean, low, high = clustered_mean(value, cluster)
        fields[name] = mean
        if len(found) > 1:
            fields |= {f"{name}_low": low, f"{name}_high": high}
    return LensCurve(
        tuple(layers),
        **fields,
        label=label,
        direction=direction,
        final_entropy=float(fields["entropy"][-1]),
        n_tokens=len(documents),
        memory=memory,
        where=where,
        warnings=few_documents(len(found)),
        provenance=provenance or {},
    )


def few_documents(count: int) -> tuple[str, ...]:
    """Warnings about an interval over so many documents."""
    if count < 2:
        return ("all tokens are from one document, so there is no interval",)
    if count < FEW_DOCUMENTS:
        return (f"the intervals rest on {count} documents only, so they are rough",)
    return ()


def _check(
    values: Mapping[str, npt.NDArray[np.float64]], layers: Sequence[int], label: str
) -> None:
    kl = values["kl"]
    if not len(kl):
        raise ComparisonError(f"lens of {label}: there is not one token to read")
    finite = np.isfinite(kl) & np.isfinite(values["entropy"])
    tokens, columns = np.nonzero(~finite)
    if len(tokens):
        raise ComparisonError(
            f"lens of {label}: {len(np.unique(tokens))} of {len(kl)} tokens have hidden states or "
            f"logits that are not finite, first after block {layers[int(columns.min())]}; load the "
            "model in bfloat16 or float32"
        )
