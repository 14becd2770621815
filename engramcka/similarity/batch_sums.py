"""What one batch gives, as NumPy arrays on the host, wherever it was computed."""

from __future__ import annotations

from dataclasses import dataclass

from engramcka.results import Float
from engramcka.similarity.hsic import Bool, PairSums


@dataclass(frozen=True)
class BatchSums:
    """Sums over K~ of all samples (entry 0) and, where there are several groups of samples, of
    those without each (the others); and what is known of the samples."""

    pairs: PairSums  # (sets, ...)
    columns: Float  # (sum of widths,): sums of squares of each dimension of each layer, y's first
    along: Float  # (layers,): the same along each layer's direction
    distances: Float  # (layers, candidates): squared distances of the farthest samples
    added: Float  # (layers, candidates): what each adds, see `massive.farthest_samples`
    massive: Bool  # (layers, samples)
