"""Which samples belong together, which an interval leaves out together, and which make a batch.

Samples of one document are alike, so that they are no independent draws of the text. NumPy only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.errors import ComparisonError, OptionError

Ints = npt.NDArray[np.int64]

MIN_BATCH = 4  # samples of a batch: HSIC_1 divides by n (n - 3)
MAX_GROUPS = 64  # of the jackknife, so that it stays small enough to be stored with a map
_LEFT_OUT = (8, 32)  # fewest and most groups that are left out of every batch
_GROUP_SAMPLES = 32  # of a batch that a group has, between these: narrower ones cost more calls
RUN = 16  # neighbouring samples, of those looked at, which a store has together
ENOUGH_BATCHES = 16  # as many independent batches are groups of the jackknife themselves


def document_numbers(groups: Sequence[Any] | Ints) -> Ints:
    """(samples,) number of each sample's document, from 0, in the order in which they appear.

    Args:
        groups: a label a sample; samples with equal labels are of one document.

    Raises:
        ComparisonError: a label is missing (NaN), or equals nothing.
    """
    numbers: dict[Any, int] = {}
    as_list = getattr(groups, "tolist", None)  # of arrays and tensors
    labels = as_list() if as_list is not None else list(groups)
    try:
        found = [numbers.setdefault(label, len(numbers)) for label in labels]
    except TypeError as error:
        raise ComparisonError(f"groups: {error}; a label is a text or a number") from error
    for label in numbers:
        if label != label or not isinstance(label, str | int | float | bytes | tuple):
            raise ComparisonError(
                f"groups: {label!r} labels no document; a label is a text or a number"
            )
    return np.array(found, dtype=np.int64)


def jackknife_groups(documents: Ints, most: int) -> Ints:
    """(samples,) group of each sample: neighbouring documents, as many samples in each as can be.

    Args:
        documents: (samples,) as `document_numbers` gives them.
        most: groups.
    """
    sizes = np.bincount(documents)
    middles = np.cumsum(sizes) - sizes / 2
    groups = np.minimum((middles * min(most, len(sizes)) / len(documents)).astype(int), most - 1)
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)[documents]


def groups_left_out(batch: int) -> int:
    """How many groups of documents are left out in turn where a batch has so many samples."""
    fewest, most = _LEFT_OUT
    return max(fewest, min(most, batch // _GROUP_SAMPLES))


def batch_count(n: int, batch_size: int) -> int:
    """Batches of nearly equal size, of at most ``batch_size`` samples and at least 4."""
    return max(1, min(-(-n // batch_size), n // MIN_BATCH))


def in_order(n: int, batch_size: int) -> list[Ints]:
    """Batches of neighbouring samples; a last one of fewer than 4 joins the one before."""
    edges = [*range(0, n, batch_size), n]
    if len(edges) > 2 and edges[-1] - edges[-2] < MIN_BATCH:
        del edges[-2]
    return [np.arange(start, stop) for start, stop in pairwise(edges)]


def random_batches(n: int, batch_size: int, seed: int, groups: Ints | None = None) -> list[Ints]:
    """Every sample in one batch, drawn at random; sizes differ by one at most.

    Args:
        n: samples.
        batch_size: samples of a batch at most.
        seed: of the draw.
        groups: (samples,) jackknife group of each, which each batch then gets an equal share of.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(n)
    if groups is not None:
        order = order[np.argsort(groups[order], kind="stable")]
    dealt = _deal(((row,) for row in order.tolist()), batch_count(n, batch_size), random)
    return [_sorted(batch, groups) for batch in dealt]


def distinct_batches(documents: Ints, batch_size: int, seed: int, groups: Ints) -> list[Ints]:
    """Every sample in one batch, at random, with no two of one document in any.

    As many batches as the largest document has samples, or more; sizes differ by one at most.

    Args:
        documents: (samples,) number of each sample's document.
        batch_size: samples of a batch at most.
        seed: of the draw.
        groups: (samples,) jackknife group of each sample, the same for all of a document.

    Raises:
        OptionError: batches of 4 different documents cannot be made.
    """
    sizes = np.bincount(documents)
    n, largest = len(documents), int(sizes.max())
    count = max(largest, batch_count(n, batch_size))
    if n // largest < MIN_BATCH:
        raise OptionError(
            f"{n} samples are of {len(sizes)} documents, {largest} of one of them: batches of "
            f"{MIN_BATCH} different documents cannot be made; draw fewer samples a document "
            "(data.per_document), take more documents, or compare within documents too with "
            'pairs = "all"',
            "pairs",
        )
    random = np.random.default_rng(seed)
    rows = random.permutation(n)
    rows = rows[np.argsort(documents[rows], kind="stable")]
    members = np.split(rows, np.cumsum(sizes)[:-1])
    order = random.permutation(len(sizes))
    first = np.array([groups[rows[0]] for rows in members])
    order = order[np.argsort(first[order], kind="stable")]
    dealt = _deal((members[document].tolist() for document in order), count, random)
    return [_sorted(batch, groups) for batch in dealt]


