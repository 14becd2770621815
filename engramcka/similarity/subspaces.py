"""Procrustes, SVCCA and PWCCA: how well one layer can be turned, or mapped, into the other.

Procrustes similarity is max tr(Q' X'Y) / (|X| |Y|) over orthogonal Q, which is the nuclear norm of
X'Y over the Frobenius norms of the centred features (Schönemann 1966): the cosine of the angular
Procrustes distance of Williams et al. 2021. Without a group of documents Q stays the one of all
samples; since Q is the best there is, that is right to first order (the infinitesimal jackknife).

SVCCA (Raghu et al. 2017) is the mean of the canonical correlations of the leading principal
components of both layers, PWCCA (Morcos et al. 2018) their mean weighted by sum_j |h_i . x_j|, h_i
the canonical directions and x_j the columns of the layer with fewer components (with as many on
both sides the mean of both). The components stay those of all samples when a group is left out;
canonical correlations and weights are computed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from engramcka.errors import OptionError
from engramcka.results import Float
from engramcka.similarity.compared import Compared, Found, Options, absent, by_side
from engramcka.similarity.diagnostics import named
from engramcka.similarity.documents import Ints
from engramcka.similarity.prepare import Prepared

SAMPLES_A_COMPONENT = 10  # fewest, so that chance correlations stay below a third
_FEWEST = 20  # samples
_ZERO = 1e-12  # share of the largest variance below which a component is none
_LIKELY = 0.1  # bound of the similarity by chance from which it is worth a warning


@dataclass(frozen=True)
class Rotated:
    """One layer for Procrustes, in no more dimensions than samples."""

    features: torch.Tensor  # (samples, dimensions), centred
    lengths: torch.Tensor  # (sets,) squared Frobenius norm of each set, less its own mean; float64
    sums: torch.Tensor  # (groups left out, dimensions) of each group's samples; float64


class Procrustes:
    """Nuclear norm of the cross-product over the Frobenius norms."""

    def __init__(self, compared: Compared, options: Options) -> None:
        self._compared = compared
        self._layers: list[Rotated | None] = []

    def estimate(self) -> Found:
        """Over all samples, and without each group of them."""
        compared = self._compared
        n, width = compared.n, max(compared.y.widths + compared.x.widths)
        self._layers = compared.each_layer(self._rotated, 24 * n * width)

        y, x = self._layers[: len(compared.y)], self._layers[len(compared.y) :]
        bytes_ = 8 * n * width + 64 * width**2
        values = compared.each_pair(y, x, 1 + compared.sets, self._pair, bytes_)
        return Found(values, tuple(self._warnings()))

    def shuffled(self, orders: Sequence[Ints]) -> Float:
        """(orders, y layers, x layers) with x's samples in each of these orders."""
        compared = self._compared
        y, x = self._layers[: len(compared.y)], self._layers[len(compared.y) :]

        def values(one: Rotated, other: Rotated) -> Float:
            norm = torch.sqrt(one.lengths[0] * other.lengths[0])
            found = np.empty(len(orders))
            for index, order in enumerate(orders):
                moved = other.features[torch.from_numpy(order).to(other.features.device)]
                singular = torch.linalg.svdvals(one.features.T @ moved)
                found[index] = float(singular.double().sum() / norm)
            return found

        return compared.each_pair(y, x, len(orders), values)

    def _rotated(self, side: Prepared, index: int) -> Rotated | None:
        """One layer; None if it is constant."""
        features = self._compared.centred(side, index)
        if not bool(features.any()):
            return None
        n, width = features.shape
        if width > n:  # X' = Q R, and Q leaves no singular value changed
            features = torch.linalg.qr(features.T, mode="r").R.T
        squares = features.square().sum(1)
        lengths, sums = squares.sum()[None], self._compared.member.T @ features
        if self._compared.sets:
            means = sums.square().sum(1) / self._left(features.device)
            lengths = torch.cat([lengths, lengths - squares @ self._compared.member - means])
        return Rotated(features.to(self._compared.like), lengths, sums)

    def _pair(self, y: Rotated, x: Rotated) -> Float:
        cross = y.features.T @ x.features
        norms = torch.sqrt(y.lengths * x.lengths)
        if not self._compared.sets:
            whole = torch.linalg.svdvals(cross).double().sum()[None]
            return _array(whole / norms)
        left, singular, right = torch.linalg.svd(cross, full_matrices=False)
        whole, best = singular.double().sum()[None], left @ right
        own = ((y.features @ best) * x.features).sum(1, dtype=torch.float64) @ self._compared.member
        means = ((y.sums @ best.double()) * x.sums).sum(1) / self._left(best.device)
        return _array(torch.cat([whole, whole - own - means]) / norms)

    def _left(self, device: torch.device) -> torch.Tensor:
        return torch.from_numpy(self._compared.left[1:]).to(device)

    def _warnings(self) -> list[str]:
        compared = self._compared
        messages = absent(
            compared, [layer is None for layer in self._layers], "constant over the samples"
        )
        widths = compared.y.widths + compared.x.widths
        most = min(1.0, (min(max(widths), compared.n - 1) / (compared.n - 1)) ** 0.5)
        if most > _LIKELY:
            messages.append(
                f"{compared.n:,} samples of layers up to {max(widths):,} wide: ones that share "
                f"nothing could have a Procrustes similarity of up to {most:.2f}; permutations "
                "tell how much it is"
            )
        return messages


