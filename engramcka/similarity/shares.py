"""One map computed by several processes, with the same bits for any number of them.

The work is cut into portions: groups of batches, groups of rows of tiles, or pairs of layers. How
it is cut does not depend on the number of processes. Each portion is computed by one process, the
portions' sums are exchanged, and every process adds all of them up in the order of the portions,
so that all have the same map. All must see the same arrays, give the same options, and use as many
threads each.

Give `cka_map` a `Share`. Its gather is called the same number of times in every process, with a
list of small NumPy arrays and numbers in dataclasses, or with an error, which is then raised in
all of them; `torch.distributed.all_gather_object` into a list, or its like, will do. What the work
was cut into and who does what is here; knows nothing of processes, nor of estimators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from engramcka.errors import EngramckaError

Result = TypeVar("Result")

Split = Callable[[Sequence[float], int], list[list[int]]]


def _alone(own: Any) -> list[Any]:
    return [own]


@dataclass(frozen=True)
class Share:
    """Which share of the work is done here, and how to get what the others did."""

    rank: int = 0
    ranks: int = 1
    gather: Callable[[Any], list[Any]] = _alone  # this process's object -> everyone's, by rank

    def exchange(
        self,
        costs: Sequence[float],
        split: Split,
        work: Callable[[list[int]], Iterable[Result]],
    ) -> list[Result]:
        """What all portions gave, in their order; only this process's are computed here.

        Args:
            costs: of each portion.
            split: `consecutive` or `spread`.
            work: what the portions with these (increasing) numbers give, one result each.

        Raises:
            EngramckaError: what the first process that had an error raised.
        """
        owned = split(costs, self.ranks)
        failed, own = None, []
        try:
            own = list(work(owned[self.rank])) if owned[self.rank] else []
        except EngramckaError as error:
            failed = error
        everyone = self.gather((own, failed))
        for _, raised in everyone:
            if raised is not None:
                raise raised
        found: dict[int, Result] = {}
        for numbers, (results, _) in zip(owned, everyone, strict=True):
            found.update(zip(numbers, results, strict=True))
        return [found[number] for number in range(len(costs))]


def consecutive(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Portions of each process: neighbours, so that what is read together stays together."""
    owned: list[list[int]] = [[] for _ in range(ranks)]
    middles = np.cumsum(costs) - np.asarray(costs) / 2
    for number, middle in enumerate(middles):
        owned[min(ranks - 1, int(middle / sum(costs) * ranks))].append(number)
    return owned


def spread(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Portions of each process: the next largest goes to whoever has least."""
    owned: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0.0] * ranks
    for number in sorted(range(len(costs)), key=lambda number: -costs[number]):
        least = loads.index(min(loads))
        owned[least].append(number)
        loads[least] += costs[number]
    return [sorted(numbers) for numbers in owned]
