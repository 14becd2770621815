"""What a map costs by each measure, as a share of a CKA map in the same process.

    python benchmarks/measures.py                      # 30 + 30 layers, 4,096 samples, width 2,048
    python benchmarks/measures.py --layers 6 --samples 1024 --width 512

CKA over all samples (`debiased`) is the like-for-like: every pair of samples counts there too. For
Procrustes it is said what share of the time the singular value decompositions alone take, of which
only a few pairs of layers are timed: `--pairs`.
"""

from __future__ import annotations

import argparse
import platform
import time

import torch
from similarity import related

from engramcka import cka_map, similarity_map

DOCUMENT = 16  # samples


def seconds(function: object) -> float:
    start = time.perf_counter()
    function()  # type: ignore[operator]
    return time.perf_counter() - start


def maps(options: argparse.Namespace) -> None:
    y, x = related(options.layers, options.samples, options.width)
    documents = [number // DOCUMENT for number in range(options.samples)]
    whole = seconds(lambda: cka_map(y, x, estimator="debiased", groups=documents))
    batches = seconds(lambda: cka_map(y, x, groups=documents))
    print("| measure | s | of `debiased` CKA | of `minibatch` CKA |")
    print("|---|---|---|---|")
    for name, spent in (("cka, debiased", whole), ("cka, minibatch", batches)):
        print(f"| {name} | {spent:.1f} | {spent / whole:.2f} | {spent / batches:.2f} |", flush=True)
    for measure in options.measures:
        spent = seconds(lambda m=measure: similarity_map(y, x, measure=m, groups=documents))
        print(
            f"| {measure} | {spent:.1f} | {spent / whole:.2f} | {spent / batches:.2f} |", flush=True
        )


def procrustes(options: argparse.Namespace) -> None:
    """A map of a few layers against the decompositions of its cross-products."""
    count = options.pairs
    y, x = related(count, options.samples, options.width)
    documents = [number // DOCUMENT for number in range(options.samples)]
    products = [[a.T @ b for b in x] for a in y]

    def decompose(function: object) -> None:
        for row in products:
            for product in row:
                function(product)  # type: ignore[operator]

    values = seconds(lambda: decompose(torch.linalg.svdvals))
    vectors = seconds(lambda: decompose(lambda a: torch.linalg.svd(a, full_matrices=False)))
    spent = seconds(lambda: similarity_map(y, x, measure="procrustes", groups=documents))
    print(
        f"\nprocrustes, {count} x {count} layers: {spent:.1f} s, {spent / vectors:.2f} of the "
        f"decompositions with vectors ({vectors:.1f} s), {spent / values:.2f} of those without "
        f"({values:.1f} s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=2, help="layers a side for Procrustes")
    known = ("rsa", "mutual-knn", "cknna", "svcca", "pwcca")
    parser.add_argument("--measures", nargs="*", choices=known, default=("rsa", "mutual-knn"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {platform.machine()}, {options.threads} threads; ", end="")
    print(
        f"{options.layers} + {options.layers} layers, {options.samples:,} samples of "
        f"{-(-options.samples // DOCUMENT):,} documents, width {options.width:,}\n"
    )
    if options.measures:
        maps(options)
    if options.pairs:
        procrustes(options)


if __name__ == "__main__":
    main()
