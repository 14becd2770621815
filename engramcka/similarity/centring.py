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
        out = like.new_empty((last - first, stop - start, width))
        for index, place in zip(range(first, last), out.unbind(), strict=True):
            block = layers.values(index, start, stop, like)
            centre(block, place, None if means is None else means[index])
        blocks.append(out)
    return blocks


def centred_at(layers: Layers, samples: torch.Tensor, like: torch.Tensor) -> list[torch.Tensor]:
    """`centred` of these samples, of those that are held, each feature less their own mean."""
    blocks = []
    for first, last, width in layers.runs():
        out = like.new_empty((last - first, len(samples), width))
        for index, place in zip(range(first, last), out.unbind(), strict=True):
            layers.gather(index, samples, place)
            centre(place, place)
        blocks.append(out)
    return blocks


def centre(
    block: torch.Tensor, out: torch.Tensor, mean: torch.Tensor | None = None
) -> torch.Tensor:
    """Write one layer's features less their mean to out, which may be the block itself.

    Args:
        block: (samples, width).
        out: the same, of the same dtype.
        mean: (width,); the mean over these samples if left out.

    Returns:
        The mean.
    """
    mean = block.mean(0) if mean is None else mean
    torch.sub(block, mean, out=out)
    if out.dtype == torch.float64:
        out *= out.abs().amax(0) > _ROUNDING * mean.abs()
    return mean


def centred_layer(
    layers: Layers,
    index: int,
    start: int,
    stop: int,
    like: torch.Tensor,
    mean: torch.Tensor | None = None,
) -> torch.Tensor:
    """One layer's (samples, width) block of `centred`."""
    block = layers.values(index, start, stop, like)
    out = torch.empty_like(block)
    centre(block, out, mean)
    return out


def overall_means(layers: Layers, like: torch.Tensor, block: int) -> list[torch.Tensor]:
    """(width,) mean over all samples of every layer, added up in float64, rounded to like."""

    def mean(index: int) -> torch.Tensor:
        total = like.new_zeros(layers.widths[index], dtype=torch.float64)
        for start in range(0, layers.n_samples, block):
            stop = min(start + block, layers.n_samples)
            total += layers.values(index, start, stop, like).sum(0)
        return (total / layers.n_samples).to(like)

    return each_layer(mean, len(layers), like.device)
