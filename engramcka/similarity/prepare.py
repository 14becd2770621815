"""Before any comparison: samples that are left out, features that are changed, and scaling.

Each step reads all samples once, a block at a time, and only where an option asks for it; scaling
looks at a few samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from engramcka.errors import OptionError
from engramcka.similarity.constants import (
    CENTRE_EVERY,
    CENTRE_FEWEST,
    CENTRE_SAMPLES,
    CONSTANT,
    FAR,
    MEDIAN_SAMPLES,
    RMS_EPSILON,
)
from engramcka.similarity.documents import MIN_BATCH, Ints, some_samples
from engramcka.similarity.gram_tiles import centre, overall_means
from engramcka.similarity.layers import READ_SAMPLES, Change, HeldSamples, Layers
from engramcka.similarity.parallel import each_layer

_Scaling = tuple[list[float], list[torch.Tensor], list[torch.Tensor], list[float]]

MASSIVE = 100.0  # times the median variance: from there a dimension counts as massive
_PART_BYTES = 2**21  # of features looked at at once
_POWER_STEPS = 3
_TINY = 1e-30
_SCALE_FROM = 2.0**12  # a layer larger than this, or smaller than its inverse, is scaled


@dataclass(frozen=True, kw_only=True)
class Prepared(Layers):
    """Layers ready to be compared: scaled, and with what a few samples say of each of them."""

    directions: tuple[torch.Tensor, ...]  # (width,) a layer, near its first principal component
    centres: tuple[torch.Tensor, ...]  # (width,) a layer, scaled
    distances: tuple[float, ...]  # median distance of a sample from the centre, scaled


@dataclass(frozen=True)
class Pair:
    """Both models, ready to be compared."""

    y: Prepared
    x: Prepared
    n_nonfinite: int  # samples left out for a value that is NaN or infinite
    n_massive: int  # samples left out because they are massive


def prepare(
    y: Layers,
    x: Layers,
    like: torch.Tensor,
    seed: int,
    *,
    nonfinite: str = "error",
    normalize: str = "none",
    massive: str = "keep",
    standardize: str = "none",
) -> Pair:
    """Leave samples out, change features and scale layers, in this order, as `cka_map` describes.

    Args:
        y: one model.
        x: the other.
        like: a tensor of the dtype and on the device to compute with.
        seed: of the samples that decide the scale.
        nonfinite: "error", or "drop" samples that are not finite in every layer.
        normalize: "none", or "rms", each sample divided by its root mean square.
        massive: "keep", or "drop" samples that are massive in some layer.
        standardize: "none", "zscore" or "drop-massive", see `standardize_features`.

    Raises:
        OptionError: fewer than 4 samples are left.
        ComparisonError:  a value that is not finite.
    """
    n_nonfinite = n_massive = 0
    if nonfinite == "drop":
        y, x, n_nonfinite = drop_nonfinite(y, x)
    if normalize == "rms":
        y, x = normalize_rms(y), normalize_rms(x)
    if massive == "drop":
        y, x, n_massive = drop_massive_samples(y, x, like, seed)
    if standardize != "none":
        y, x = (standardize_features(side, standardize, like) for side in (y, x))
    return Pair(*scale(y, x, like, seed), n_nonfinite, n_massive)


def drop_nonfinite(y: Layers, x: Layers) -> tuple[Layers, Layers, int]:
    """Both models without the samples that have a NaN or an infinity in any layer, and how many.

    Raises:
        OptionError: fewer than 4 samples are left.
    """
    n = y.n_samples
    keep, checked = np.ones(n, dtype=bool), []
    for side in (y, x):
        shares = []
        for index in range(len(side)):
            finite = np.concatenate(
                [
                    side.read(index, start, stop).isfinite().all(dim=1).cpu().numpy()
                    for start, stop in _ranges(n)
                ]
            )
            shares.append(float(1 - finite.mean()))
            keep &= finite
        checked.append(replace(side, nonfinite_share=tuple(shares)))
    y, x = checked
    return _keep_only(y, x, keep, "nonfinite", "are finite in every layer of both models")


def drop_massive_samples(
    y: Layers, x: Layers, like: torch.Tensor, seed: int
) -> tuple[Layers, Layers, int]:
    """Both models without the samples that are massive in any layer of either, and how many.

    Raises:
        OptionError: fewer than 4 samples are left.
    """
    keep = np.ones(y.n_samples, dtype=bool)
    for side in scale(y, x, like, seed):
        for massive in each_layer(partial(_is_massive, side, like), len(side), like.device):
            keep &= ~massive
    return _keep_only(
        y, x, keep, "massive", "are massive in no layer", '; massive = "keep" compares all of them'
    )


def _is_massive(side: Prepared, like: torch.Tensor, index: int) -> npt.NDArray[np.bool_]:
    """(samples,) whether each is massive in one layer."""
    centre = side.centres[index].to(like)
    parts = [
        torch.linalg.vector_norm(side.values(index, start, stop, like) - centre, dim=1)
        for start, stop in _ranges(side.n_samples)
    ]
    return (torch.cat(parts) > FAR * side.distances[index]).cpu().numpy()


def _keep_only(
    y: Layers,
    x: Layers,
    keep: npt.NDArray[np.bool_],
    option: str,
    which: str,
    instead: str = "",
) -> tuple[Layers, Layers, int]:
    """Both models with these samples only, and how many were left out.

    Args:
        y: one model.
        x: the other.
        keep: (samples,).
        option: that leaves the others out.
        which: samples these are, for the message.
        instead: what else could be done, for the message.

    Raises:
        OptionError: fewer than 4 samples are left.
    """
    rows = np.flatnonzero(keep)
    if len(rows) == len(keep):
        return y, x, 0
    if len(rows) < MIN_BATCH:
        raise OptionError(
            f"{len(rows)} of {len(keep)} samples {which}; at least {MIN_BATCH} are needed{instead}",
            option,
        )
    return y.keep(rows), x.keep(rows), len(keep) - len(rows)


def normalize_rms(layers: Layers, eps: float = RMS_EPSILON) -> Layers:
    """Each sample of every layer divided by its root mean square, as the next block's norm does."""

    def change(block: torch.Tensor) -> torch.Tensor:
        largest = block.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(block.dtype).tiny)
        scaled = block / largest  # squares of float32 leave its range early
        return scaled / (scaled.square().mean(1, keepdim=True) + eps / largest.square()).sqrt()

    return layers.change([change] * len(layers))


