"""N-grams as a memory hashes them: which share rows, and how often each stood in a text.

Letters: n tokens, L modules, O n-gram orders, N the longest of them, P rows a token looks up, C
classes of frequency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from engramcka.errors import ConfigError
from engramcka.models.memory_modules import BEFORE_START, Ints, MemoryModule

Floats = npt.NDArray[np.float64]
_RARE = 10  # an n-gram that stood fewer times is rare


@dataclass(frozen=True)
class Frequencies:
    """How often the n-grams of some tokens stood in the text that a model was trained on.

    Attributes:
        counts: (n, O), of each order's n-gram that ends at the token.
        orders: of the memory, ascending.
    """

    counts: Ints
    orders: tuple[int, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The classes, by how many times the longest order's n-gram was seen."""
        grams = f"{self.orders[-1]}-grams seen"
        return f"{grams} 0", f"{grams} 1–{_RARE - 1}", f"{grams} {_RARE}+"

    @cached_property
    def classes(self) -> Ints:
        """(n, O) class of each n-gram, a place in ``names``."""
        found: Ints = np.digitize(self.counts, [1, _RARE]).astype(np.int64)
        return found

    def first(self, count: int) -> Frequencies:
        """Those of the first tokens."""
        return Frequencies(self.counts[:count], self.orders)

    def masks(self, classes: Ints) -> dict[str, npt.NDArray[np.bool_]]:
        """Where each class stands, (n,) by name, of the longest order's (n,)."""
        return {name: classes == place for place, name in enumerate(self.names)}


def frequencies(
    memory: MemoryModule, passages: Sequence[Ints], training: Iterable[Ints]
) -> Frequencies | None:
    """How often the n-grams of passages stood in a text.

    Args:
        memory: says which ids its n-grams are made of.
        passages: token ids of each, (tokens,).
        training: token ids of the text's sequences.

    Returns:
        None where it is not known which ids those are.
    """
    if not memory.orders:
        return None
    asked = _windows(memory.ngrams, passages)
    read = _windows(memory.ngrams, training)
    if asked is None or read is None:
        return None
    orders = memory.orders
    counts = [_times(read[:, -order:], asked[:, -order:]) for order in orders]
    return Frequencies(np.stack(counts, axis=1), orders)


def _windows(of: Callable[[Ints], Ints | None], passages: Iterable[Ints]) -> Ints | None:
    """The windows of ids that end at all tokens, (n, N); None where they are not known."""
    found = []
    for ids in passages:
        windows = of(ids)
        if windows is None:
            return None
        found.append(windows)
    return np.concatenate(found)


def _times(text: Ints, asked: Ints) -> Ints:
    """How often each n-gram asked for stands in a text: (n,) from (m, order) and (n, order)."""
    both = np.unique(np.concatenate([text, asked]), axis=0, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(both[: len(text)], minlength=int(both.max()) + 1)
    found: Ints = counts[both[len(text) :]].astype(np.int64)
    return found


def collision_shares(
    memories: Mapping[int, MemoryModule],
    passages: Sequence[Ints],
    rows: Ints,
    frequency: Frequencies | None = None,
) -> Floats | None:
    """Share of the distinct n-grams that are not alone in their row, (L, O).

    An n-gram is what a row is looked up by: ids as they are hashed. Two different ones with the
    same row number share what is stored there (Engram paper, section 2.2). Counted in each head's
    table by itself; the mean over the heads. N-grams that begin before a passage count where the
    model hashes an id of its own for that, as ours does.

    Args:
        memories: the model's.
        passages: token ids of each, (tokens,).
        rows: (n, L, P) of all passages' tokens, as `token_gates` gives them.
        frequency: of the same tokens; the shares are then those of each class, (C, L, O), NaN
            where a class has no n-gram.

    Returns:
        None where it is not known which ids a module hashes.

    Raises:
        ConfigError: one n-gram has two rows, so other ids are hashed than was said.
    """
    found = []
    for place, memory in enumerate(memories.values()):
        is_known = memory.orders and rows.shape[-1]
        windows = _windows(memory.hashed, passages) if is_known else None
        if windows is None:
            return None
        heads = rows.shape[2] // len(memory.orders)
        shares = []
        for index, order in enumerate(memory.orders):
            own = rows[:, place, index * heads : (index + 1) * heads]
            classes = None if frequency is None else frequency.classes[:, index]
            shares.append(_shares(memory.name, windows[:, -order:], own, classes, frequency))
        found.append(shares)
    table = np.array(found)
    return table[..., 0] if frequency is None else np.moveaxis(table, 2, 0)


def _shares(
    name: str, grams: Ints, rows: Ints, classes: Ints | None, frequency: Frequencies | None
) -> list[float]:
    """Of one order: a share a class, or one of all n-grams."""
    whole = (grams != BEFORE_START).all(axis=1)
    order = grams.shape[1]
    joined, first = np.unique(np.hstack([grams, rows])[whole], axis=0, return_index=True)
    if len(np.unique(joined[:, :order], axis=0)) < len(joined):
        raise ConfigError(
            f"{name}: one {order}-gram of the ids that are said to be hashed has several rows, so "
            "other ids or other orders are hashed; correct engram.token_map and orders, or leave "
            "token_map out"
        )
    shared = np.mean([_is_shared(head) for head in joined[:, order:].T], axis=0)
    if classes is None or frequency is None:
        return [float(np.mean(shared))]
    own = classes[whole][first]
    return [
        float(shared[own == place].mean()) if (own == place).any() else float("nan")
        for place in range(len(frequency.names))
    ]


def _is_shared(rows: Ints) -> npt.NDArray[np.bool_]:
    """(n,) whether each entry is equal to another one."""
    _, inverse, counts = np.unique(rows, return_inverse=True, return_counts=True)
    found: npt.NDArray[np.bool_] = counts[inverse.reshape(-1)] > 1
    return found
