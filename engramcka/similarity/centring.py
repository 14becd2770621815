"""Blocks of samples with every feature centred.

Centring changes no estimate; in float32 it is the difference between a right and a wrong one.
Knows nothing of kernels or estimators.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engramcka.similarity.inputs import Layers
from engramcka.similarity.workers import each_layer

_ROUNDING = 16 * 2.0**-53  # centred float64 features below this share of the mean are rounding


def centred(
    layers: Layers,
    start: int,
    stop: int,
    like: torch.Tensor,
    means: Sequence[torch.Tensor] | None = None,
) -> list[torch.Tensor]:
    """Samples start to stop of every layer, each feature less its mean, times the layer's scale.

    In float32 a mean is rounded, so that a small one may be left; sums over rows allow for it.

    Args:
        layers: one model.
        start: first sample.
        stop: last sample + 1.
        like: a tensor of the dtype and on the device to compute with.
        means: (width,) a layer, scaled; the mean over these samples if left out.

    Returns:
        One (layers of the run, samples, width) tensor for each run of equally wide layers.
    """
    blocks = []
    for first, last, width in layers.runs():
        block = like.new_empty((last - first, stop - start, width))
        for index in range(first, last):
            given = None if means is None else means[index]
            centred_layer(layers, index, start, stop, like, given, out=block[index - first])
        blocks.append(block)
    return blocks


def centred_layer(
    layers: Layers,
    index: int,
    start: int,
    stop: int,
    like: torch.Tensor,
    mean: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """One layer's (samples, width) block of `centred`."""
    values = layers.values(index, start, stop, like)
    mean = values.mean(0) if mean is None else mean
    rest = torch.sub(values, mean) if out is None else torch.sub(values, mean, out=out)
    if rest.dtype == torch.float64:
        rest.mul_(rest.abs().amax(0) > _ROUNDING * mean.abs())
    return rest


def overall_means(layers: Layers, like: torch.Tensor, block: int) -> list[torch.Tensor]:
    """(width,) mean over all samples of every layer, added up in float64, rounded to like."""

    def mean(index: int) -> torch.Tensor:
        total = like.new_zeros(layers.widths[index], dtype=torch.float64)
        for start in range(0, layers.n_samples, block):
            stop = min(start + block, layers.n_samples)
            total += layers.values(index, start, stop, like).sum(0)
        return (total / layers.n_samples).to(like)

    return each_layer(mean, len(layers), like.device)
