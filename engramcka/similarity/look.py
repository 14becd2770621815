"""A first look at each layer: its scale, and a direction near its first principal component.

Both are found on the first samples of all, and fixed before any block is worked on.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch

from engramcka.similarity.inputs import Layers
from engramcka.similarity.workers import ordered_map

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
    parts = [part for first, last, width in layers.runs() for part in _parts(first, last, width)]

    def look(part: tuple[int, int]) -> tuple[list[float], list[torch.Tensor]]:
        read = [layers.values(index, 0, stop, like) for index in range(*part)]
        features = torch.stack(read)
        features -= features.mean(1, keepdim=True)
        scales = [_scale(largest) for largest in features.abs().amax((1, 2)).tolist()]
        features *= features.new_tensor(scales)[:, None, None]
        return scales, _directions(features)

    found = list(
        ordered_map(look, parts, count=len(parts), part_bytes=_PART_BYTES, device=like.device)
    )
    layers.scales = [scale for scales, _ in found for scale in scales]
    layers.directions = [direction for _, directions in found for direction in directions]


def _parts(first: int, last: int, width: int) -> list[tuple[int, int]]:
    """(first, last + 1) layers of each part of a run of equally wide ones."""
    step = max(1, _PART_BYTES // (_SAMPLES * width * 4))
    return list(pairwise([*range(first, last, step), last]))


def _scale(largest: float) -> float:
    ordinary = 1 / _SCALE_FROM < largest < _SCALE_FROM
    if ordinary or largest == 0 or not math.isfinite(largest):
        return 1.0
    return 2.0 ** -math.frexp(largest)[1]


def _directions(features: torch.Tensor) -> list[torch.Tensor]:
    """(width,) unit vector of each layer from (layers, samples, width) centred features."""
    squares = features.square().sum(1)
    largest = squares.argmax(1).tolist()
    # With a trace of 1 no step of the power method leaves float32's range.
    features *= squares.sum(1).clamp(min=_TINY).rsqrt()[:, None, None]
    vectors = []
    for layer, dimension in zip(features, largest, strict=True):
        vector = layer[:, dimension] @ layer
        for _ in range(_POWER_STEPS - 1):
            vector = (layer @ vector) @ layer
        vectors.append(vector)
    return list(torch.nn.functional.normalize(torch.stack(vectors), dim=1, eps=_TINY))
