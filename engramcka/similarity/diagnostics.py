"""What each layer looks like: whether a similarity is about all of it or about one dimension.

Made from sums taken in passing, while the blocks are at hand. Knows nothing of kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engramcka.results import Float, LayerDiagnostics
from engramcka.similarity.inputs import Layers
from engramcka.similarity.workers import Scratch

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


def collect(columns: torch.Tensor, along: torch.Tensor, degrees: int) -> Moments:
    """Moments of one block.

    Args:
        columns: (sum of widths,) sums of squares of each dimension of each layer, y's first.
        along: (layers, samples) features along the leading directions.
        degrees: degrees of freedom that this block adds.
    """
    totals = columns.to(torch.float64, copy=True)  # the memory may be used again
    lengths = along.square().sum(1).double()
    return Moments(degrees, totals.cpu().numpy(), lengths.cpu().numpy())


def layer_diagnostics(
    found: Moments,
    y: Layers,
    x: Layers,
    squared: tuple[Float, Float] | None,
    massive: Float,
    top_share: Float,
) -> tuple[LayerDiagnostics, LayerDiagnostics]:
    """Diagnostics of y's and of x's layers.

    Args:
        found: moments of all samples.
        y: one model.
        x: the other.
        squared: (y layers,) and (x layers,) estimates of tr(C^2), C the covariance of the
            features: linear HSIC of a layer with itself. None with another kernel; the effective
            rank is then NaN.
        massive: (layers,) samples that are massive, y's first.
        top_share: (layers,) share of HSIC on the farthest 1 % of the samples.
    """
    shares = slice(0, len(y)), slice(len(y), None)
    columns = np.split(found.columns, np.cumsum(y.widths + x.widths)[:-1])
    parts = []
    for number, (side, share) in enumerate(zip((y, x), shares, strict=True)):
        trace = np.array([row.sum() for row in columns[share]])
        largest = np.array([row.max() for row in columns[share]])
        width = np.array(side.widths, dtype=np.float64)
        rank = np.full_like(trace, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            if squared is not None:
                rank = np.clip((trace / found.degrees) ** 2 / squared[number], 1.0, width)
            parts.append(
                LayerDiagnostics(
                    top_dimension_share=largest / trace,
                    top_component_share=np.maximum(found.along[share], largest) / trace,
                    effective_rank=np.where(trace > 0, rank, np.nan),
                    nonfinite_share=np.array(side.nonfinite_share),
                    width=width,
                    massive_samples=massive[share],
                    top_samples_share=top_share[share],
                    dropped=tuple(side.dropped) if any(side.dropped) else (),
                )
            )
    return parts[0], parts[1]
