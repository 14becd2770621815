"""How often the intervals hold the truth: samples of documents that share a vector, known CKA.

    python benchmarks/coverage.py
    python benchmarks/coverage.py --small
    python benchmarks/coverage.py --draws 400 --only debiased
    python benchmarks/coverage.py --measures                  # of the other measures
    python benchmarks/coverage.py --scores                    # of pairs of models

A layer of y is z A + u + e and one of x is z B + v + e': z, u and v are drawn for each document, e
and e' for each sample, all standard Gaussian. For pairs of samples of different documents the CKA
of a pair of layers is |A'B|^2 / (|A'A + 2 I| |B'B + 2 I|). The biased estimator, which counts all
pairs and has a bias, is held against its own mean over the draws, and so are the other measures,
whose value for so many samples no formula gives.

`--scores` is about the one number of a pair of models (`[[matrix]]`), which is to be the mean of
the best true CKA of each layer, over both models: by the largest estimates, and as it is stored.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from engramcka import cka_map, similarity_map
from engramcka.measures import MEASURES
from engramcka.results import SimilarityMap, jackknife_interval
from engramcka.results.pair_scores import best_match

WIDTH, SHARED = 6, 4
LAYERS = 3  # of each model
AT_ONCE = 8  # draws of one call of CKA, whose maps are blocks on the diagonal of a larger one
ESTIMATORS = ("minibatch", "debiased", "biased")  # of linear CKA
OTHERS = tuple(name for name in MEASURES if name != "cka")
KINDS = {
    "1 sample": lambda _, count: np.ones(count, dtype=int),
    "16 samples": lambda _, count: np.full(count, 16),
    "1 to 64 samples": lambda rng, count: rng.integers(1, 65, count),
}


@dataclass
class Covered:
    """What the draws of one line of the table gave."""

    maps: list[SimilarityMap] = field(default_factory=list)

    def shares(self, truth: np.ndarray) -> tuple[float, float]:
        """How often the intervals of cells and of soft alignments hold the truth."""
        aligned = SimilarityMap(truth).soft_alignment(LAYERS)
        cells, columns = [], []
        for found in self.maps:
            cells.append((found.ci_low <= truth) & (truth <= found.ci_high))
            low, high = found.soft_alignment_interval(LAYERS)
            columns.append((low <= aligned) & (aligned <= high))
        return float(np.mean(cells)), float(np.mean(columns))

    @property
    def mean(self) -> np.ndarray:
        """(y layers, x layers) mean of the similarities."""
        return np.mean([found.similarity for found in self.maps], axis=0)

    @property
    def half_width(self) -> float:
        """Mean of half the intervals of cells."""
        return float(np.mean([(found.ci_high - found.ci_low) / 2 for found in self.maps]))


def models(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(LAYERS, SHARED, WIDTH) maps of y and of x, and the (LAYERS, LAYERS) CKA."""
    y, x = 0.8 * rng.standard_normal((2, LAYERS, SHARED, WIDTH))
    return y, x, true_cka(y, x)


