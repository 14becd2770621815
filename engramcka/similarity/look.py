"""A first look at each layer: its scale, its centre and extent, and a direction near its first
principal component.

Both are found on a few samples, and fixed before any block is worked on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engramcka.similarity.inputs import Ints, Layers

_SAMPLES = 128  # looked at
_EVERY = 8  # of them is enough for a centre, whose medians cost more than all the rest
RUN = 16  # neighbouring samples, of those looked at, which a store has together
_PART_BYTES = 2**21  # of features looked at at once
_POWER_STEPS = 3
_TINY = 1e-30
_FEW = 16  # samples below which their median distance says little
_SCALE_FROM = 2.0**12  # a layer larger than this, or smaller than its inverse, is scaled


def some_samples(n: int, count: int, seed: int) -> Ints:
    """(count,) samples, increasing: runs of neighbours at random places; all there are of few."""
    if n <= count:
        return np.arange(n)
    runs = np.random.default_rng(seed).permutation(n // RUN)[: count // RUN]
    return (np.sort(runs)[:, None] * RUN + np.arange(RUN)).ravel()


def first_look(sides: Sequence[Layers], like: torch.Tensor, seed: int) -> None:
    """Set one power of two, one direction, one centre and one distance a layer of each model.

    The scale keeps products of products in float32's range. CKA does not depend on it, and a
    product with a power of two is exact. Layers of ordinary size keep 1. Where later samples leave
    the range after all, float64 is used.

    The direction comes by a few steps of the power method from the dimension with the largest
    variance, which is where a massive activation sits. The centre is the median of each dimension,
    which no few samples move, and the distance the median of the samples' from it: infinite where
    that is 0, since most samples being the same makes the others no massive ones, and where there
    are too few samples for a median.

    Args:
        sides: the models.
        like: a tensor of the dtype and on the device to compute with.
        seed: of the samples looked at.
    """
    samples = some_samples(sides[0].n_samples, _SAMPLES, seed)
    for layers in sides:
        layers.scales = [1.0] * len(layers)
        layers.directions, layers.centres, layers.distances = [], [], []
        for part in layers.parts(_SAMPLES * 4, _PART_BYTES):
            seen = _look(layers, part, samples, like)
            layers.scales[part.start : part.stop] = seen.scales
            layers.directions += seen.directions
            layers.centres += seen.centres
            layers.distances += seen.distances


@dataclass(frozen=True)
class _Seen:
    """Of a few equally wide layers, one each."""

    scales: list[float]
    directions: list[torch.Tensor]
    centres: list[torch.Tensor]
    distances: list[float]


def _look(layers: Layers, part: range, samples: Ints, like: torch.Tensor) -> _Seen:
    features = torch.stack([layers.values_at(index, samples, like) for index in part])
    step = _EVERY if len(samples) == _SAMPLES else 1
    centres = features[:, ::step].median(1, keepdim=True).values
    means = features.mean(1, keepdim=True)
    features -= centres
    distances = torch.linalg.vector_norm(features, dim=2).median(1).values
    features += centres - means
    squares = features.square().sum(1)
    scales = [1.0] * len(part)
    if not all(_SCALE_FROM**-2 < largest < _SCALE_FROM**2 for largest in squares.amax(1).tolist()):
        scales = [_scale(largest) for largest in features.abs().amax((1, 2)).tolist()]
        features *= features.new_tensor(scales)[:, None, None]
        squares = features.square().sum(1)
    centred = [centre[0] * scale for centre, scale in zip(centres.unbind(), scales, strict=True)]
    far = [one * scale or math.inf for one, scale in zip(distances.tolist(), scales, strict=True)]
    if len(samples) < _FEW:
        far = [math.inf] * len(part)
    return _Seen(scales, _directions(features, squares), centred, far)


def _scale(largest: float) -> float:
    ordinary = 1 / _SCALE_FROM < largest < _SCALE_FROM
    if ordinary or largest == 0 or not math.isfinite(largest):
        return 1.0
    return 2.0 ** -math.frexp(largest)[1]


def _directions(features: torch.Tensor, squares: torch.Tensor) -> list[torch.Tensor]:
    """(width,) unit vector of each layer.

    Args:
        features: (layers, samples, width), centred.
        squares: (layers, width), their sums of squares.
    """
    largest = squares.argmax(1)[:, None, None]
    # Divided by the trace, no step of the power method leaves float32's range.
    inverse = squares.sum(1).clamp(min=_TINY).reciprocal()[:, None, None]
    along = features.gather(2, largest.expand(-1, features.shape[1], 1))
    vectors = torch.bmm(along.mT, features).mul_(inverse)
    for _ in range(_POWER_STEPS - 1):
        along = torch.bmm(features, vectors.mT)
        vectors = torch.bmm(along.mT, features).mul_(inverse)
    lengths = torch.linalg.vector_norm(vectors, dim=2, keepdim=True).clamp_(min=_TINY)
    return list((vectors / lengths)[:, 0])
