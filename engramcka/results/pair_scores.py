"""One number for two models, read off their map: best match of the layers, or the same depth.

The best match of a layer is a maximum over noisy cells, and the largest of noisy numbers is larger
than the largest of the true ones. The jackknife of the map says by how much, and that is taken off
(Quenouille 1956). docs/matrix.md has what is left on a known truth, and what else was tried.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from engramcka.errors import ComparisonError
from engramcka.plain_text import one_line
from engramcka.results.base import count
from engramcka.results.map import SimilarityMap
from engramcka.results.statistics import Float, known_cells, mean_finite

Score = Literal["best-match", "same-depth"]
SCORES: tuple[Score, ...] = get_args(Score)
_SIDE = re.compile(r"^[yx](?= layers? )")


@dataclass(frozen=True)
class PairScore:
    """The number of one pair, and what of its map is to be said beside it."""

    value: float
    without: Float | None  # (groups,), without each group of documents; None without a jackknife
    score: Score
    map: str  # KIND/NAME; "" outside a run
    measure: str
    neighbours: int | None  # of measures that have any
    variance: float | None  # of measures that have components
    pairs: str  # of samples that count: across-documents | all
    title: str  # of the measure
    estimator: str  # "" of measures that have none
    normalize: str
    standardize: str
    where: str
    interval_over: str
    samples: int  # 0 where unknown
    documents: int  # 0 where unknown
    sampled: str  # fingerprint of the samples compared; "" where it is not known
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: SimilarityMap, score: Score = "best-match", name: str = "") -> PairScore:
        """The number of a map; the same whichever of its models is on the rows.

        Args:
            found: the map.
            score: ``best-match``: mean over x's layers of the best similarity with a layer of y,
                and over y's with a layer of x, averaged; ``same-depth``: mean similarity of layers
                at the same share of their model's depth, averaged over both ways too.
            name: KIND/NAME of the map in a run.

        Raises:
            ComparisonError: there is no such score.
        """
        if score not in SCORES:
            raise ComparisonError(f"no score {score!r}; there are {', '.join(SCORES)}")
        groups = found.jackknife
        groups = None if groups is None or len(groups) < 2 else groups
        if score == "best-match":
            value, without = best_match(found.similarity, groups)
        else:
            value, without = same_depth(found.similarity, groups, found.y_layers, found.x_layers)
        return cls(
            value=value,
            without=without,
            score=score,
            map=name,
            measure=found.measure,
            neighbours=found.neighbours,
            variance=found.variance,
            pairs=found.pairs,
            title=found.title,
            estimator=getattr(found, "estimator", ""),
            normalize=found.normalize,
            standardize=found.standardize,
            where=found.where,
            interval_over=found.interval_over,
            samples=found.n_samples or 0,
            documents=found.n_documents or 0,
            sampled=found.compared,
            warnings=tuple(
                _by_label(warning, found)
                for warning in (*_left_out(found, groups, score), *found.warnings)
            ),
        )


def _left_out(found: SimilarityMap, jackknife: Float | None, score: Score) -> Iterator[str]:
    """What of a map its number is not of, a sentence each."""
    there = known_cells(found.similarity, jackknife)
    sides = (("y", found.y_layers, 1), ("x", found.x_layers, 0))
    for side, layers, axis in sides:
        kept = np.asarray(there.any(axis=axis))
        lost = [layer for layer, one in zip(layers, kept, strict=True) if not one]
        if lost and kept.any():
            yield (
                f"{_named(side, lost)} no similarity with any layer, of all or without some "
                "documents: not in the pair's number"
            )
    if score == "same-depth":
        for side, layers, _ in sides:
            in_order = sorted(layers)
            if in_order[0] > 1 or in_order[-1] - in_order[0] >= len(in_order):
                last = in_order[-1]
                yield f"{side} layers compared are not all: depths are shares of the last, {last}"
        return
    whole = np.outer(there.any(axis=1), there.any(axis=0))
    if cells := int((whole & ~there).sum()):
        yield f"{count(cells, 'cell')} without a value, of all or without some documents: no match"


def _named(side: str, layers: Sequence[int]) -> str:
    noun, verb = ("layer", "has") if len(layers) == 1 else ("layers", "have")
    return f"{side} {noun} {', '.join(map(str, layers))} {verb}"


def _by_label(warning: str, found: SimilarityMap) -> str:
    """A warning about layers of y or of x, of the model by its name: a pair has no sides."""
    labels = {"y": found.y_label, "x": found.x_label}
    return _SIDE.sub(lambda side: one_line(labels[side[0]]), warning)


def best_match(
    similarity: npt.ArrayLike, jackknife: npt.ArrayLike | None = None
) -> tuple[float, Float | None]:
    """Mean similarity of each layer with its best match, over both ways, less its maximum's bias.

    With m the mean of the maxima and m_g that without group g of G, G m - (G - 1) mean m_g: what is
    too high by an amount that falls as 1 / n is right then (Quenouille 1956). Where the best match
    is known this is m; where layers are tied, whose maximum falls more slowly, about 60 % of
    the bias stays (docs/matrix.md).

    Args:
        similarity: (y layers, x layers); cells that are NaN, or NaN without some group, are no
            match, and layers without any do not count.
        jackknife: (groups, y layers, x layers), at least two; None takes the maxima as they are.

    Returns:
        The number (NaN where no layer has one), and (groups,) m without each group.
    """
    s = np.asarray(similarity, dtype=np.float64)
    if jackknife is None:
        return float(_mean_of_maxima(s)), None
    t = np.asarray(jackknife, dtype=np.float64)
    there = known_cells(s, t)
    whole, without = (_mean_of_maxima(np.where(there, values, np.nan)) for values in (s, t))
    return float(len(t) * whole - (len(t) - 1) * without.mean()), without


def _mean_of_maxima(similarity: Float) -> Float:
    """(...) mean of the largest finite values of all columns, and of all rows, averaged."""
    known = np.where(np.isfinite(similarity), similarity, -np.inf)
    return np.asarray(np.mean([mean_finite(known.max(axis=axis)) for axis in (-1, -2)], axis=0))


def same_depth(
    similarity: npt.ArrayLike,
    jackknife: npt.ArrayLike | None,
    y_layers: tuple[int, ...],
    x_layers: tuple[int, ...],
) -> tuple[float, Float | None]:
    """Mean similarity of layers at the same share of their model's depth, over both ways.

    A layer's depth is its number over its model's last. Between two rows the similarity is
    interpolated; a layer before the other model's first has none. No maximum is taken: there is no
    bias beyond that of the cells. Of models with the same layers it is the diagonal's mean.

    Args:
        similarity: (y layers, x layers).
        jackknife: (groups, y layers, x layers); None for none.
        y_layers: (y layers,) block numbers, 0 for the embedding.
        x_layers: (x layers,).

    Returns:
        As `best_match`.
    """
    s = np.asarray(similarity, dtype=np.float64)
    y, x = (np.array(layers) / max(1, *layers) for layers in (y_layers, x_layers))
    ways = [(_weights(y, x), (0, 1)), (_weights(x, y), (1, 0))]

    def mean(values: Float) -> Float:
        """(...) of (..., y layers, x layers)."""
        both = []
        for weights, (rows, columns) in ways:
            turned = values if (rows, columns) == (0, 1) else values.swapaxes(-1, -2)
            cells = np.where(weights > 0, weights * turned, 0.0).sum(axis=-2)
            both.append(mean_finite(np.where(weights.sum(axis=0) > 0, cells, np.nan)))
        return np.asarray(np.mean(both, axis=0))

    if jackknife is None:
        return float(mean(s)), None
    t = np.asarray(jackknife, dtype=np.float64)
    there = known_cells(s, t)
    return float(mean(np.where(there, s, np.nan))), mean(np.where(there, t, np.nan))


def _weights(rows: Float, columns: Float) -> Float:
    """(rows, columns) linear interpolation between rows; 0 for columns outside of them."""
    order = np.argsort(rows, kind="stable")
    unit = np.eye(len(rows))[:, order]
    found = np.stack([np.interp(columns, rows[order], one) for one in unit])
    inside = (columns >= rows.min()) & (columns <= rows.max())
    return np.where(inside, found, 0.0)