def true_cka(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(layers of y, layers of x) CKA of pairs of samples of different documents."""
    own = [[np.linalg.norm(one.T @ one + 2 * np.eye(WIDTH)) for one in side] for side in (y, x)]
    cross = [[((a.T @ b) ** 2).sum() for b in x] for a in y]
    return np.array(cross) / np.outer(*own)


def states(
    rng: np.random.Generator, documents: np.ndarray, y: np.ndarray, x: np.ndarray
) -> list[list[np.ndarray]]:
    """The layers of both models for one draw of documents and samples."""
    count, n = documents[-1] + 1, len(documents)
    z = rng.standard_normal((count, SHARED))
    return [
        [
            (z @ one + rng.standard_normal((count, WIDTH)))[documents]
            + rng.standard_normal((n, WIDTH))
            for one in side
        ]
        for side in (y, x)
    ]


def blocks(found: SimilarityMap) -> Iterator[SimilarityMap]:
    """The map of each draw."""
    for first in range(0, len(found.similarity), LAYERS):
        here = (..., slice(first, first + LAYERS), slice(first, first + LAYERS))
        yield SimilarityMap(
            found.similarity[here],
            ci_low=found.ci_low[here],
            ci_high=found.ci_high[here],
            jackknife=found.jackknife[here],
        )


def line(way: str, kind: str, count: int, draws: int, seed: int) -> tuple[Covered, np.ndarray]:
    """Maps of so many draws by an estimator of CKA or a measure, and what their intervals should
    hold."""
    rng = np.random.default_rng(seed)
    y, x, truth = models(rng)
    documents = np.repeat(np.arange(count), KINDS[kind](rng, count))
    covered = Covered()
    while len(covered.maps) < draws:
        at_once = min(AT_ONCE if way in ESTIMATORS else 1, draws - len(covered.maps))
        drawn = [states(rng, documents, y, x) for _ in range(at_once)]
        sides = [[layer for one in drawn for layer in one[side]] for side in range(2)]
        seed = len(covered.maps)
        if way in ESTIMATORS:
            found = cka_map(*sides, estimator=way, groups=documents, seed=seed)
        else:
            found = similarity_map(*sides, measure=way, groups=documents, seed=seed)
        covered.maps += blocks(found)
    return covered, truth if way in ("minibatch", "debiased") else covered.mean


def _unlike(rng: np.random.Generator) -> np.ndarray:
    """(2, 8, SHARED, WIDTH) maps of layers that are drawn one by one: their CKA is all over."""
    return 0.8 * rng.standard_normal((2, 8, SHARED, WIDTH))


def _stream(rng: np.random.Generator) -> np.ndarray:
    """Two models of which each layer adds to the one before, and the same in both."""
    steps = np.array([0.8, *[0.3] * 7])[:, None, None] * rng.standard_normal((8, SHARED, WIDTH))
    return np.stack([steps.cumsum(axis=0)] * 2)


def _same(rng: np.random.Generator) -> np.ndarray:
    """All layers are alike: every cell has the same CKA."""
    return np.broadcast_to(0.8 * rng.standard_normal((SHARED, WIDTH)), (2, 8, SHARED, WIDTH))


def _nothing(rng: np.random.Generator) -> np.ndarray:
    """The models share nothing."""
    found = _unlike(rng)
    found[0, :, : SHARED // 2] = found[1, :, SHARED // 2 :] = 0
    return found


PAIRS = {
    "unlike layers": _unlike,
    "a residual stream": _stream,
    "layers all the same": _same,
    "nothing shared": _nothing,
}


def score_line(kind: str, count: int, draws: int, seed: int) -> str:
    """Bias and coverage of the best matches of one kind of pair, with so many documents."""
    rng = np.random.default_rng(seed)
    y, x = PAIRS[kind](rng)
    truth, _ = best_match(true_cka(y, x))
    documents = np.repeat(np.arange(count), rng.integers(1, 17, count))
    plain, found, half = np.zeros((3, draws))
    for draw in range(draws):
        cka = cka_map(*states(rng, documents, y, x), groups=documents, seed=draw)
        plain[draw], _ = best_match(cka.similarity)
        found[draw], without = best_match(cka.similarity, cka.jackknife)
        low, high = jackknife_interval(found[draw], without)
        half[draw] = (high - low) / 2
    held = [np.mean(abs(values - truth) <= half) for values in (plain, found)]
    return (
        f"| {kind} | {count} | {truth:.3f} | {np.mean(plain) - truth:+.3f}, {held[0]:.0%} | "
        f"{np.mean(found) - truth:+.3f}, {held[1]:.0%} | {np.mean(half):.3f} |"
    )


def print_scores(draws: int, counts: list[int], seed: int) -> None:
    """Print the table of pairs of models."""
    print(f"Best matches of two models of 8 layers, {draws} draws a line\n")
    print("| models | documents | truth | maxima: bias, held | stored: bias, held | half width |")
    print("|---|---|---|---|---|---|")
    for kind in PAIRS:
        for count in counts:
            print(score_line(kind, count, draws, seed), flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=200, help="of documents and samples a line")
    parser.add_argument("--documents", type=int, nargs="+", default=[40, 150])
    parser.add_argument("--only", choices=(*ESTIMATORS, *OTHERS))
    parser.add_argument("--measures", action="store_true", help="the other measures, not CKA")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="a few draws of 20 documents")
    parser.add_argument("--scores", action="store_true", help="pairs of models alone")
    options = parser.parse_args()
    draws, counts = (4, [20]) if options.small else (options.draws, options.documents)
    if options.scores:
        print_scores(draws, counts, options.seed)
        return
    print(f"Share of 95 % intervals that hold the truth, {draws} draws a line\n")
    print("| estimator or measure | documents | of | bias | half width | cells | alignments |")
    print("|---|---|---|---|---|---|---|")
    ways = OTHERS if options.measures else ESTIMATORS
    for way in [options.only] if options.only else ways:
        for count in counts:
            for kind in KINDS:
                covered, truth = line(way, kind, count, draws, options.seed)
                cells, columns = covered.shares(truth)
                gap = float((covered.mean - truth).mean())
                bias = f"{gap:+.3f}" if way in ESTIMATORS else "-"
                print(
                    f"| {way} | {count} | {kind} | {bias} | {covered.half_width:.3f} | "
                    f"{cells:.1%} | {columns:.1%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