@dataclass(frozen=True)
class Draw:
    """Which samples are in which batch, and which of them are left out together."""

    batches: list[Ints]
    groups: Ints | None  # (samples,) jackknife group of each; None: batches are left out
    over: str  # documents | samples | batches


def draw(
    n: int, batch_size: int, seed: int, documents: Ints | None, *, random: bool, across: bool
) -> Draw:
    """The batches of a minibatch map over n samples.

    Args:
        n: samples.
        batch_size: samples of a batch at most.
        seed: of the draw.
        documents: (samples,) number of each sample's document; None: each has one of its own.
        random: batches are drawn at random; else samples stay in order.
        across: no two samples of one document are in a batch.
    """
    if not random:
        return Draw(in_order(n, batch_size), None, "batches")
    over = "samples" if documents is None else "documents"
    if documents is None and batch_count(n, batch_size) >= ENOUGH_BATCHES:
        return Draw(random_batches(n, batch_size, seed), None, "batches")
    of_one = np.arange(n) if documents is None else documents
    across = across and documents is not None
    fewest = int(np.bincount(of_one).max()) if across else 1
    batch = n // max(fewest, batch_count(n, batch_size))
    groups = jackknife_groups(of_one, groups_left_out(batch))
    if across:
        return Draw(distinct_batches(of_one, batch_size, seed, groups), groups, over)
    return Draw(random_batches(n, batch_size, seed, groups), groups, over)


def one_a_document(documents: Ints, seed: int) -> Ints:
    """(documents,) one sample of each, at random, in increasing order."""
    rows = np.random.default_rng(seed).permutation(len(documents))
    return np.sort(rows[np.unique(documents[rows], return_index=True)[1]])


def some_samples(n: int, count: int, seed: int) -> Ints:
    """(count,) samples, increasing: runs of neighbours at random places; all there are of few."""
    if n <= count:
        return np.arange(n)
    runs = np.random.default_rng(seed).permutation(n // RUN)[: count // RUN]
    return (np.sort(runs)[:, None] * RUN + np.arange(RUN)).ravel()


def share_within(documents: Ints) -> float:
    """What share of all pairs of samples are of one document."""
    sizes, n = np.bincount(documents).astype(np.float64), len(documents)
    return float((sizes * (sizes - 1)).sum() / (n * (n - 1)))


def pairs_within(documents: Ints, count: int, seed: int) -> Ints:
    """(count, 2) samples of one document, some document having two.

    Args:
        documents: (samples,) number of each sample's document.
        count: pairs to draw, each alike, with replacement.
        seed: of the draw.
    """
    sizes = np.bincount(documents).astype(np.float64)
    pairs = sizes * (sizes - 1)
    random = np.random.default_rng(seed)
    chosen = random.choice(len(sizes), size=count, p=pairs / pairs.sum())
    rows = np.argsort(documents, kind="stable")
    first = (np.cumsum(sizes) - sizes)[chosen]
    one = (random.random(count) * sizes[chosen]).astype(np.int64)
    other = (one + 1 + (random.random(count) * (sizes[chosen] - 1)).astype(np.int64)) % sizes[
        chosen
    ]
    places = (np.stack([one, other], axis=1) + first[:, None]).astype(np.int64)
    return rows[places]


def _deal(
    hands: Iterable[Sequence[int]], count: int, random: np.random.Generator
) -> list[list[int]]:
    """Each sample of each hand to a batch: round by round every batch gets one, in random order.

    A hand of at most ``count`` samples has all of them in different batches.
    """
    batches: list[list[int]] = [[] for _ in range(count)]
    waiting: list[int] = []  # the batches that get one in this round, the next one last
    for hand in hands:
        taken: set[int] = set()
        for sample in hand:
            if not waiting:
                fresh = random.permutation(count).tolist()
                waiting = sorted(fresh, key=lambda batch: batch not in taken)
            batch = waiting.pop()
            taken.add(batch)
            batches[batch].append(sample)
    return batches


def _sorted(batch: list[int], groups: Ints | None) -> Ints:
    """The samples of a batch in their own order, those of a jackknife group together."""
    rows = np.sort(np.array(batch, dtype=np.int64))
    return rows if groups is None else rows[np.argsort(groups[rows], kind="stable")]