@dataclass(frozen=True)
class Components:
    """The principal components of one layer."""

    scores: torch.Tensor  # (samples, components), orthonormal columns; float64
    loadings: torch.Tensor  # (components, width) of the features: they are scores @ loadings
    whitening: torch.Tensor  # (sets, components, components) R, R'R the scores' products in a set
    kept: float  # share of the variance
    wanted: int  # components that the variance asked for needs


class MeanCorrelation:
    """The mean canonical correlation of the leading components."""

    def __init__(self, compared: Compared, options: Options) -> None:
        self._compared, self._variance = compared, options.variance
        if compared.n < _FEWEST:
            raise OptionError(
                f"{compared.n} samples; canonical correlations need {SAMPLES_A_COMPONENT} for "
                f"every component that is compared, and {_FEWEST} at least; take more samples, or "
                "another measure",
                "measure",
            )
        self._layers: list[Components | None] = []

    @property
    def components(self) -> Float:
        """(layers,) components compared of each, y's first; NaN of constant layers."""
        counts = [np.nan if one is None else one.scores.shape[1] for one in self._layers]
        return np.array(counts, dtype=np.float64)

    def estimate(self) -> Found:
        """Over all samples, and without each group of them."""
        compared = self._compared
        width = max(compared.y.widths + compared.x.widths)
        self._layers = compared.each_layer(
            self._components, 24 * compared.n * width + 24 * width**2
        )
        y, x = self._layers[: len(compared.y)], self._layers[len(compared.y) :]

        values = compared.each_pair(y, x, 1 + compared.sets, self._pair)
        return Found(values, tuple(self._warnings()))

    def shuffled(self, orders: Sequence[Ints]) -> Float:
        """(orders, y layers, x layers) with x's samples in each of these orders."""
        compared = self._compared
        y, x = self._layers[: len(compared.y)], self._layers[len(compared.y) :]

        def values(one: Components, other: Components) -> Float:
            found = np.empty(len(orders))
            for index, order in enumerate(orders):
                moved = other.scores[torch.from_numpy(order).to(other.scores.device)]
                whitened = one.scores.T @ moved
                found[index] = float(self._value(whitened[None], one, other)[0])
            return found

        return compared.each_pair(y, x, len(orders), values)

    def _components(self, side: Prepared, index: int) -> Components | None:
        """The components of one layer; None if it is constant."""
        features = self._compared.centred(side, index)
        n, width = features.shape
        if width > n:
            values, vectors = torch.linalg.eigh(features @ features.T)
        else:
            values, vectors = torch.linalg.eigh(features.T @ features)
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        total = values.sum()
        if not total > 0:
            return None
        there = int((values > _ZERO * values[0]).sum())
        share = values.cumsum(0) / total
        wanted = min(there, int((share < self._variance - 1e-12).sum()) + 1)
        count = max(1, min(wanted, n // SAMPLES_A_COMPONENT))
        scores = vectors[:, :count] if width > n else features @ vectors[:, :count]
        scores, _ = torch.linalg.qr(scores)
        whole = torch.eye(count, dtype=scores.dtype, device=scores.device)
        grams = self._products(whole, scores, scores)
        whitening, failed = torch.linalg.cholesky_ex(grams)
        whitening[failed != 0] = torch.nan
        return Components(
            scores, scores.T @ features, whitening.mT, float(share[count - 1]), wanted
        )

    def _products(self, whole: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """(sets, columns of y, columns of x) products, about the mean of the samples of each set.

        Args:
            whole: Y' X of all samples, whose mean is 0.
            y: (samples, columns) Y.
            x: (samples, columns) X.
        """
        compared = self._compared
        if not compared.sets:
            return whole[None]
        own = torch.stack([y[a:b].T @ x[a:b] for a, b in pairwise(compared.edges.tolist())])
        sums = [compared.member.T @ part for part in (y, x)]
        left = torch.from_numpy(compared.left[1:]).to(whole)
        outer = sums[0][:, :, None] * sums[1][:, None] / left[:, None, None]
        return torch.cat([whole[None], whole - own - outer])

    def _pair(self, y: Components, x: Components) -> Float:
        cross = self._products(y.scores.T @ x.scores, y.scores, x.scores)
        # R_y'^-1 C R_x^-1: its singular values are the canonical correlations.
        whitened = torch.linalg.solve_triangular(y.whitening.mT, cross, upper=False)
        whitened = torch.linalg.solve_triangular(x.whitening, whitened, upper=True, left=False)
        found = np.full(len(whitened), np.nan)
        there = whitened.isfinite().all(dim=2).all(dim=1)
        if bool(there.any()):
            keep = there.nonzero()[:, 0]
            values = self._value(whitened[keep], y, x, keep)
            found[keep.cpu().numpy()] = values.cpu().numpy()
        return found

    def _value(
        self,
        whitened: torch.Tensor,
        y: Components,
        x: Components,
        sets: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(sets,) values from the whitened cross-products of each."""
        found: torch.Tensor = torch.linalg.svdvals(whitened).clamp(max=1).mean(1)
        return found

    def _warnings(self) -> list[str]:
        compared = self._compared
        messages = absent(
            compared, [layer is None for layer in self._layers], "constant over the samples"
        )
        cut = [layer is not None and layer.scores.shape[1] < layer.wanted for layer in self._layers]
        for side, which, start in by_side(compared, cut):
            layers = [self._layers[start + index] for index in np.flatnonzero(which)]
            least = min(layer.kept for layer in layers if layer is not None)
            most = max(layer.wanted for layer in layers if layer is not None)
            messages.append(
                f"{named(side, which)} cut to {compared.n // SAMPLES_A_COMPONENT} components, one "
                f"to {SAMPLES_A_COMPONENT} of the {compared.n:,} samples, where {self._variance:g} "
                f"of the variance takes up to {most:,}: they hold {least:.1%} of it or more"
            )
        return messages


class WeightedCorrelation(MeanCorrelation):
    """The canonical correlations weighted by what their directions account for of a layer."""

    def _value(
        self,
        whitened: torch.Tensor,
        y: Components,
        x: Components,
        sets: torch.Tensor | None = None,
    ) -> torch.Tensor:
        left, singular, right = torch.linalg.svd(whitened, full_matrices=False)
        singular = singular.clamp(max=1)
        found = []
        sizes = y.scores.shape[1], x.scores.shape[1]
        for layer, vectors, own, other in (
            (y, left, sizes[0], sizes[1]),
            (x, right.mT, sizes[1], sizes[0]),
        ):
            if own > other:
                continue
            # Of a set the features are its whitened scores, times R, times the loadings.
            root = layer.whitening[:1] if sets is None else layer.whitening[sets]
            weights = (vectors.mT @ root @ layer.loadings).abs().sum(2)
            found.append((weights * singular).sum(1) / weights.sum(1))
        return torch.stack(found).mean(0)


def _array(values: torch.Tensor) -> Float:
    found: Float = values.cpu().numpy()
    return found
