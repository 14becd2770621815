"""Products of float32 features on tensor cores, in bfloat16 parts.

A feature is a sum of bfloat16 numbers: part 0 is the feature rounded, part 1 what is left rounded,
and so on. Products of two bfloat16 numbers are exact in float32, in which they are summed, so the
product of two features is the sum of products of their parts, the least of which are left out. All
come from one matrix product of longer rows: the parts are laid out so that each one and its
neighbour are a product that is wanted, and rows without their last part, times rows without their
first, sum up all of them.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import torch

ORDER = (0, 0, 2, 0, 1, 1, 0)
"""Which part of a feature stands where: neighbours are 00, 02, 20, 01, 11 and 10."""

PARTS = len(ORDER)


_TRIED = (256, 4096)  # samples and width of the features that a device is tried with
_SUMS = 1e-6  # share that inner products of Gram matrices may be off by; float32's are by 5e-7
_LENGTHS = 4e-6  # and single squared lengths; float32's are by 1.4e-6


def on_tensor_cores(device: torch.device) -> bool:
    """Whether a device makes these products faster than in float32, and well enough.

    Tensor cores may cut their sums off where float32 would round, and the error of that grows with
    the width. So what a device gives is compared once with float64.
    """
    if device.type != "cuda":
        return False
    return torch.cuda.get_device_capability(device)[0] >= 8 and is_good(device)


@cache
def is_good(device: torch.device) -> bool:
    """Whether sums over Gram matrices of drawn features are those of float64 there."""
    generator = torch.Generator().manual_seed(0)
    samples, width = _TRIED
    shared = torch.randn(1, samples, 8, generator=generator)
    features = torch.randn(2, samples, width, generator=generator)
    features[:, :, :8] += 4 * shared
    features[1, :, 9] *= 100  # a massive dimension
    features = (features - features.mean(1, keepdim=True)).to(device)
    tile = torch.empty(2, samples, samples, device=device)
    parts = split(features)
    split_product(parts, parts, tile)
    exact = torch.bmm(features.double(), features.double().mT)
    sums, lengths = [], []
    for gram in (tile.double(), exact):
        lengths.append(gram.diagonal(dim1=1, dim2=2).clone())
        hollow = (gram - torch.diag_embed(lengths[-1])).flatten(1)
        sums.append(hollow @ hollow.mT)
    return _within(_SUMS, *sums) and _within(_LENGTHS, *lengths)


def _within(share: float, found: torch.Tensor, right: torch.Tensor) -> bool:
    return bool(((found - right).abs() <= share * right.abs()).all())


def split(features: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """The parts of float32 features, laid out for `split_product`.

    Args:
        features: (layers, samples, width).
        out: (layers, samples, `PARTS` x width) bfloat16, overwritten; a new tensor if left out.

    Returns:
        (layers, samples, `PARTS` x width) bfloat16.
    """
    layers, samples, width = features.shape
    if out is None:
        shape = (layers, samples, PARTS * width)
        out = torch.empty(shape, dtype=torch.bfloat16, device=features.device)
    places, left = out.view(layers, samples, PARTS, width), features
    runs = _runs(ORDER)
    for part in range(max(ORDER) + 1):
        where = [(first, last) for first, last in runs if ORDER[first] == part]
        for first, last in where:  # places that lie together are written at once
            places[:, :, first:last].copy_(left[:, :, None])
        if part < max(ORDER):
            left = left - places[:, :, where[0][0]]
    return out


def _runs(order: tuple[int, ...]) -> list[tuple[int, int]]:
    """(first, last + 1) of each run of equal neighbours."""
    edges = [n for n in range(1, len(order)) if order[n] != order[n - 1]]
    return list(pairwise([0, *edges, len(order)]))


def is_split(features: torch.Tensor) -> bool:
    """Whether these are the parts of features that `split` gives."""
    return features.dtype == torch.bfloat16


def split_product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    """Rows of X times rows of X', for every layer.

    Args:
        left: (layers, rows, `PARTS` x width), from `split`.
        right: (layers, columns, `PARTS` x width).
        out: (layers, rows, columns) float32, overwritten.
    """
    width = left.shape[2] // PARTS
    summed(left[:, :, :-width], right[:, :, width:].mT, out)


def split_product_over(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """X' Y summed over samples, (width of X, width of Y) float32.

    Args:
        left: float32 X, (samples, width).
        right: float32 Y, over the same samples.
    """
    shape = (1, left.shape[1], right.shape[1])
    out = torch.empty(shape, dtype=torch.float32, device=left.device)
    x, y = ([parts[which] for which in ORDER] for parts in (_parts(left), _parts(right)))
    summed(torch.cat(x[:-1]).T[None], torch.cat(y[1:])[None], out)
    return out[0]


def _parts(features: torch.Tensor) -> list[torch.Tensor]:
    """The bfloat16 numbers whose sum float32 features are, the largest first."""
    parts, left = [], features
    for _ in range(max(ORDER)):
        parts.append(left.to(torch.bfloat16))
        left = left - parts[-1]
    return [*parts, left.to(torch.bfloat16)]


def summed(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    """(layers, rows, length) times (layers, length, columns), bfloat16, summed in float32."""
    if left.is_cuda:
        torch.bmm(left, right, out_dtype=torch.float32, out=out)
    else:  # the same products, which are exact
        torch.bmm(left.float(), right.float(), out=out)
