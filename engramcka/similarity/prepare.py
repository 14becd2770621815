"""Before any comparison: samples that are left out, features that are changed, and scaling.

Each step reads all samples once, a block at a time, and only where an option asks for it; scaling
looks at a few samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from engramcka.errors import ComparisonError
from engramcka.similarity.documents import MIN_BATCH
from engramcka.similarity.gram_tiles import centre, overall_means
from engramcka.similarity.layers import Change, Ints, Layers
from engramcka.similarity.parallel import each_layer

FAR = 10.0  # times the layer's median distance from its centre: from there a sample is massive
MEDIAN_SAMPLES = 1024  # samples whose distances decide the bandwidth of the RBF kernel
MASSIVE = 100.0  # times the median variance: from there a dimension counts as massive
RMS_EPSILON = 1e-6  # added to the mean square, as Llama's norm does
_BLOCK = 1024  # samples read at once
_SAMPLES = 128  # looked at
_EVERY = 8  # of them is enough for a centre, whose medians cost more than all the rest
RUN = 16  # neighbouring samples, of those looked at, which a store has together
_PART_BYTES = 2**21  # of features looked at at once
_POWER_STEPS = 3
_TINY = 1e-30
_FEW = 16  # samples below which their median distance says little
_SCALE_FROM = 2.0**12  # a layer larger than this, or smaller than its inverse, is scaled


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


def drop_massive_samples(y: Layers, x: Layers, like: torch.Tensor, seed: int) -> int:
    """Leave every sample that is massive in any layer of either model out of both.

    Returns:
        How many were left out.

    Raises:
        ComparisonError: fewer than 4 samples are left.
    """
    first_look((y, x), like, seed)
    keep = np.ones(y.n_samples, dtype=bool)
    for side in (y, x):
        for far in each_layer(partial(_far, side, like), len(side), like.device):
            keep &= ~far
    instead = '; massive = "keep" compares all of them'
    return keep_only(y, x, keep, "are massive in no layer", instead)


def _far(side: Layers, like: torch.Tensor, index: int) -> npt.NDArray[np.bool_]:
    """(samples,) whether each is massive in one layer."""
    n, centre = side.n_samples, side.centres[index].to(like)
    parts = [
        torch.linalg.vector_norm(side.values(index, a, min(a + _BLOCK, n), like) - centre, dim=1)
        for a in range(0, n, _BLOCK)
    ]
    return (torch.cat(parts) > FAR * side.distances[index]).cpu().numpy()


def median_distances(layers: Layers, like: torch.Tensor, seed: int) -> torch.Tensor:
    """(layers,) median distance between two of up to `MEDIAN_SAMPLES` samples; float64.

    Raises:
        ComparisonError: more than half of the pairs of some layer are at distance zero, but not
            all of them: there is no bandwidth to be had from them.
    """
    samples = some_samples(layers.n_samples, MEDIAN_SAMPLES, seed)

    def median_distance(index: int) -> torch.Tensor:
        rest = layers.values_at(index, samples, like.double())
        centre(rest, rest)
        distances = torch.pdist(rest) if rest.device.type == "cpu" else torch.cdist(rest, rest)
        median = distances.flatten().median()
        if median == 0 and distances.max() > 0:
            raise ComparisonError(
                f"{layers.name(index)}: more than half of its samples are the same, so that the "
                'RBF kernel has no bandwidth; use kernel = "linear"'
            )
        return median if median > 0 else torch.ones_like(median)

    return torch.stack(each_layer(median_distance, len(layers), like.device))
