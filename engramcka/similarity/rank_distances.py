"""RSA: do layers order pairs of samples alike, by how far apart their states are?

Of each layer the correlation distances of all pairs that count are ranked once (Kriegeskorte, Mur
and Bandettini 2008; ties get their mean rank), and two layers are compared by the correlation of
the ranks, which is Spearman's. Ranks are held as 16-bit codes: for up to 32,767 pairs they are
exact, above that off by at most one part in 10^5, at random, which changes no value by 10^-7.

Without a group of documents the ranks stay those of all pairs, and are centred and scaled anew over
the pairs that remain. To rank anew changes a value by more only where the mean of one layer's ranks
is no straight line in the other's (docs/measures.md has what that comes to).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import torch

from engramcka.errors import ComparisonError, OptionError
from engramcka.ram import free_bytes
from engramcka.results import Float
from engramcka.similarity.compared import Compared, Found, Options, absent
from engramcka.similarity.documents import Ints
from engramcka.similarity.parallel import ordered_map
from engramcka.similarity.prepare import Prepared

Codes = npt.NDArray[np.uint16]

_EXACT = 32767  # pairs from which codes are rounded ranks
_LARGEST = 65534.0  # largest code less the smallest
_BLOCK = 256  # rows of a tile
_BINS = 2**20
_MOST_IN_BIN = 1e-4  # of the pairs


@dataclass(frozen=True)
class _Block:
    """Sums over the pairs of samples of two jackknife groups, or of some rows of them."""

    rows: int  # the group of their rows
    columns: int  # that of their columns
    terms: tuple[Float, ...]  # as `_sums_of_groups` gives them


class RankedDistances:
    """Spearman's correlation of the layers' correlation distances."""

    def __init__(self, compared: Compared, options: Options) -> None:
        self._compared = compared
        if not _counted(compared).any():
            raise OptionError(
                f"{compared.n} samples of one document leave no pair of different documents; take "
                'more documents, or compare within documents too with pairs = "all"',
                "pairs",
            )
        needed = 2 * compared.n**2 * len(compared.layers) * compared.share.ranks
        if needed > free_bytes() * 0.7:
            most = int(compared.n * (free_bytes() * 0.7 / needed) ** 0.5)
            raise ComparisonError(
                f"rsa of {compared.n:,} samples and {len(compared.layers)} layers holds "
                f"{needed / 2**30:.1f} GiB of ranks, with {free_bytes() / 2**30:.1f} GiB of memory "
                f"free; take at most {most:,} samples (data.samples, or where)"
            )
        self._codes: list[Codes | None] = []
        self._upper = np.zeros((0, 0), dtype=bool)  # the pairs that count, each once
        self._middle = np.zeros(0)

    def estimate(self) -> Found:
        """Over all samples, and without each group of them."""
        compared = self._compared
        counted = _counted(compared)
        self._upper = np.triu(counted, 1)
        width = max(compared.y.widths + compared.x.widths)
        n = compared.n
        self._codes = compared.each_layer(self._layer, 16 * n * width + 40 * n * n)
        self._middle = np.array(
            [0.0 if codes is None else _middle(codes, counted) for codes in self._codes]
        )
        cross, sums, squares, counts = self._sums_of_groups(counted)
        values = _correlations(cross, sums, squares, counts, len(compared.y))
        none = [codes is None for codes in self._codes]
        return Found(values, tuple(absent(compared, none, "without distances that differ")))

    def shuffled(self, orders: Sequence[Ints]) -> Float:
        """(orders, y layers, x layers) with x's samples in each of these orders.

        Every sample must be a document of its own, so that a shuffle leaves the same pairs.
        """
        compared, n = self._compared, self._compared.n
        y_count = len(compared.y)
        own = np.array(
            [
                np.nan if codes is None else _squares(codes, middle)
                for codes, middle in zip(self._codes, self._middle, strict=True)
            ]
        )
        found = np.zeros((len(orders), y_count, len(compared.x)))
        for start in range(0, n, _BLOCK):
            rows = slice(start, min(start + _BLOCK, n))
            y = [self._tile(i, rows, slice(None)) for i in range(y_count)]
            block = np.stack([tile.ravel() for tile in y])
            for number, order in enumerate(orders):
                x = np.stack(
                    [
                        self._tile(y_count + j, order[rows], order).ravel()
                        for j in range(len(compared.x))
                    ]
                )
                found[number] += block @ x.T
        with np.errstate(invalid="ignore", divide="ignore"):
            result: Float = found / np.sqrt(own[:y_count, None] * own[None, y_count:])
        return result

    def _tile(self, layer: int, rows: slice | Ints, columns: slice | Ints) -> Float:
        """Ranks less their mean; 0 for pairs that do not count, and of layers that have none."""
        codes = self._codes[layer]
        if codes is None:
            n = self._compared.n
            return np.zeros((len(np.arange(n)[rows]), len(np.arange(n)[columns])))
        tile = codes[rows][:, columns]
        return np.where(tile > 0, tile - self._middle[layer], 0.0)

    def _sums_of_groups(self, counted: npt.NDArray[np.bool_]) -> tuple[Float, Float, Float, Float]:
        """Sums over the pairs of all samples, and over those without each group.

        Returns:
            (sets, y layers, x layers) products, (sets, layers) ranks and their squares, and (sets,)
            pairs.
        """
        compared = self._compared
        y_count, layers = len(compared.y), len(compared.layers)
        sets = 1 + compared.sets
        edges = compared.edges.tolist()
        cross = np.zeros((sets, y_count, layers - y_count))
        sums, squares, counts = np.zeros((sets, layers)), np.zeros((sets, layers)), np.zeros(sets)
        parts = [
            (g, slice(low, min(low + _BLOCK, edges[g + 1])))
            for g in range(len(edges) - 1)
            for low in range(edges[g], edges[g + 1], _BLOCK)
        ]

        def strip(number: int) -> list[_Block]:
            g, rows = parts[number]
            found = []
            for h in range(g, len(edges) - 1):
                columns = slice(max(edges[h], rows.start), edges[h + 1])
                tiles = [self._tile(layer, rows, columns).ravel() for layer in range(layers)]
                block, pairs = np.stack(tiles), counted[rows, columns]
                if h == g:  # of a pair that stands there twice one counts
                    keep = np.triu(np.ones(pairs.shape, dtype=bool))
                    block *= keep.ravel()
                    pairs = pairs & keep
                products = block[:y_count] @ block[y_count:].T
                own = np.einsum("lp,lp->l", block, block)
                terms = (products, block.sum(axis=1), own, np.array(pairs.sum(), dtype=np.float64))
                found.append(_Block(g, h, terms))
            return found

        for found in ordered_map(
            strip,
            range(len(parts)),
            count=len(parts),
            part_bytes=24 * layers * _BLOCK * int(np.diff(edges).max()),
            device=torch.device("cpu"),
        ):
            for block in found:
                for total, term in zip((cross, sums, squares, counts), block.terms, strict=True):
                    total[0] += term
                    if compared.sets:  # of all sets but those without one of its groups
                        total[1:] += term
                        for group in {block.rows, block.columns}:
                            total[1 + group] -= term
        return cross, sums, squares, counts

    def _layer(self, side: Prepared, index: int) -> Codes | None:
        """(samples, samples) codes of the distances of one layer; None if they are all the same."""
        compared = self._compared
        features = compared.units(side, index, centre=True)
        half = features.square().sum(1) / 2
        if float(half.max()) <= torch.finfo(features.dtype).eps ** 2:
            return None
        n = compared.n
        distances = features.new_empty(n, n)  # of which the upper half is written
        for start in range(0, n, _BLOCK):
            rows = slice(start, min(start + _BLOCK, n))
            torch.matmul(features[rows], features[start:].T, out=distances[rows, start:])
        distances.neg_().add_(half).add_(half[:, None])
        found = distances.cpu().numpy()
        first = _first_equal(compared.values(side, index))
        if first is not None:  # pairs that are the same have the same distance to the last bit
            found = np.triu(found, 1)
            found = (found + found.T)[first][:, first]
        upper = self._upper
        values = found[upper]
        codes = np.zeros((n, n), dtype=np.uint16)
        coded = codes_of(values)
        if coded is None:
            return None
        codes[upper] = coded
        codes += codes.T
        return codes


def codes_of(values: npt.NDArray[np.floating]) -> Codes | None:
    """(pairs,) ranks as codes from 1 to 65,535, ties with their mean; None if all are the same.

    Args:
        values: float32 or float64.
    """
    m = len(values)
    if m > _EXACT and (coded := _binned(values)) is not None:
        return coded
    if values.dtype == np.float32:
        # One sort of a number and its place together takes half the time of an argsort.
        bits = values.view(np.uint32)
        bits = np.where(bits >> 31, ~bits, bits | np.uint32(2**31)).astype(np.uint64)
        keys = np.sort((bits << np.uint64(32)) | np.arange(m, dtype=np.uint64))
        order = (keys & np.uint64(2**32 - 1)).astype(np.int64)
        keys >>= np.uint64(32)
    else:
        order = np.argsort(values, kind="stable")
        keys = values[order]
    ranks = np.arange(m, dtype=np.float64)
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    if len(first) == 1:
        return None
    if len(first) < m:
        sizes = np.diff(np.append(first, m))
        ranks = np.repeat(first + (sizes - 1) / 2, sizes)
    scale = 2.0 if m <= _EXACT else _LARGEST / (m - 1)
    codes = np.empty(m, dtype=np.uint16)
    codes[order] = np.rint(ranks * scale + 1).astype(np.uint16)
    return codes


def _binned(values: npt.NDArray[np.floating]) -> Codes | None:
    """The codes of many pairs without sorting them: from counts in a million even bins.

    The pairs of a bin get its mean rank, which takes the sum of the cubes of the bins' shares off
    the variance of the ranks: less than 10^-8 of it where no bin has one in 10^4 of the pairs.
    None where one has, as equal distances do.
    """
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return None
    places = ((values - low) * ((_BINS - 1) / (high - low))).astype(np.int32)
    counts = np.bincount(places, minlength=_BINS)
    if counts.max() > _MOST_IN_BIN * len(values):
        return None
    ranks = np.cumsum(counts) - (counts + 1) / 2
    table = np.rint(np.maximum(ranks, 0) * (_LARGEST / (len(values) - 1)) + 1).astype(np.uint16)
    found: Codes = table[places]
    return found


def _first_equal(features: torch.Tensor) -> Ints | None:
    """(samples,) the first sample with the same features as each; None if all are different."""
    seen: dict[bytes, int] = {}
    rows = features.cpu().numpy()
    first = [
        seen.setdefault(sha256(row.tobytes()).digest(), number) for number, row in enumerate(rows)
    ]
    return None if len(seen) == len(rows) else np.array(first)


def _counted(compared: Compared) -> npt.NDArray[np.bool_]:
    """(samples, samples) the pairs that count."""
    own = compared.documents if compared.across else np.arange(compared.n)
    return np.asarray(own[:, None] != own[None])


def _middle(codes: Codes, counted: npt.NDArray[np.bool_]) -> float:
    """Mean code of the pairs that count."""
    return float(codes.sum(dtype=np.float64) / counted.sum())


def _squares(codes: Codes, middle: float) -> float:
    """Sum of the squares of the codes less their mean."""
    squares = 0.0
    for start in range(0, len(codes), _BLOCK):
        tile = codes[start : start + _BLOCK]
        squares += float((np.where(tile > 0, tile - middle, 0.0) ** 2).sum())
    return squares


def _correlations(cross: Float, sums: Float, squares: Float, counts: Float, y_count: int) -> Float:
    """(sets, y layers, x layers) correlations from sums over each set's pairs."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / counts[:, None]
        variances = squares - sums * means
        variances = np.where(variances > 1e-9 * squares.max(), variances, np.nan)
        covariances = cross - sums[:, :y_count, None] * means[:, None, y_count:]
        y, x = variances[:, :y_count, None], variances[:, None, y_count:]
        found: Float = covariances / np.sqrt(y * x)
    return found
