"""A first look at each layer: its scale, and a direction near its first principal component.

Both are found on the first samples of all, and fixed before any block is worked on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from engramcka.similarity.inputs import Layers

_SAMPLES = 128  # looked at
_PART_BYTES = 2**20  # of features looked at at once: few enough to stay in a core's cache
_POWER_STEPS = 3
_TINY = 1e-30
_SCALE_FROM = 2.0**12  # a layer larger than this, or smaller than its inverse, is scaled


def first_look(layers: Layers, like: torch.Tensor) -> None:
    """Set one power of two and one direction a layer.

    The scale keeps products of products in float32's range. CKA does not depend on it, and a
    product with a power of two is exact. Layers of ordinary size keep 1. Where later samples leave
    the range after all, float64 is used.

    The direction comes by a few steps of the power method from the dimension with the largest
    variance, which is where a massive activation sits.

    Args:
        layers: one model.
        like: a tensor of the dtype and on the device to compute with.
    """
    stop = min(layers.n_samples, _SAMPLES)
    scales, directions = [], []
    for part in _parts(layers):
        features = like.new_empty((len(part), stop, layers.widths[part[0]]))
        layers.fill(part, 0, stop, features)
        features -= features.mean(1, keepdim=True)
        found = [_scale(largest) for largest in features.abs().amax((1, 2)).tolist()]
        features *= features.new_tensor(found)[:, None, None]
        scales += found
        directions += _directions(features)
    layers.scales, layers.directions = scales, directions


def _parts(layers: Layers) -> Iterator[range]:
    """A few equally wide layers each."""
    for first, last, width in layers.runs():
        step = max(1, _PART_BYTES // (_SAMPLES * width * 4))
        for start in range(first, last, step):
            yield range(start, min(start + step, last))


def _scale(largest: float) -> float:
    ordinary = 1 / _SCALE_FROM < largest < _SCALE_FROM
    if ordinary or largest == 0 or not math.isfinite(largest):
        return 1.0
    return 2.0 ** -math.frexp(largest)[1]


def _directions(features: torch.Tensor) -> list[torch.Tensor]:
    """(width,) unit vector of each layer from (layers, samples, width) centred features."""
    squares = features.square().sum(1)
    largest = squares.argmax(1)
    # With a trace of 1 no step of the power method leaves float32's range.
    features *= squares.sum(1).clamp(min=_TINY).rsqrt()[:, None, None]
    along = features.gather(2, largest[:, None, None].expand(-1, features.shape[1], 1))
    vectors = torch.bmm(along.mT, features)
    for _ in range(_POWER_STEPS - 1):
        vectors = torch.bmm(torch.bmm(features, vectors.mT).mT, features)
    return list(torch.nn.functional.normalize(vectors[:, 0], dim=1, eps=_TINY))
