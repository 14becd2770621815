"""What every measure but CKA is given, and what it gives: one form for all of them.

Which samples are left out together, what is shuffled and how values become a map is the same as
for CKA: `documents.jackknife_groups`, `permutation.Shuffles` and `results.statistics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from engramcka.errors import ComparisonError
from engramcka.results import Float
from engramcka.similarity.diagnostics import named
from engramcka.similarity.documents import Ints
from engramcka.similarity.layers import READ_SAMPLES
from engramcka.similarity.parallel import Share, ordered_map, split_consecutive
from engramcka.similarity.prepare import Prepared

GROUPS = 32  # of documents that are left out in turn
_ZERO = 1e-14  # share of a sample's length below which what is left of it is rounding

Result = TypeVar("Result")
Layer = TypeVar("Layer")


@dataclass(frozen=True)
class Compared:
    """Two models over one set of samples, those of a document together."""

    y: Prepared
    x: Prepared
    documents: Ints  # (samples,) number of each sample's document, increasing
    groups: Ints  # (samples,) jackknife group of each, increasing
    across: bool  # only pairs of samples of different documents count
    like: torch.Tensor  # of the dtype and on the device to compute with
    share: Share
    advance: Callable[[int], None] = field(default=lambda steps: None)  # so many steps are done

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.y.n_samples

    @property
    def layers(self) -> list[tuple[Prepared, int]]:
        """Every layer as its model and its place there, y's first."""
        return [(side, index) for side in (self.y, self.x) for index in range(len(side))]

    @cached_property
    def sets(self) -> int:
        """Groups that are left out in turn; 0 where nothing is."""
        count = int(self.groups[-1]) + 1
        return count if count > 1 else 0

    @cached_property
    def edges(self) -> Ints:
        """(groups + 1,) first sample of each jackknife group."""
        return np.searchsorted(self.groups, np.arange(int(self.groups[-1]) + 2))

    @cached_property
    def left(self) -> Float:
        """(1 + groups left out,) samples in all, and without each group."""
        return np.concatenate([[self.n], self.n - np.diff(self.edges)[: self.sets]]).astype(float)

    @cached_property
    def member(self) -> torch.Tensor:
        """(samples, groups left out) 1 where a sample is in a group; float64, on the device."""
        found = self.groups[:, None] == np.arange(self.sets)[None]
        return torch.from_numpy(found.astype(np.float64)).to(self.like.device)

    def whole(self) -> Compared:
        """The same with no group to be left out."""
        return replace(self, groups=np.zeros(self.n, dtype=np.int64))

    def values(self, side: Prepared, index: int) -> torch.Tensor:
        """(samples, width) of one layer in float64, as they are.

        Raises:
            ComparisonError: a value is NaN or infinite.
        """
        like = self.like.double()
        parts = [
            side.values(index, start, min(start + READ_SAMPLES, self.n), like)
            for start in range(0, self.n, READ_SAMPLES)
        ]
        found = torch.cat(parts)
        if not bool(found.isfinite().all()):
            for start in range(0, self.n, READ_SAMPLES):
                side.raise_if_nonfinite(np.arange(start, min(start + READ_SAMPLES, self.n)))
        return found

    def units(self, side: Prepared, index: int, *, centre: bool) -> torch.Tensor:
        """(samples, width) unit vectors less their mean, in the dtype of like.

        The cosine of two samples is 1 - |u_i - u_j|^2 / 2, and a difference does not change with
        what is taken off both: less their mean, small angles keep their digits in float32.

        Args:
            side: the model.
            index: of its layer.
            centre: take each sample's mean over its dimensions off first; cosines are then
                correlations.

        Raises:
            ComparisonError: a sample has no direction.
        """
        found = self.values(side, index)
        before = torch.linalg.vector_norm(found, dim=1, keepdim=True)
        if centre:
            found -= found.mean(1, keepdim=True)
        lengths = torch.linalg.vector_norm(found, dim=1, keepdim=True)
        none = (lengths <= _ZERO * before).nonzero()
        if len(none):
            sample = int(none[0, 0])
            row = sample if side.rows is None else int(side.rows[sample])
            what = "the same in every dimension" if centre else "zero in every dimension"
            raise ComparisonError(
                f"{side.name(index)}, sample {row} is {what}, and has no direction to compare; "
                "leave it out of both models"
            )
        found /= lengths
        found -= found.mean(0)
        return found.to(self.like)

    def centred(self, side: Prepared, index: int) -> torch.Tensor:
        """(samples, width) features less their mean over the samples, in float64."""
        found = self.values(side, index)
        mean = found.mean(0)
        found -= mean
        found *= found.abs().amax(0) > _ZERO * mean.abs()  # what is left of a constant by rounding
        return found

    def each_layer(self, function: Callable[[Prepared, int], Result], bytes_: int) -> list[Result]:
        """function(model, layer) of every layer, in order, several at a time.

        Args:
            function: what to do.
            bytes_: that one layer in work needs.
        """
        layers = self.layers
        found = []
        for result in ordered_map(
            lambda layer: function(*layer),
            layers,
            count=len(layers),
            part_bytes=bytes_,
            device=self.like.device,
        ):
            self.advance(1)
            found.append(result)
        return found

    def each_row(self, function: Callable[[int], Float], bytes_: int = 0) -> Float:
        """(y layers, ...) what function gives of each layer of y; rows are shared by processes.

        Args:
            function: of the layer's place in y, the same shape for each.
            bytes_: that one row in work needs.
        """
        count = len(self.y)

        def work(mine: list[int]) -> Iterable[Float]:
            for row in ordered_map(
                function, mine, count=count, part_bytes=bytes_, device=self.like.device
            ):
                self.advance(1)
                yield row

        return np.stack(self.share.ordered_gather([1.0] * count, split_consecutive, work))

    def each_pair(
        self,
        y: Sequence[Layer | None],
        x: Sequence[Layer | None],
        size: int,
        function: Callable[[Layer, Layer], Float],
        bytes_: int = 0,
    ) -> Float:
        """(size, y layers, x layers) what function gives of every pair; rows are shared.

        Args:
            y: what is known of each of y's layers; None where there is nothing to compare.
            x: the same of x's.
            size: values that function gives, which are NaN where a layer is None.
            function: of one layer of y and one of x, (size,).
            bytes_: that one row in work needs.
        """

        def row(number: int) -> Float:
            found, one = np.full((size, len(x)), np.nan), y[number]
            for column, other in enumerate(x):
                if one is not None and other is not None:
                    found[:, column] = function(one, other)
            return found

        return np.moveaxis(self.each_row(row, bytes_), 1, 0)


