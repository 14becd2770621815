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
        given = None if means is None else torch.stack(list(means[first:last]))[:, None]
        blocks.append(centred_part(layers, range(first, last), start, stop, out, given))
    return blocks


def centred_part(
    layers: Layers,
    part: range,
    start: int,
    stop: int,
    out: torch.Tensor,
    means: torch.Tensor | None = None,
) -> torch.Tensor:
    """A few equally wide layers of `centred`, written to out (layers, samples, width).

    Few calls for many layers: between two calls a thread may have to wait for the others.

    Args:
        layers: one model.
        part: which of its layers.
        start: first sample.
        stop: last sample + 1.
        out: of the dtype and on the device to compute with.
        means: (layers, 1, width), scaled; the means over these samples if left out.
    """
    layers.fill(part, start, stop, out)
    means = out.mean(1, keepdim=True) if means is None else means
    out -= means
    if out.dtype == torch.float64:
        out *= out.abs().amax(1, keepdim=True) > _ROUNDING * means.abs()
    return out


def centred_layer(
    layers: Layers,
    index: int,
    start: int,
    stop: int,
    like: torch.Tensor,
    mean: torch.Tensor | None = None,
) -> torch.Tensor:
    """One layer's (samples, width) block of `centred`."""
    out = like.new_empty((1, stop - start, layers.widths[index]))
    means = None if mean is None else mean[None, None]
    return centred_part(layers, range(index, index + 1), start, stop, out, means)[0]


def overall_means(layers: Layers, like: torch.Tensor, block: int) -> list[torch.Tensor]:
    """(width,) mean over all samples of every layer, added up in float64, rounded to like."""

    def mean(index: int) -> torch.Tensor:
        total = like.new_zeros(layers.widths[index], dtype=torch.float64)
        for start in range(0, layers.n_samples, block):
            stop = min(start + block, layers.n_samples)
            total += layers.values(index, start, stop, like).sum(0)
        return (total / layers.n_samples).to(like)

    return each_layer(mean, len(layers), like.device)
