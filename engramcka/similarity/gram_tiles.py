"""Centred features, tiles of the Gram matrices of all layers at once, and sums over tiles.

K~ is a Gram matrix with its diagonal set to zero. Centring changes no estimate; in float32 it is
the difference between a right and a wrong one. Short sums are added up in the tile's own precision,
long ones in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from engramcka.results import Float
from engramcka.similarity import device_layers
from engramcka.similarity.hsic import PairSums
from engramcka.similarity.layers import Layers
from engramcka.similarity.parallel import Scratch, each_layer
from engramcka.similarity.split_products import is_split, split_product

_ROUNDING = 16 * 2.0**-53  # centred float64 features below this share of the mean are rounding
Blocks = Sequence[torch.Tensor]  # (layers, samples, width) for each run of equally wide layers

_AT_MEDIAN = math.exp(-0.5)  # the RBF kernel's value at the median distance
# Products added up in float32 before float64 takes over. Longer sums lose small products beside
# one large one (a sample of huge norm): with 16384 the error reached 7e-5, with 512 it is 1e-7.
CHUNK = 512

Sides = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # chunks of both models, of y, of x


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
        if out.is_cuda:
            device_layers.read(layers, range(first, last), start, stop, out)
            centre_all(out, None if means is None else torch.stack(list(means[first:last])))
        else:
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


def centre_all(features: torch.Tensor, means: torch.Tensor | None = None) -> torch.Tensor:
    """`centre` of several equally wide layers at once, in place.

    Args:
        features: (layers, samples, width).
        means: (layers, width); those over these samples if left out.

    Returns:
        The means.
    """
    means = features.mean(1) if means is None else means
    features -= means[:, None]
    if features.dtype == torch.float64:
        features *= features.abs().amax(1, keepdim=True) > _ROUNDING * means.abs()[:, None]
    return means


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

    if like.device.type != "cpu":
        return _means_together(layers, like, block)

    def mean(index: int) -> torch.Tensor:
        total = like.new_zeros(layers.widths[index], dtype=torch.float64)
        for start in range(0, layers.n_samples, block):
            stop = min(start + block, layers.n_samples)
            total += layers.values(index, start, stop, like).sum(0)
        return (total / layers.n_samples).to(like)

    return each_layer(mean, len(layers), like.device)


def _means_together(layers: Layers, like: torch.Tensor, block: int) -> list[torch.Tensor]:
    """`overall_means`, of all equally wide layers at once."""
    means: list[torch.Tensor] = []
    for first, last, width in layers.runs():
        total = like.new_zeros((last - first, width), dtype=torch.float64)
        for start in range(0, layers.n_samples, block):
            stop = min(start + block, layers.n_samples)
            out = like.new_empty((last - first, stop - start, width))
            device_layers.read(layers, range(first, last), start, stop, out)
            total += out.sum(1)
        means += (total / layers.n_samples).to(like).unbind()
    return means


def tile_size(n: int) -> int:
    """Rows and columns of a square tile of an (n, n) Gram matrix, a quarter of it to 256."""
    return min(256, max(64, -(-n // 4)))


def tile_ranges(n: int, size: int) -> Iterator[tuple[slice, slice]]:
    """The tiles of the upper half of an (n, n) matrix, those on the diagonal included."""
    edges = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    for i, rows in enumerate(edges):
        for columns in edges[i:]:
            yield rows, columns


def linear_tile(left: Blocks, right: Blocks, out: torch.Tensor) -> torch.Tensor:
    """Rows of X times rows of X', for every layer.

    Args:
        left: (layers, rows, width) tensors, or those that `split` makes of them.
        right: (layers, columns, width) tensors, likewise.
        out: at least layers * rows * columns numbers, overwritten.

    Returns:
        (all layers, rows, columns), in the memory of out.
    """
    rows, columns = left[0].shape[1], right[0].shape[1]
    count = sum(len(block) for block in left)
    tile = out[: count * rows * columns].view(count, rows, columns)
    first = 0
    for a, b in zip(left, right, strict=True):
        place = tile[first : first + len(a)]
        if is_split(a):
            split_product(a, b, place)
        else:
            torch.bmm(a, b.mT, out=place)
        first += len(a)
    return tile


def hollow_tiles(
    blocks: Blocks, bandwidths: torch.Tensor | None
) -> Iterator[tuple[torch.Tensor, slice, slice]]:
    """Square tiles of the upper half of every K~: (layers, rows, columns), which rows and columns.

    Each is overwritten by the next. The kernel is linear, or RBF where there are bandwidths.
    """
    norms = None if bandwidths is None else squared_norms(blocks)
    n = blocks[0].shape[1]
    size = tile_size(n)
    out = blocks[0].new_empty(sum(len(block) for block in blocks) * min(size, n) ** 2)
    for rows, columns in tile_ranges(n, size):
        left = [block[:, rows] for block in blocks]
        tile = linear_tile(left, [block[:, columns] for block in blocks], out)
        if bandwidths is not None and norms is not None:
            rbf_(tile, norms[:, rows], norms[:, columns], bandwidths)
        if rows == columns:
            tile.diagonal(dim1=1, dim2=2).zero_()
        yield tile, rows, columns


def rbf_(
    tile: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, bandwidths: torch.Tensor
) -> None:
    """Turn inner products into exp(-|x_i - x_j|^2 / (2 s^2)) - exp(-1/2), in place.

    The constant changes no unbiased estimate; without it the float32 sums would cancel.

    Args:
        tile: (layers, rows, columns) inner products.
        rows: (layers, rows) squared norms.
        columns: (layers, columns) squared norms.
        bandwidths: (layers,) s of each layer.
    """
    steepness = (-0.5 / bandwidths.to(tile.device) ** 2).to(tile.dtype)[:, None, None]
    tile.mul_(-2).add_(rows[:, :, None]).add_(columns[:, None, :])
    tile.clamp_(min=0).mul_(steepness).exp_().sub_(_AT_MEDIAN)


def squared_norms(blocks: Blocks) -> torch.Tensor:
    """(all layers, samples) squared lengths of the features."""
    return torch.cat([torch.linalg.vector_norm(block, dim=2) for block in blocks]) ** 2


def chunks(tile: torch.Tensor) -> list[torch.Tensor]:
    """A (layers, rows, columns) tile as (chunks, layers, `CHUNK` numbers), and what is left.

    What is left is (1, layers, numbers). Both are the tile's own memory if a layer's lies together.
    """
    flat = tile.reshape(len(tile), -1)
    whole = flat.shape[1] // CHUNK * CHUNK
    full = flat[:, :whole].view(len(tile), -1, CHUNK).transpose(0, 1)
    rest = flat[:, whole:][None]
    return [part for part in (full, rest) if part.numel()]


def sides(tile: torch.Tensor, y_count: int) -> list[Sides]:
    """What `pair_products` takes, of a (layers of y and then of x, rows, columns) tile."""
    return [(part, part[:, :y_count], part[:, y_count:].mT) for part in chunks(tile)]


def pair_products(parts: Iterable[Sides]) -> tuple[torch.Tensor, torch.Tensor]:
    """Inner products of every layer's tiles with every other's, by one product for all pairs.

    Args:
        parts: the `sides` of some tiles.

    Returns:
        (y layers, x layers) sum_ij K_ij L_ij, and (layers,) sum_ij K_ij^2; float64.
    """
    cross, lengths = [], []
    for both, y, x in parts:
        cross.append(torch.bmm(y, x))
        lengths.append(torch.linalg.vector_norm(both, dim=2))
    own = torch.cat(lengths).double().square_().sum(0)
    return torch.cat(cross).sum(0, dtype=torch.float64), own


def cross_products(y_tile: torch.Tensor, x_tile: torch.Tensor) -> torch.Tensor:
    """(y layers, x layers) float64 sum_ij K_ij L_ij of two tiles (layers, rows, columns)."""
    pairs = zip(chunks(y_tile), chunks(x_tile), strict=True)
    return torch.cat([torch.bmm(y, x.mT) for y, x in pairs]).sum(0, dtype=torch.float64)


def all_products(parts: torch.Tensor) -> torch.Tensor:
    """(parts, parts) float64 inner products of matrices (parts, rows, columns) with each other."""
    products = [torch.bmm(part, part.mT) for part in chunks(parts)]
    return torch.cat(products).sum(0, dtype=torch.float64)


def row_sums(blocks: Sequence[torch.Tensor], totals: Sequence[torch.Tensor]) -> torch.Tensor:
    """K 1 = X (X' 1) for some rows of X, from feature space: no Gram matrix is needed.

    Args:
        blocks: (layers, rows, width) tensors.
        totals: (layers, width, sets) tensors: X' 1 over one or more sets of samples.

    Returns:
        (all layers, rows, sets) float64.
    """
    parts = [torch.bmm(block, total) for block, total in zip(blocks, totals, strict=True)]
    return torch.cat(parts).double()


def pair_sums(cross: torch.Tensor, own: torch.Tensor, rows: torch.Tensor) -> PairSums:
    """What the estimators need, in NumPy; each has a leading dimension, sets of samples.

    Args:
        cross: (sets, y layers, x layers) inner products.
        own: (sets, layers) inner products with itself.
        rows: (sets, layers, samples) row sums.
    """
    y, x = rows.split_with_sizes(cross.shape[1:], dim=1)
    values = (cross, own, torch.bmm(y, x.mT), torch.linalg.vecdot(rows, rows), rows.sum(2))
    # One copy for all: from a GPU each would have to wait.
    whole = torch.cat([value.flatten() for value in values]).cpu().numpy()
    parts, start = [], 0
    for value in values:
        parts.append(whole[start : start + value.numel()].reshape(value.shape))
        start += value.numel()
    return PairSums(*parts)


_BLOCKS = 8  # of samples, whose squares are added up on one another


@dataclass(frozen=True)
class Moments:
    """Sums of squares of centred features; blocks' moments add up."""

    degrees: int  # samples less one a block: what sums are divided by
    columns: Float  # (sum of widths,): of each dimension of each layer, y's first
    along: Float  # (layers,): along the layer's leading direction

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.degrees + other.degrees, self.columns + other.columns, self.along + other.along
        )


