"""The measures that a map may hold, and what is said of each: the one list that all others read.

Configs, captions, the app and the documentation take names, ranges and sources from here;
`engramcka.similarity.similarity_map` computes them. No NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

MeasureName = Literal[
    "cka", "cka-rbf", "rsa", "procrustes", "mutual-knn", "cknna", "svcca", "pwcca"
]

ORTHOGONAL = "rotations and reflections, one factor for all samples, and a common offset"
LINEAR = "any invertible linear map of the components kept, and a common offset"
COSINE = "rotations and reflections, and a factor of each sample; not a common offset"


@dataclass(frozen=True)
class Measure:
    """One measure of the similarity of two layers over the same samples."""

    name: MeasureName
    """In configs, in Python and in a store."""
    title: str
    """On colour bars and in sentences."""
    words: str
    """What it is, in a caption."""
    source: str
    """The papers."""
    low: float
    """Least value that layers which share nothing can be expected to have; estimates may lie a
    little below it."""
    invariant: str
    """What may be done to either side without changing it."""
    small_n: str
    """What few samples do to it, and what is done about that."""
    pairs: bool = False
    """Whether it is made of pairs of samples, so that those of one document can be left out."""
    neighbours: bool = False
    """Whether it counts the k nearest neighbours of each sample."""
    components: bool = False
    """Whether it compares principal components, of which there must be few for the samples."""
    high: float = 1.0
    """Value of identical layers."""

    @property
    def range(self) -> str:
        """As text: "0 to 1"."""
        return f"{self.low:g} to {self.high:g}"

    @property
    def is_cka(self) -> bool:
        """Whether `cka_map` computes it, and a run stores it under ``cka``."""
        return self.name.startswith("cka")


_ALL = (
    Measure(
        "cka",
        "CKA",
        "CKA with the linear kernel",
        "Kornblith et al. 2019; minibatches: Nguyen et al. 2021; unbiased HSIC: Song et al. 2012",
        0.0,
        ORTHOGONAL,
        "none: HSIC is estimated without bias (the biased estimator is there to reproduce numbers)",
        pairs=True,
    ),
    Measure(
        "cka-rbf",
        "CKA (RBF)",
        "CKA with the RBF kernel, its bandwidth the median distance",
        "Kornblith et al. 2019",
        0.0,
        ORTHOGONAL,
        "none: HSIC is estimated without bias",
        pairs=True,
    ),
    Measure(
        "rsa",
        "RSA",
        "RSA: Spearman's rank correlation, over pairs of samples, of the two layers' "
        "correlation distances",
        "Kriegeskorte, Mur and Bandettini 2008",
        -1.0,
        "one factor and one offset of each sample, and a permutation of the dimensions; a rotation "
        "only where it keeps the vector of ones",
        "none where layers share nothing: shuffled samples give 0 on average at any n",
        pairs=True,
    ),
    Measure(
        "procrustes",
        "Procrustes",
        "Procrustes similarity: the nuclear norm of the cross-product over the Frobenius norms",
        "Schönemann 1966; Williams et al. 2021 (the cosine of their angular distance)",
        0.0,
        ORTHOGONAL,
        "up: wide layers that share nothing can reach sqrt(width / (n - 1)); a warning says so "
        "where that is over 0.1, and the permutation null how much it is",
    ),
    Measure(
        "mutual-knn",
        "Mutual k-NN",
        "mutual k-NN: the share of a sample's nearest neighbours (by cosine) that both layers have",
        "Huh et al. 2024",
        0.0,
        COSINE,
        "chance is k / (n - 1), so that it falls with n at one k; it is in the caption",
        pairs=True,
        neighbours=True,
    ),
    Measure(
        "cknna",
        "CKNNA",
        "CKNNA: CKA over those pairs alone that are nearest neighbours (by cosine) in both layers",
        "Huh et al. 2024, their equation for CKNNA",
        0.0,
        COSINE,
        "chance is about k / (n - 1) and more; the permutation null has it",
        pairs=True,
        neighbours=True,
    ),
    Measure(
        "svcca",
        "SVCCA",
        "SVCCA: the mean canonical correlation of the leading principal components",
        "Raghu et al. 2017",
        0.0,
        LINEAR,
        "up, to sqrt(d / (n - 1)) for d components that share nothing: at most n / 10 components "
        "are kept, which holds that below 0.32, and a warning says what they leave out",
        components=True,
    ),
    Measure(
        "pwcca",
        "PWCCA",
        "PWCCA: the canonical correlations of the principal components, each weighted by what its "
        "direction accounts for of the layer with fewer of them",
        "Morcos et al. 2018",
        0.0,
        "of the side that gives no weights " + LINEAR + "; rotations of the other",
        "up, as SVCCA: at most n / 10 components are kept",
        components=True,
    ),
)

MEASURES: Mapping[str, Measure] = MappingProxyType({one.name: one for one in _ALL})
NEIGHBOURS = 10
"""Neighbours of a sample that count, if not said: as in Huh et al. 2024."""
VARIANCE: Mapping[str, float] = MappingProxyType({"svcca": 0.99, "pwcca": 1.0})
"""Share of a layer's variance that its components hold, if not said: as in the papers."""


def takes(measure: str, option: str) -> bool:
    """Whether a measure has a use for an option that not all have."""
    known = MEASURES[measure]
    return {
        "k": known.neighbours,
        "variance": known.components,
        "pairs": known.pairs,
    }.get(option, known.is_cka)
