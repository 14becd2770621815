"""Maps: the similarity of every layer of one model with every layer of another, by some measure.

A read-out that a person may ask for again with another parameter (soft alignment with another k)
lives here, so that the terminal app can answer without torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from engramcka.errors import ComparisonError
from engramcka.measures import MEASURES
from engramcka.results.base import Array, Arrays, Pack, Result, Row, along
from engramcka.results.depth import DepthShift, depth_shift
from engramcka.results.statistics import Float, jackknife_interval, known_cells

ALIGNMENT_K = 5  # rows of the stored soft alignment, as in the paper

_CELL = ("y_layer", "x_layer")
_NAMED = 3  # maps that a warning names at most


@dataclass(frozen=True, eq=False)
class LayerDiagnostics:
    """What one model's hidden states look like, a value a layer; each array is (layers,) float64.

    They say when a similarity of nearly one is about a single dimension only.
    """

    top_dimension_share: Float  # share of the total variance in the largest dimension, 0 to 1
    top_component_share: Float  # share of it in the first principal component, 0 to 1
    effective_rank: Float  # participation ratio (sum of eigenvalues)^2 / sum of squares, from 1
    nonfinite_share: Float  # share of samples with a NaN or an infinity, 0 to 1
    width: Float  # number of dimensions compared
    massive_samples: Float  # samples over 10 times as far from the layer's centre as the median
    top_samples_share: Float  # share of HSIC with itself in pairs with one of the farthest 1 % of
    # the samples, 0 to 1
    dropped: tuple[tuple[int, ...], ...] = ()  # dimensions left out a layer (drop-massive)


_DIAGNOSTICS = [entry.name for entry in fields(LayerDiagnostics) if entry.name != "dropped"]


@dataclass(frozen=True, eq=False)
class SimilarityMap(Result):
    """Similarity of every layer of one model (y, rows) with every layer of another (x, columns).

    By the measure of that name in `engramcka.measures`, which says what its values mean; a
    CKA map is a `CkaMap`. Unbiased estimates may lie a little outside [0, 1]; they are kept as they
    are and clipped only where they are drawn. A cell that no estimate exists for (a constant layer)
    is NaN.
    """

    noun: ClassVar[str] = "checkpoint"
    beside: ClassVar[tuple[str, ...]] = ("y_diagnostics", "x_diagnostics")

    similarity: Float = field(metadata=along(*_CELL))  # (y layers, x layers)
    y_label: str = "y"
    x_label: str = "x"
    y_layers: tuple[int, ...] = field(default=(), metadata=along("y_layer", name="y_layer"))
    """Block numbers of the rows; () means 1, 2, .."""
    x_layers: tuple[int, ...] = field(default=(), metadata=along("x_layer", name="x_layer"))
    """Block numbers of the columns."""
    ci_low: Float | None = field(default=None, metadata=along(*_CELL))
    """(y layers, x layers), lower end of the 95 % interval."""
    ci_high: Float | None = field(default=None, metadata=along(*_CELL))
    jackknife: Float | None = field(default=None, metadata=along("group", *_CELL))
    """(groups, y layers, x layers): the map without each group."""
    null: Float | None = field(default=None, metadata=along("permutation", *_CELL))
    """(permutations, y layers, x layers): one side's rows shuffled."""
    all_pairs: Float | None = field(default=None, metadata=along(*_CELL))
    """(y layers, x layers), had pairs of one document counted too."""
    null_similarity: Float | None = field(default=None, metadata=along(*_CELL))
    """(y layers, x layers) of the samples that were shuffled."""
    y_diagnostics: LayerDiagnostics | None = None
    x_diagnostics: LayerDiagnostics | None = None
    measure: str = "unknown"  # a name in engramcka.measures
    neighbours: int | None = None  # of each sample that count, for measures that have any
    chance: float | None = None  # value on average where layers share nothing, where it is known
    variance: float | None = None  # share of a layer's that its components are to hold
    y_components: Float | None = field(default=None, metadata=along("y_layer"))
    """(y layers,) components compared of each layer, for measures that have any; NaN for none."""
    x_components: Float | None = field(default=None, metadata=along("x_layer"))
    """(x layers,) the same of x."""
    standardize: str = "none"
    pairs: str = "all"  # pairs of samples that count: across-documents | all
    pairs_within: float = 0.0  # share of all pairs of samples that are of one document
    n_documents: int | None = None  # that the samples are of; None if it is not known
    interval_over: str = ""  # what intervals leave out: documents | samples | batches
    seed: int | None = None  # of batches and shuffles
    n_samples: int | None = None  # samples compared, after any were dropped
    n_dropped: int = 0  # samples left out for non-finite values
    n_massive: int = 0  # samples that are massive in some layer of either model
    massive_samples: tuple[int, ...] = ()  # which, the first of them, as the arrays count them
    n_massive_dropped: int = 0  # samples left out for that
    normalize: str = "none"  # none | rms
    series: str = ""  # name of the map series over training this one belongs to
    step: int | None = None  # training step of the checkpoints compared, in a series
    part_of: str = ""  # KIND/NAME of the result that this map was made for alone
    left_out: str = ""  # samples that were drawn and are not compared, with the reasons, in words
    samples: str = ""  # fingerprint of those it was given, in order; "" where that is not known
    where: str = ""  # which samples, as "kind = 'person'"; all of them if empty
    dtype: str = "unknown"  # of the hidden states, "y / x" where they differ
    route: str = "unknown"  # how it was computed: gram | feature
    warnings: tuple[str, ...] = ()  # one sentence each
    provenance: Mapping[str, Any] = field(default_factory=dict)  # JSON: models, versions, times

    def __post_init__(self) -> None:
        self._set(similarity=np.asarray(self.similarity, dtype=np.float64))
        shape = self.similarity.shape
        if len(shape) != 2 or 0 in shape:
            raise ComparisonError(f"a map is a matrix (y layers, x layers), found shape {shape}")
        for name, count in zip(("y_layers", "x_layers"), shape, strict=True):
            self._set(**{name: getattr(self, name) or range(1, count + 1)})
            self._set_whole_numbers(name)
            found = len(getattr(self, name))
            if found != count:
                raise ComparisonError(f"{name} names {found} layers, the map has {count}")
        for name in ("ci_low", "ci_high", "jackknife", "null", "null_similarity", "all_pairs"):
            self._set_floats([name], None, "")
            value = getattr(self, name)
            if value is not None and value.shape[-2:] != shape:
                raise ComparisonError(f"{name} has shape {value.shape}, the map {shape}")
        for name, count in zip(("y_components", "x_components"), shape, strict=True):
            self._set_floats([name], (count,), f"{{}} is of {count} layers")

    def soft_alignment(self, k: int = 5, first_layer: int = 1) -> Float:
        """Soft alignment index of every column: which y layer x layer j does the work of.

        a_j = sum_{i in I_j} S_ij i / sum_{i in I_j} S_ij, with I_j the k rows of column j with
        the highest similarity (Engram paper, equation 9).

        Args:
            k: rows averaged, at least 1; fewer where the column has fewer finite values.
            first_layer: number of the first block on the y axis: 1 as everywhere here, 0 as in
                the paper's Figure 4.

        Returns:
            (x layers,) float64 in y's layer numbers; NaN where a column has no positive value.

        Raises:
            ComparisonError: k is below 1.
        """
        return soft_alignment(self.similarity, self._y_numbers(first_layer), k)

    def soft_alignment_interval(
        self, k: int = 5, first_layer: int = 1
    ) -> tuple[Float, Float] | None:
        """Ends of the 95 % interval of `soft_alignment`, each (x layers,) float64.

        None for a map without a jackknife of two groups. A column whose k nearest rows change
        from group to group has a wide one.
        """
        if self.jackknife is None or len(self.jackknife) < 2:
            return None
        without = soft_alignment(self.jackknife, self._y_numbers(first_layer), k)
        return jackknife_interval(self.soft_alignment(k, first_layer), without)

    def depth_shift(self, y_blocks: int | None = None, x_blocks: int | None = None) -> DepthShift:
        """How much deeper in y the layer is that x's layers are most like: the map's headline.

        For the nearest depth of each column, what makes it determined, and the intervals see
        `engramcka.results.depth.depth_shift`.

        Args:
            y_blocks: number of blocks of y's model, where the map's last row is not the last of
                them; they make the unit of the shift, layers or relative depth.
            x_blocks: number of blocks of x's model.
        """
        return depth_shift(
            self.similarity, self.jackknife, self.y_layers, self.x_layers, y_blocks, x_blocks
        )

    @property
    def compared(self) -> str:
        """Fingerprint of the samples compared; "" where it is not known. Equal ones are paired."""
        return "" if self.n_dropped or self.n_massive_dropped else self.samples

    @property
    def p_value(self) -> Float | None:
        """(y layers, x layers) share of shuffles that reach the similarity of what was shuffled.

        (1 + number of shuffles at or above) / (1 + shuffles) (Phipson and Smyth 2010): the
        smallest is 1 / (1 + shuffles). NaN where there is no similarity; None without a null. One
        value a cell: with many cells, some are small by chance.
        """
        if self.null is None:
            return None
        observed = self.similarity if self.null_similarity is None else self.null_similarity
        known = known_cells(observed, self.null)
        reached = (self.null >= observed).sum(axis=0)
        return np.where(known, (1 + reached) / (1 + len(self.null)), np.nan)

    def rows(self) -> Iterator[Row]:
        """One a cell, with its interval; of a map in a series, its training step first."""
        values = {"similarity": self.similarity, "ci_low": self.ci_low, "ci_high": self.ci_high}
        there = {name: cells for name, cells in values.items() if cells is not None}
        step = {} if self.step is None else {"step": self.step}
        for i, y in enumerate(self.y_layers):
            for j, x in enumerate(self.x_layers):
                cells = {name: float(cells[i, j]) for name, cells in there.items()}
                yield {**step, "y_layer": y, "x_layer": x, **cells}

    def summary(self) -> str:
        """Its size, its diagonal and the nearest depth."""
        rows, columns = self.similarity.shape
        text = f"{self.y_label} x {self.x_label}, {rows} x {columns} layers"
        if self.measure != "unknown" and not MEASURES[self.measure].is_cka:
            text = f"{self.title} of {text}"
        if self.n_samples:
            text += f", n = {self.n_samples:,}"
        if self.n_documents:
            text += f" of {self.n_documents:,} documents"
        if self.where:
            text += f" where {self.where}"
        if self.left_out:
            text += f" (left out: {self.left_out})"
        if self.y_layers == self.x_layers and np.isfinite(np.diag(self.similarity)).any():
            text += f"; mean on the diagonal {np.nanmean(np.diag(self.similarity)):.3f}"
        return f"{text}; {self.depth_shift().sentence}"

    def size(self) -> str:
        """Its layers, how it was made, and its samples."""
        rows, columns = self.similarity.shape
        parts = [f"{rows} x {columns}", *(part for part in self.way if part not in ("", "linear"))]
        if self.n_samples:
            parts.append(f"n={self.n_samples}")
        return "  ".join(parts)

    @property
    def title(self) -> str:
        """What its values are, for a colour bar."""
        return MEASURES[self.measure].title if self.measure in MEASURES else "Similarity"

    @property
    def way(self) -> tuple[str, str]:
        """What tells it from other maps of the same models: the measure, and what that was told."""
        told = "" if self.neighbours is None else f"k = {self.neighbours}"
        told = told if self.variance is None else f"{self.variance:.0%} of the variance"
        return self.title, told

    def _pack_more(self) -> Pack:
        """The soft alignment, so that other tools need not compute it, and the diagnostics."""
        arrays: Arrays = {"soft_alignment": (self.soft_alignment(ALIGNMENT_K), ("x_layer",))}
        attributes: dict[str, Any] = {}
        if self.jackknife is not None:
            aligned = soft_alignment(self.jackknife, np.array(self.y_layers), ALIGNMENT_K)
            arrays["soft_alignment_jackknife"] = (aligned, ("group", "x_layer"))
        for side in ("y", "x"):
            found: LayerDiagnostics | None = getattr(self, f"{side}_diagnostics")
            if found is None:
                continue
            for name in _DIAGNOSTICS:
                arrays[f"{side}_{name}"] = (getattr(found, name), (f"{side}_layer",))
            attributes[f"{side}_dropped"] = [list(layer) for layer in found.dropped]
        return arrays, attributes

    @classmethod
    def _unpack_more(
        cls, arrays: Mapping[str, Array], attributes: Mapping[str, Any]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for side in ("y", "x"):
            if all(f"{side}_{name}" in arrays for name in _DIAGNOSTICS):
                found[f"{side}_diagnostics"] = LayerDiagnostics(
                    **{name: arrays[f"{side}_{name}"] for name in _DIAGNOSTICS},
                    dropped=tuple(tuple(layer) for layer in attributes.get(f"{side}_dropped", [])),
                )
        return found

    def _y_numbers(self, first_layer: int) -> Float:
        return np.asarray(self.y_layers, dtype=np.float64) + (first_layer - 1)


def soft_alignment(similarity: npt.ArrayLike, y_numbers: npt.ArrayLike, k: int = 5) -> Float:
    """Equation 9 of the Engram paper on maps of any leading shape.

    Args:
        similarity: (..., y layers, x layers).
        y_numbers: (y layers,), the layer numbers that are averaged.
        k: rows averaged in each column.

    Returns:
        (..., x layers) float64.
    """
    if k < 1:
        raise ComparisonError(f"soft alignment averages over k >= 1 layers, found k = {k}")
    s = np.asarray(similarity, dtype=np.float64)
    numbers = np.asarray(y_numbers, dtype=np.float64)
    # An unbiased estimate below zero says "nothing in common": it gets no weight, never a
    # negative one, which could put the average outside the layers averaged.
    weights = np.where(np.isfinite(s), np.clip(s, 0.0, None), 0.0)
    order = np.argsort(-weights, axis=-2, kind="stable")[..., :k, :]
    top = np.take_along_axis(weights, order, axis=-2)
    total = top.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        aligned = (top * numbers[order]).sum(axis=-2) / total
    return np.where(total > 0, aligned, np.nan)


def grouped_warnings(warnings: Mapping[str, Sequence[str]], all_of_them: str) -> tuple[str, ...]:
    """The warnings of several maps, each once, with which of them it is of.

    Args:
        warnings: what each map is called -> its warnings.
        all_of_them: what stands for all their names.
    """
    of: dict[str, list[str]] = {}
    for name, said in warnings.items():
        for warning in dict.fromkeys(said):
            of.setdefault(warning, []).append(name)
    return tuple(
        f"{some_of(names, len(warnings), all_of_them)}: {warning}" for warning, names in of.items()
    )


def some_of(names: Sequence[str], count: int, all_of_them: str) -> str:
    """The first of several names and how many more; what stands for all of them if it is all."""
    if len(names) == count:
        return all_of_them
    more = len(names) - _NAMED
    return "; ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