def standardize_features(layers: Layers, how: str, like: torch.Tensor) -> Layers:
    """The features of every layer changed, from their means and variances over all samples.

    "zscore" divides each dimension by its standard deviation, so that each counts the same (one
    that does not vary counts nothing). "drop-massive" leaves out the dimensions whose variance is
    over `MASSIVE` times the median of those that vary, and records them.

    Raises:
        ComparisonError: a value is NaN or infinite.
    """
    statistics = _statistics(layers, like)
    if how == "zscore":
        return layers.change([_zscore(mean, variance) for mean, variance in statistics])
    changes: list[Change | None] = []
    widths, dropped = [], []
    for index, (_, variance) in enumerate(statistics):
        varying = variance[variance > 0]
        limit = MASSIVE * varying.median() if len(varying) else torch.inf
        massive = (variance > limit).nonzero()[:, 0]
        kept = (variance <= limit).nonzero()[:, 0]
        changes.append(_only(kept) if len(massive) else None)
        widths.append(len(kept) if len(massive) else layers.widths[index])
        dropped.append(tuple(massive.tolist()))
    return replace(layers.change(changes), widths=tuple(widths), dropped=tuple(dropped))


def _statistics(layers: Layers, like: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(mean, variance), each (width,) float64, of every layer."""
    means = overall_means(layers, like.double(), READ_SAMPLES)
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
        variance[variance.sqrt() <= CONSTANT * mean.abs()] = 0
        return mean, variance

    return each_layer(statistics, len(layers), like.device)


def _zscore(mean: torch.Tensor, variance: torch.Tensor) -> Change:
    factor = torch.where(variance > 0, variance.rsqrt(), 0.0)

    def change(block: torch.Tensor) -> torch.Tensor:
        return (block - mean.to(block)) * factor.to(block)

    return change


def _only(kept: torch.Tensor) -> Change:
    return lambda block: block[:, kept]


def _ranges(n: int) -> list[tuple[int, int]]:
    return [(start, min(start + READ_SAMPLES, n)) for start in range(0, n, READ_SAMPLES)]


def scale(y: Layers, x: Layers, like: torch.Tensor, seed: int) -> tuple[Prepared, Prepared]:
    """Both models with one power of two, one direction, one centre and one distance a layer.

    The scale keeps products of products in float32's range. CKA does not depend on it, and a
    product with a power of two is exact. Layers of ordinary size keep 1. Where later samples leave
    the range after all, float64 is used.

    The direction comes by a few steps of the power method from the dimension with the largest
    variance, which is where a massive activation sits. The centre is the median of each dimension,
    which no few samples move, and the distance the median of the samples' from it: infinite where
    that is 0, since most samples being the same makes the others no massive ones, and where there
    are too few samples for a median.

    Args:
        y: one model, not scaled yet.
        x: the other.
        like: a tensor of the dtype and on the device to compute with.
        seed: of the samples looked at.
    """
    samples = some_samples(y.n_samples, CENTRE_SAMPLES, seed)
    return _scaled(y, samples, like), _scaled(x, samples, like)


def _scaled(layers: Layers, samples: Ints, like: torch.Tensor) -> Prepared:
    parts = [
        _scaling(layers, part, samples, like)
        for part in layers.parts(CENTRE_SAMPLES * 4, _PART_BYTES)
    ]
    scales, directions, centres, distances = (
        tuple(value for values in column for value in values) for column in zip(*parts, strict=True)
    )
    plain = {entry.name: getattr(layers, entry.name) for entry in fields(layers)}
    found = {"directions": directions, "centres": centres, "distances": distances}
    return Prepared(**{**plain, **found, "scales": scales, "held": HeldSamples()})


def _scaling(layers: Layers, part: range, samples: Ints, like: torch.Tensor) -> _Scaling:
    """Scale, direction, centre and distance of a few equally wide layers."""
    features = torch.stack([layers.values_at(index, samples, like) for index in part])
    step = CENTRE_EVERY if len(samples) == CENTRE_SAMPLES else 1
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
    if len(samples) < CENTRE_FEWEST:
        far = [math.inf] * len(part)
    return scales, _directions(features, squares), centred, far


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


def median_distances(layers: Layers, like: torch.Tensor, seed: int) -> torch.Tensor:
    """(layers,) median distance between two of up to `MEDIAN_SAMPLES` samples; float64.

    Raises:
        OptionError: more than half of the pairs of some layer are at distance zero, but not
            all of them: there is no bandwidth to be had from them.
    """
    samples = some_samples(layers.n_samples, MEDIAN_SAMPLES, seed)

    def median_distance(index: int) -> torch.Tensor:
        rest = layers.values_at(index, samples, like.double())
        centre(rest, rest)
        distances = torch.pdist(rest)  # each pair once, and no sample with itself
        median = distances.median()
        if median == 0 and distances.max() > 0:
            raise OptionError(
                f"{layers.name(index)}: more than half of its samples are the same, so that the "
                "RBF kernel has no bandwidth; the linear kernel needs none",
                "kernel",
            )
        return median if median > 0 else torch.ones_like(median)

    return torch.stack(each_layer(median_distance, len(layers), like.device))
