"""Models x models: one number for each pair of a set, with its interval, from the pair's map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.errors import ComparisonError
from engramcka.measures import MEASURES
from engramcka.plain_text import one_line
from engramcka.results.base import Result, Row, along, count
from engramcka.results.map import grouped_warnings, some_of
from engramcka.results.pair_scores import PairScore, Score
from engramcka.results.relations import (
    Embedding,
    Join,
    average_linkage,
    classical_scaling,
    leaves,
)
from engramcka.results.statistics import (
    Float,
    jackknife_error,
    jackknife_interval,
    student_quantile,
)

_FEW = 7  # degrees of freedom that summed errors are taken to have, if their maps had fewer too
_ROUNDING = 1e-9  # numbers that differ by less are one
_SHARED = ("score", "measure", "neighbours", "variance", "estimator", "pairs", "normalize",
           "standardize", "where")  # fmt: skip
_WORDS = {"best-match": "best match of each layer", "same-depth": "layers of the same depth"}


@dataclass(frozen=True, eq=False)
class ModelMatrix(Result):
    """How alike the models of a set are, two at a time.

    Intervals are 95 % ones, NaN where a map has none. A pair without a number is NaN.
    """

    similarity: Float = field(metadata=along("model", "other"))
    """(models, models), symmetric, 1 on the diagonal."""
    low: Float = field(metadata=along("model", "other"))
    high: Float = field(metadata=along("model", "other"))
    labels: tuple[str, ...]
    models: tuple[str, ...]  # their names: of models, or of checkpoints
    maps: tuple[str, ...]  # KIND/NAME of each pair's map, in the order of `pairs`; "" outside a run
    jackknife: Float | None = field(default=None, metadata=along("group", "model", "other"))
    """(groups, models, models) without each group of documents, of the pairs that are known to be
    of the same samples (the most that are), NaN of the others; None where there are no two."""
    score: Score = "best-match"
    measure: str = "unknown"  # a name in engramcka.measures
    estimator: str = ""  # "" of measures that have none
    normalize: str = "none"  # none | rms
    standardize: str = "none"  # none | zscore | drop-massive
    samples: tuple[int, ...] = ()  # compared, of each pair; 0 where unknown
    documents: tuple[int, ...] = ()  # that these are of; 0 where unknown
    where: str = ""  # which samples, as "kind = 'person'"; all of them if empty
    interval_over: str = ""  # what intervals leave out
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.labels)
        if n < 2:
            raise ComparisonError(f"a matrix is of at least 2 models, found {n}")
        names = ["similarity", "low", "high"]
        self._set_floats(names, (n, n), f"{{}} is ({n} models, {n} models)")
        self._set_floats(["jackknife"], None, "")
        if self.jackknife is not None and self.jackknife.shape[1:] != (n, n):
            raise ComparisonError(f"jackknife has shape {self.jackknife.shape}, of {n} models")
        self._set_whole_numbers("samples", "documents")
        for name, wanted in (("models", n), *((name, n * (n - 1) // 2) for name in _OF_PAIRS)):
            if len(getattr(self, name)) != wanted:
                found = len(getattr(self, name))
                raise ComparisonError(f"{name} has {found} entries, of {n} models {wanted}")
        if len({one_line(label) for label in self.labels}) < n:
            raise ComparisonError(
                f"two models have one label: {', '.join(map(one_line, self.labels))}"
            )
        if not np.array_equal(self.similarity, self.similarity.T, equal_nan=True):
            raise ComparisonError("similarity is not symmetric")

    @classmethod
    def of(
        cls,
        scores: Mapping[tuple[str, str], PairScore],
        labels: Mapping[str, str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        same_samples: bool = False,
    ) -> ModelMatrix:
        """The matrix of these pairs.

        Args:
            scores: of every two models, by their names in either order.
            labels: what each model is called, in the order of the matrix; if left out its name, in
                the order in which they come up.
            provenance: JSON.
            same_samples: all maps are of the same samples in the same order, which arrays do not
                say themselves; the pairs can be told apart more finely then (`tied`).

        Raises:
            ComparisonError: there are no pairs, one is missing or there twice, they were made in
                different ways, or cannot be of the same samples.
        """
        if not scores:
            raise ComparisonError("a matrix is of at least 2 models, found no pair")
        if labels is None:
            labels = {name: name for pair in scores for name in pair}
        ordered = _ordered(scores, list(labels))
        _refuse_other_ways(ordered)
        parts = list(ordered.values())
        n = len(labels)
        values, (low, high) = np.array([one.value for one in parts]), _ends(parts)
        if same_samples:
            parts = _declared_same(parts)
        shared = _same_groups(parts)
        groups = None
        if shared is not None:
            groups = np.stack([_square(one, n) for one in shared.T])
        first = parts[0]
        return cls(
            similarity=_square(values, n),
            low=_square(low, n),
            high=_square(high, n),
            labels=tuple(labels.values()),
            models=tuple(labels),
            maps=tuple(one.map for one in parts),
            jackknife=groups,
            score=first.score,
            measure=first.measure,
            estimator=first.estimator,
            normalize=first.normalize,
            standardize=first.standardize,
            samples=tuple(one.samples for one in parts),
            documents=tuple(one.documents for one in parts),
            where=first.where,
            interval_over=" or ".join(sorted({one.interval_over for one in parts} - {""})),
            warnings=_warnings(ordered, labels, shared),
            provenance=dict(provenance or {}),
        )

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Every two models by their places, the first with each of the others first."""
        return list(combinations(range(len(self.labels)), 2))

    @property
    def title(self) -> str:
        """What the numbers are, for a colour bar."""
        name = MEASURES[self.measure].title if self.measure in MEASURES else "Similarity"
        return f"{name}, {self.score.replace('-', ' ')}"

    @property
    def is_whole(self) -> bool:
        """Whether every pair has a number, without which there is neither tree nor plane."""
        return bool(np.isfinite(self.similarity).all())

    @cached_property
    def tree(self) -> list[Join]:
        """The dendrogram of average linkage on 1 - similarity: two groups join at 1 less the mean
        similarity between them. Empty unless `is_whole`."""
        return average_linkage(self._gaps) if self.is_whole else []

    @property
    def order(self) -> list[int]:
        """The models as the tree has them side by side; as they are given where there is none."""
        return leaves(self.tree) if self.is_whole else list(range(len(self.labels)))

    @cached_property
    def plane(self) -> Embedding | None:
        """The models as points, by classical scaling of sqrt(2 (1 - similarity)); None unless
        `is_whole`.

        That is the distance of two unit vectors with this inner product, which CKA is of two
        centred Gram matrices; a mean over pairs of layers of the same depth is that of all their
        Gram matrices together. Of best matches it is near to one.
        """
        if not self.is_whole:
            return None
        return classical_scaling(np.sqrt(2 * np.clip(self._gaps, 0.0, None)))

    @property
    def _gaps(self) -> Float:
        """(models, models) of 1 - similarity, 0 between copies."""
        gaps = 1 - self.similarity
        return np.where(abs(gaps) > _ROUNDING, gaps, 0.0)

    @property
    def with_numbers(self) -> list[int]:
        """The pairs that have a number."""
        return [at for at, pair in enumerate(self.pairs) if np.isfinite(self.similarity[pair])]

    def tied(self, index: int) -> list[int]:
        """The other pairs that this one is not told apart from.

        At 5 % over all comparisons of two pairs (Bonferroni), so that it holds of a pair that was
        chosen for its number too. By the jackknife of the difference where both are known to be
        of the same samples (they vary together), else by the sum of both errors, which is never
        too little, whatever the two have in common.

        Args:
            index: of a pair that has a number and an interval.
        """
        known = self.with_numbers
        others = [one for one in known if one != index]
        within = 1 - 0.05 / max(1, len(known) * (len(known) - 1) // 2)
        values = np.array([self.similarity[pair] for pair in self.pairs])
        half = np.array([(self.high[pair] - self.low[pair]) / 2 for pair in self.pairs])
        # From the 95 % of one interval to all comparisons.
        wide = (half + half[index]) * student_quantile(_FEW, within) / student_quantile(_FEW)
        if self.jackknife is not None:
            t = np.stack([self.jackknife[:, i, j] for i, j in self.pairs], axis=1)
            error = jackknife_error(t - t[:, [index]])
            paired = student_quantile(len(t) - 1, within) * error
            wide = np.where(np.isfinite(paired), paired, wide)
        gap = abs(values - values[index])
        return [one for one in others if not gap[one] > max(wide[one], _ROUNDING)]

    def rows(self) -> Iterator[Row]:
        """One a pair, as the models are given."""
        for index, (i, j) in enumerate(self.pairs):
            yield {
                "model": one_line(self.labels[i]), "other": one_line(self.labels[j]),
                "similarity": float(self.similarity[i, j]), "low": float(self.low[i, j]),
                "high": float(self.high[i, j]), "samples": self.samples[index] or None,
                "documents": self.documents[index] or None, "map": one_line(self.maps[index]),
            }  # fmt: skip

    def summary(self) -> str:
        """The most and the least alike pair, and what is not told apart from them."""
        where = f" where {one_line(self.where)}" if self.where else ""
        text = f"{count(len(self.labels), 'model')} by {self._way}{where}"
        there = self.with_numbers
        if not there:
            return f"{text}: no pair has a number"
        by_value = sorted(there, key=lambda one: -self.similarity[self.pairs[one]])
        ends = {"most alike": by_value[0], "least alike": by_value[-1]}
        kept = list(ends.items())[: len(there)]
        parts = [f"{end} {self.pair_text(one)}{self._tied_text(one)}" for end, one in kept]
        broken = len(self.pairs) - len(there)
        parts += [f"{count(broken, 'pair')} without a number"] if broken else []
        return f"{text}: {'; '.join(parts)}"

    @property
    def _way(self) -> str:
        name = MEASURES[self.measure].title if self.measure in MEASURES else "similarity"
        return f"{name} of the {_WORDS[self.score]}"

    def pair_text(self, index: int) -> str:
        """A pair by its labels, with its number and interval."""
        i, j = self.pairs[index]
        names = f"{one_line(self.labels[i])} and {one_line(self.labels[j])}"
        text = f"{names}, {decimals(self.similarity[i, j])}"
        if not np.isfinite(self.low[i, j] + self.high[i, j]):
            return text
        return f"{text} (95 % {decimals(self.low[i, j])} to {decimals(self.high[i, j])})"

    def _tied_text(self, index: int) -> str:
        """How many of the others cannot be told apart from a pair; "" where nothing is known."""
        i, j = self.pairs[index]
        others = len(self.with_numbers) - 1
        if others < 1 or not np.isfinite(self.low[i, j]):
            return ""
        tied = len(self.tied(index))
        if not tied:
            return ", apart from all others"
        return f", not told apart from {tied} of {count(others, 'other')}"

    def size(self) -> str:
        """Its models and pairs."""
        return f"{count(len(self.labels), 'model')}  {count(len(self.pairs), 'pair')}"


_OF_PAIRS = ("maps", "samples", "documents")


def decimals(value: float) -> str:
    """A similarity with three decimals; no negative zero."""
    return f"{round(float(value), 3) + 0.0:.3f}" if np.isfinite(value) else "none"


def _ordered(
    scores: Mapping[tuple[str, str], PairScore], names: list[str]
) -> dict[tuple[str, str], PairScore]:
    """Every two of the names with their score."""
    found: dict[frozenset[str], PairScore] = {}
    for pair, score in scores.items():
        if frozenset(pair) in found:
            raise ComparisonError(f"{' and '.join(map(one_line, pair))} are there twice")
        found[frozenset(pair)] = score
    wanted = list(combinations(names, 2))
    for y, x in wanted:
        if frozenset((y, x)) not in found:
            raise ComparisonError(f"there is no map of {one_line(y)} and {one_line(x)}")
    if len(found) > len(wanted):
        raise ComparisonError(f"{len(found)} pairs of {count(len(names), 'model')}")
    return {pair: found[frozenset(pair)] for pair in wanted}


def _refuse_other_ways(scores: Mapping[tuple[str, str], PairScore]) -> None:
    """Refuse numbers that cannot stand in one matrix."""
    (first_pair, first), *others = scores.items()
    for pair, one in others:
        for what in _SHARED:
            if getattr(one, what) != getattr(first, what):
                here, there = (" and ".join(map(one_line, names)) for names in (pair, first_pair))
                raise ComparisonError(
                    f"the map of {here} has {what} {getattr(one, what)!r}, that of {there} "
                    f"{getattr(first, what)!r}; a matrix is made in one way"
                )


def _square(values: npt.ArrayLike, n: int) -> Float:
    """(n, n) of a value for each pair, with a diagonal of ones."""
    found = np.eye(n)
    rows, columns = np.triu_indices(n, 1)
    found[rows, columns] = found[columns, rows] = values
    return found


def _ends(scores: list[PairScore]) -> tuple[Float, Float]:
    """(pairs,) ends of the intervals."""
    nothing = np.float64(np.nan), np.float64(np.nan)
    ends = [
        nothing if one.without is None else jackknife_interval(one.value, one.without)
        for one in scores
    ]
    return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


def _declared_same(scores: list[PairScore]) -> list[PairScore]:
    """The scores as of the same samples, which somebody who knows says they are."""
    for what in ("samples", "documents"):
        found = sorted({getattr(one, what) for one in scores} - {0})  # 0 is not known
        if len(found) > 1:
            raise ComparisonError(
                f"same_samples, but maps are of {found[0]:,} to {found[-1]:,} {what}"
            )
    if len({one.sampled for one in scores} - {""}) > 1:
        raise ComparisonError("same_samples, but maps were stored of different samples")
    return [replace(one, sampled="said to be the same") for one in scores]


def _same_groups(scores: list[PairScore]) -> Float | None:
    """(pairs, groups) of the pairs that are known to leave the same groups out, the most that are;
    NaN of the others, None where there are no two."""
    alike: dict[tuple[int, str, str], dict[int, Float]] = {}
    for at, one in enumerate(scores):
        without = _replicates(one)
        if without is not None and one.sampled:
            groups = (len(without), one.sampled, one.interval_over)
            alike.setdefault(groups, {})[at] = without
    most = max(alike.values(), key=len, default={})
    if len(most) < 2:
        return None
    known = np.stack(list(most.values()))
    found = np.full((len(scores), known.shape[1]), np.nan)
    found[list(most)] = known
    return found


def _replicates(one: PairScore) -> Float | None:
    """(groups,) of a pair that has a number, over all groups and without each; None of others."""
    if one.without is None or not np.isfinite([one.value, *one.without]).all():
        return None
    return one.without


def _warnings(
    scores: Mapping[tuple[str, str], PairScore],
    labels: Mapping[str, str],
    paired: Float | None,
) -> tuple[str, ...]:
    """What is doubtful of the matrix, and the warnings of all maps, each once with its pairs."""
    own = []
    counts = sorted({one.samples for one in scores.values() if one.samples})
    if len(counts) > 1:
        own.append(f"pairs are compared on {counts[0]:,} to {counts[-1]:,} samples")
    named = {" and ".join(one_line(labels[name]) for name in pair): one
             for pair, one in scores.items()}  # fmt: skip
    without = [name for name, one in named.items() if one.without is None]
    if without:
        high = "; best matches there are too high" if _is_best(scores) else ""
        some = f"no interval of {some_of(without, len(named), '')}"
        own.append((some if len(without) < len(named) else "no pair has an interval") + high)
    unknown = [
        name
        for at, (name, one) in enumerate(named.items())
        if _replicates(one) is not None and (paired is None or np.isnan(paired[at, 0]))
    ]
    if unknown and len(named) > 1:
        own.append(
            f"{some_of(unknown, len(named), 'every pair')}: not known to be of the samples of the "
            "others, or of other groups; errors are added where pairs are compared"
        )
    said = {name: one.warnings for name, one in named.items()}
    return (*own, *grouped_warnings(said, "every pair"))


def _is_best(scores: Mapping[tuple[str, str], PairScore]) -> bool:
    return next(iter(scores.values())).score == "best-match"
