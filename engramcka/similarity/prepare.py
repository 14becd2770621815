"""Before any comparison: samples that are left out, and features that are changed on purpose.

Each reads all samples once, a block at a time, and only where an option asks for it. Knows
nothing of kernels or estimators.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from engramcka.errors import ComparisonError
from engramcka.similarity.centring import overall_means
from engramcka.similarity.documents import MIN_BATCH
from engramcka.similarity.inputs import Change, Layers
from engramcka.similarity.workers import each_layer

MASSIVE = 100.0  # times the median variance: from there a dimension counts as massive
RMS_EPSILON = 1e-6  # added to the mean square, as Llama's norm does
_BLOCK = 1024  # samples read at once


def drop_nonfinite(y: Layers, x: Layers) -> int:
    """Leave every sample with a NaN or an infinity in any layer out of both models.

    Returns:
        How many were left out.

    Raises:
        ComparisonError: fewer than 4 samples are left.
    """
    n = y.n_samples
    keep = np.ones(n, dtype=bool)
    for side in (y, x):
        for index in range(len(side)):
            finite = np.concatenate(
                [
                    side.read(index, start, stop).isfinite().all(dim=1).cpu().numpy()
                    for start, stop in _ranges(n)
                ]
            )
            side.nonfinite_share[index] = float(1 - finite.mean())
            keep &= finite
    return keep_only(y, x, keep, "are finite in every layer of both models", "")


def keep_only(y: Layers, x: Layers, keep: npt.NDArray[np.bool_], which: str, instead: str) -> int:
    """Leave out of both models what is not to be kept.

    Args:
        y: one model.
        x: the other.
        keep: (samples,).
        which: samples these are, for the message.
        instead: what else could be done, for the message.

    Returns:
        How many were left out.

    Raises:
        ComparisonError: fewer than 4 samples are left.
    """
    rows = np.flatnonzero(keep)
    if len(rows) == len(keep):
        return 0
    if len(rows) < MIN_BATCH:
        raise ComparisonError(
            f"{len(rows)} of {len(keep)} samples {which}; at least {MIN_BATCH} are needed{instead}"
        )
    y.keep(rows)
    x.keep(rows)
    return len(keep) - len(rows)


def normalize_rms(layers: Layers, eps: float = RMS_EPSILON) -> None:
    """Divide each sample of every layer by its root mean square, as the next block's norm does."""

    def change(block: torch.Tensor) -> torch.Tensor:
        largest = block.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(block.dtype).tiny)
        scaled = block / largest  # squares of float32 leave its range early
        return scaled / (scaled.square().mean(1, keepdim=True) + eps / largest.square()).sqrt()

    layers.changes = [change] * len(layers)


def standardize_features(layers: Layers, how: str, like: torch.Tensor) -> None:
    """Change the features of every layer, from their means and variances over all samples.

    "zscore" divides each dimension by its standard deviation, so that each counts the same (one
    that does not vary counts nothing). "drop-massive" leaves out the dimensions whose variance is
    over `MASSIVE` times the median of those that vary, and records them.

    Raises:
        ComparisonError: a value is NaN or infinite.
    """
    for index, (mean, variance) in enumerate(_statistics(layers, like)):
        if how == "zscore":
            layers.changes[index] = _then(layers.changes[index], _zscore(mean, variance))
        else:
            varying = variance[variance > 0]
            limit = MASSIVE * varying.median() if len(varying) else torch.inf
            massive = (variance > limit).nonzero()[:, 0]
            if len(massive):
                kept = (variance <= limit).nonzero()[:, 0]
                layers.changes[index] = _then(layers.changes[index], _only(kept))
                layers.widths[index] = len(kept)
                layers.dropped[index] = tuple(massive.tolist())


def _statistics(layers: Layers, like: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(mean, variance), each (width,) float64, of every layer."""
    means = overall_means(layers, like.double(), _BLOCK)
    if not all(bool(mean.isfinite().all()) for mean in means):
        for start, stop in _ranges(layers.n_samples):
            layers.raise_if_nonfinite(np.arange(start, stop))

    def statistics(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        mean = means[index]
        total = torch.zeros_like(mean)
        for start, stop in _ranges(layers.n_samples):
            rest = layers.values(index, start, stop, like.double()) - mean
            total += rest.square().sum(0)
        variance = total / layers.n_samples
        # What is left of a constant by rounding is no variance.
        variance[variance.sqrt() <= 1e-14 * mean.abs()] = 0
        return mean, variance

    return each_layer(statistics, len(layers), like.device)


def _then(first: Change | None, second: Change) -> Change:
    return second if first is None else lambda block: second(first(block))


def _zscore(mean: torch.Tensor, variance: torch.Tensor) -> Change:
    factor = torch.where(variance > 0, variance.rsqrt(), 0.0)

    def change(block: torch.Tensor) -> torch.Tensor:
        return (block - mean.to(block)) * factor.to(block)

    return change


def _only(kept: torch.Tensor) -> Change:
    return lambda block: block[:, kept]


def _ranges(n: int) -> list[tuple[int, int]]:
    return [(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