@dataclass(frozen=True)
class Found:
    """Values of all pairs of layers; entry 0 of the first dimension is over all samples."""

    values: Float  # (1 + groups left out, y layers, x layers); NaN where there is none
    warnings: tuple[str, ...] = ()


class Estimator(Protocol):
    """A measure over `Compared`."""

    def __init__(self, compared: Compared, options: Options) -> None: ...

    def estimate(self) -> Found:
        """Over all samples, and without each group of them."""

    def shuffled(self, orders: Sequence[Ints]) -> Float:
        """(orders, y layers, x layers) with x's samples in each of these orders; no groups.

        After `estimate` of the same samples.
        """


@dataclass(frozen=True)
class Options:
    """What single measures may be told."""

    neighbours: int  # of a sample that count
    variance: float  # share of it that the components compared hold


def by_side(
    compared: Compared, flags: Sequence[bool]
) -> list[tuple[Prepared, npt.NDArray[np.bool_], int]]:
    """The models with (layers,) which of theirs are flagged, and the place of their first layer.

    Models without any are left out.

    Args:
        compared: both models.
        flags: one a layer, y's first.
    """
    count = len(compared.y)
    found = np.asarray(flags, dtype=bool)
    parts = (compared.y, found[:count], 0), (compared.x, found[count:], count)
    return [part for part in parts if part[1].any()]


def absent(compared: Compared, flags: Sequence[bool], what: str) -> list[str]:
    """Warnings of layers that have no value, and what they are."""
    return [
        f"{named(side, which)} {what}: {'row' if side is compared.y else 'column'} NaN"
        for side, which, _ in by_side(compared, flags)
    ]
