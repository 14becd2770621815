"""Mutual k-nearest neighbours and CKNNA (Huh et al. 2024): do layers agree on what is near?

Neighbours are by the cosine of hidden states as they are. A layer is read once into a list of each
sample's nearest others, a few more than k: what remains of it without a group of documents is the
list without that group, exactly, and a layer whose list runs short is read again with a longer one.
Two layers meet in the entries that both of their lists have; each such entry carries a bit for all
samples and one for each group left out, set where it is among the k nearest then.

CKNNA is CKA's sum over pairs of samples, with each Gram matrix less the mean of its row, over those
pairs alone that are neighbours in both layers:

    a(K, L) = sum_ij [j near i in both] (K_ij - mean_l K_il) (L_ij - mean_l L_il)
    CKNNA = a(K, L) / sqrt(a(K, K) a(L, L))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from engramcka.errors import OptionError
from engramcka.results import Float
from engramcka.similarity.compared import Compared, Found, Options, absent, by_side
from engramcka.similarity.diagnostics import named
from engramcka.similarity.documents import Ints
from engramcka.similarity.prepare import Prepared

Bits = npt.NDArray[np.bool_]

_HELD_BYTES = 2**29  # of one layer's cosines, where both halves come from one product
_ROWS_BYTES = 2**25  # of cosines worked on at once
_SPARE = 20  # more neighbours than k that a list has at first
_TIED = 1e-6  # share of a layer's mean distance below which two distances are one, in float32
_MANY_TIED = 0.1  # share of the samples from which ties are worth a warning
_PLACES = 2**25  # entries of the table of places held at once


@dataclass(frozen=True)
class Lists:
    """The nearest others of each sample of one layer, the nearest first."""

    index: Ints  # (samples, length); -1 after the last one there is
    near: npt.NDArray[np.uint64]  # (samples, length) bit s: among the k nearest of set s
    score: Float  # (samples, length) K_ij up to a number a sample
    mean: Float  # (samples, sets) mean of the same over all others of each set
    tied: float  # share of the samples whose neighbours k and k + 1 are as near


class MutualNeighbours:
    """The mean share of a sample's k nearest neighbours that both layers have."""

    def __init__(self, compared: Compared, options: Options) -> None:
        self._compared, self._k = compared, options.neighbours
        fewest = fewest_candidates(compared)
        if self._k > fewest:
            raise OptionError(
                f"{self._k} neighbours of each sample, but some sample has {fewest} others of "
                f"{'other documents' if compared.across else 'its model'} when one group is left "
                f"out; take k = {fewest} or less, or more documents"
                if fewest > 0
                else f"{compared.n} samples of one document have no neighbours in another one; "
                'take more documents, or compare within documents too with pairs = "all"',
                "k" if fewest > 0 else "pairs",
            )
        self._lists: list[Lists | None] = []

    def estimate(self) -> Found:
        """Over all samples, and without each group of them."""
        compared = self._compared
        width = max(compared.y.widths + compared.x.widths)
        self._lists = compared.each_layer(self._layer, 16 * compared.n * width + _HELD_BYTES)
        values = self._values(self._lists[len(compared.y) :], 1 + compared.sets)
        return Found(values, tuple(self._warnings()))

    def shuffled(self, orders: Sequence[Ints]) -> Float:
        """(orders, y layers, x layers) with x's samples in each of these orders."""
        x = self._lists[len(self._compared.y) :]
        return np.concatenate(
            [
                self._values([None if one is None else _moved(one, order) for one in x], 1)
                for order in orders
            ]
        )

    def _values(self, x: Sequence[Lists | None], sets: int) -> Float:
        """(sets, y layers, x layers) of y's lists and these."""
        compared = self._compared
        y = self._lists[: len(compared.y)]
        y_own, x_own = (
            [None if one is None else (one, self._own(one, sets)) for one in side]
            for side in (y, x)
        )

        def value(one: tuple[Lists, Float], other: tuple[Lists, Float]) -> Float:
            with np.errstate(invalid="ignore", divide="ignore"):
                norm = np.sqrt(one[1]) * np.sqrt(other[1])
                found: Float = self._together(one[0], other[0], sets) / norm
            return found

        bytes_ = 200 * compared.n * (self._k + _SPARE)
        return compared.each_pair(y_own, x_own, sets, value, bytes_)

    def _own(self, lists: Lists, sets: int) -> Float:
        """(sets,) what a layer has with itself: all of its neighbours."""
        return self._k * self._compared.left[:sets]

    def _together(self, y: Lists, x: Lists, sets: int) -> Float:
        """(sets,) sums over the pairs of samples that are near in both."""
        total = np.zeros(sets)
        step = max(1, _PLACES // len(y.index))
        for start in range(0, len(y.index), step):
            rows = slice(start, min(start + step, len(y.index)))
            sample, place, other = _matches(y.index[rows], x.index[rows], len(y.index))
            sample += start
            bits = y.near[sample, place] & x.near[sample, other]
            there = bits != 0
            entries = sample[there], place[there], other[there]
            total += self._sums(y, x, *entries, _unpacked(bits[there], sets))
        return total

    def _sums(
        self, y: Lists, x: Lists, sample: Ints, place: Ints, other: Ints, near: Bits
    ) -> Float:
        """(sets,) sums over entries of y's and x's lists that are one pair of samples."""
        found: Float = near.sum(axis=0, dtype=np.float64)
        return found

    def _layer(self, side: Prepared, index: int) -> Lists | None:
        """The lists of one layer, as long as every group's needs them; None if it is constant."""
        compared = self._compared
        features = compared.units(side, index, centre=False)
        squares = features.square().sum(1)
        if float(squares.max()) <= torch.finfo(features.dtype).eps ** 2:
            return None
        length = min(compared.n - 1, 2 * self._k + _SPARE)
        while True:
            lists = self._lists_of(features, squares, length)
            if lists is not None:
                return lists
            length = min(compared.n - 1, 2 * length)

    def _lists_of(self, features: torch.Tensor, squares: torch.Tensor, length: int) -> Lists | None:
        """Lists of this length; None where too few are left of one without a group."""
        compared, n = self._compared, self._compared.n
        device = features.device
        documents = torch.from_numpy(compared.documents).to(device)
        scores, places, sums, counts = [], [], [], []
        for start, block in _score_blocks(features, squares):
            stop = start + len(block)
            if compared.across:
                out = documents[start:stop, None] == documents[None]
            else:
                out = torch.arange(start, stop, device=device)[:, None] == torch.arange(
                    n, device=device
                )
            block[out] = 0
            exact = block.double()
            total = exact.sum(1, keepdim=True)
            sums.append(torch.cat([total, total - exact @ compared.member], dim=1))
            counts.append(n - out.sum(1))
            block[out] = -torch.inf
            best = block.topk(length, dim=1)
            scores.append(best.values.double())
            places.append(best.indices)
        score, index = torch.cat(scores).cpu().numpy(), torch.cat(places).cpu().numpy()
        candidates = torch.cat(counts).cpu().numpy()
        index[~np.isfinite(score)] = -1
        near = self._near(index, candidates)
        if near is None:
            return None
        without = candidates[:, None] - _candidates_of(compared)
        mean = torch.cat(sums).cpu().numpy() / np.maximum(without, 1)
        tied = 0.0
        if length > self._k:
            gap = score[:, self._k - 1] - score[:, self._k]
            tied = float((gap <= _TIED * float(squares.mean())).mean())
        return Lists(index, near, np.where(index < 0, 0.0, score), mean, tied)

    def _near(self, index: Ints, candidates: Ints) -> npt.NDArray[np.uint64] | None:
        """(samples, length) bits of the sets in which each entry is among the k nearest."""
        compared, k = self._compared, self._k
        there = index >= 0
        near = np.where(there & (np.arange(index.shape[1]) < k), 1, 0).astype(np.uint64)
        group = np.where(there, compared.groups[index], -1)
        for one in range(compared.sets):
            rest = there & (group != one) & (compared.groups != one)[:, None]
            count = np.cumsum(rest, axis=1)
            short = (count[:, -1] < k) & (compared.groups != one)
            if (short & (there.sum(axis=1) < candidates)).any():
                return None
            near |= (rest & (count <= k)).astype(np.uint64) << np.uint64(one + 1)
        return near

    def _warnings(self) -> list[str]:
        compared = self._compared
        none = [lists is None for lists in self._lists]
        messages = absent(compared, none, "constant over the samples")
        tied = [0.0 if lists is None else lists.tied for lists in self._lists]
        for side, which, start in by_side(compared, [share >= _MANY_TIED for share in tied]):
            most = max(tied[start + index] for index in np.flatnonzero(which))
            messages.append(
                f"{named(side, which)} tied: for up to {most:.0%} of the samples neighbours "
                f"{self._k} and {self._k + 1} are equally near (equal hidden states, as of one "
                "token in the embedding), so that which of them counts is arbitrary"
            )
        return messages


class Cknna(MutualNeighbours):
    """CKA's sum over the pairs alone that are nearest neighbours in both layers."""

    def _own(self, lists: Lists, sets: int) -> Float:
        return self._together(lists, lists, sets)

    def _sums(
        self, y: Lists, x: Lists, sample: Ints, place: Ints, other: Ints, near: Bits
    ) -> Float:
        sets = near.shape[1]
        one = y.score[sample, place][:, None] - y.mean[sample, :sets]
        two = x.score[sample, other][:, None] - x.mean[sample, :sets]
        found: Float = np.einsum("ps,ps,ps->s", one, two, near.astype(np.float64))
        return found


def fewest_candidates(compared: Compared) -> int:
    """How many others the sample with fewest has that may be its neighbours, in any set."""
    left = compared.n - _kin(compared)
    if not compared.sets:
        return int(left.min())
    sizes = np.diff(compared.edges)
    return min(int(left[compared.groups != one].min() - size) for one, size in enumerate(sizes))


def _kin(compared: Compared) -> Ints:
    """(samples,) how many samples, itself among them, may not be each one's neighbours."""
    if not compared.across:
        return np.ones(compared.n, dtype=np.int64)
    kin: Ints = np.bincount(compared.documents)[compared.documents]
    return kin


def chance(compared: Compared, k: int) -> float:
    """The mutual k-NN that layers which share nothing have on average: k over the others."""
    return float(np.mean(k / (compared.n - _kin(compared))))


def _candidates_of(compared: Compared) -> Ints:
    """(samples, sets) how many of each sample's candidates each set leaves out."""
    n = compared.n
    out = np.zeros((n, 1 + compared.sets), dtype=np.int64)
    if compared.sets:
        out[:, 1:] = np.diff(compared.edges)
        out[np.arange(n), 1 + compared.groups] -= _kin(compared)
    return out


def _score_blocks(
    features: torch.Tensor, squares: torch.Tensor
) -> Iterator[tuple[int, torch.Tensor]]:
    """(first row, (rows, samples) scores) of blocks of rows.

    u_i u_j less what depends on i alone: what neighbours are ranked by. A block may be written to.
    """
    n = len(features)
    half = squares / 2
    step = max(1, min(n, _ROWS_BYTES // (n * features.element_size())))
    if n * n * features.element_size() > _HELD_BYTES:
        for start in range(0, n, step):
            yield start, features[start : start + step] @ features.T - half
        return
    whole = features.new_empty(n, n)
    for start in range(0, n, step):
        stop = min(start + step, n)
        block = features[start:stop] @ features[start:].T
        whole[start:stop, start:] = block
        whole[stop:, start:stop] = block[:, stop - start :].T
    for start in range(0, n, step):
        yield start, whole[start : start + step] - half


def _matches(y: Ints, x: Ints, n: int) -> tuple[Ints, Ints, Ints]:
    """(sample, place in y's list, place in x's list) of the entries that both lists have."""
    places = np.full((len(y), n + 1), -1, dtype=np.int32)  # the last column is of no sample
    rows = np.arange(len(y))[:, None]
    places[rows, x] = np.where(x < 0, -1, np.arange(x.shape[1]))
    found = places[rows, y]
    sample, place = np.nonzero(found >= 0)
    return sample, place, found[sample, place].astype(np.int64)


def _unpacked(bits: npt.NDArray[np.uint64], sets: int) -> Bits:
    """(entries, sets) each set's bit."""
    parts = np.ascontiguousarray(bits.astype("<u8"))[:, None].view(np.uint8)
    return np.unpackbits(parts, axis=1, count=sets, bitorder="little").view(np.bool_)


def _moved(lists: Lists, order: Ints) -> Lists:
    """The lists of the same layer with its samples in this order; of all samples only."""
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    index = lists.index[order]
    return replace(
        lists,
        index=np.where(index < 0, -1, inverse[index]),
        near=lists.near[order],
        score=lists.score[order],
        mean=lists.mean[order],
    )