def row_blocks(features: torch.Tensor, scratch: Scratch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What `squares` takes of (layers, samples, width) features: blocks of samples, and memory.

    All blocks share the memory of one, where their squares are added up on one another.
    """
    layers, samples, width = features.shape
    step = -(-samples // _BLOCKS)
    memory = scratch.empty("squares", (layers, step, width), features)
    starts = range(0, samples, step)
    blocks = [features[:, start : start + step] for start in starts]
    return [(block, memory[:, : block.shape[1]]) for block in blocks]


def squares(
    blocks: Sequence[tuple[torch.Tensor, torch.Tensor]], out: torch.Tensor | None = None
) -> torch.Tensor:
    """(layers, width) sums of squares of the features that these are the `row_blocks` of."""
    first, memory = blocks[0]
    torch.mul(first, first, out=memory)
    for block, part in blocks[1:]:
        part.addcmul_(block, block)
    return torch.sum(memory, 1, out=out)


def moment_sums(columns: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
    """(sum of widths + layers,) float64: `Moments` of one block, to be added up where they are.

    Args:
        columns: (sum of widths,) sums of squares of each dimension of each layer, y's first.
        along: (layers, samples) features along the leading directions.
    """
    return torch.cat([columns.double(), along.square().sum(1).double()])


def collect(sums: torch.Tensor, layers: int, degrees: int) -> Moments:
    """Moments from what `moment_sums` gave for one block, or for several together.

    Args:
        sums: (sum of widths + layers,).
        layers: how many.
        degrees: degrees of freedom.
    """
    whole = sums.cpu().numpy()  # a copy, and one for both
    return Moments(degrees, whole[:-layers], whole[-layers:])
