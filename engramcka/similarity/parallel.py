"""Work on several parts of the data at once, by threads and by processes, with results in order.

Threads: a worker does whole batches or tiles and never waits for the others inside one, which is
what a product shared between threads does at every step. Each part is computed by one thread
alone, so the result has the same bits for any number of workers.

Processes: the work is cut into portions: groups of batches, groups of rows of tiles, or pairs of
layers. How it is cut does not depend on the number of processes. Each portion is computed by one
process, the portions' sums are exchanged, and every process adds all of them up in the order of the
portions, so that all have the same map. All must see the same arrays, give the same options, and
use as many threads each.

Give `cka_map` a `Share`. Its gather is called the same number of times in every process, with a
list of small NumPy arrays and numbers in dataclasses, or with an error, which is then raised in
all of them; `torch.distributed.all_gather_object` into a list, or its like, will do.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from engramcka.errors import EngramckaError

Part = TypeVar("Part")
Result = TypeVar("Result")

MEMORY = 512 * 2**20  # bytes that the parts in work may hold together, beyond the first
Split = Callable[[Sequence[float], int], list[list[int]]]


def ordered_map(
    function: Callable[[Part], Result],
    parts: Iterable[Part],
    *,
    count: int,
    part_bytes: int,
    device: torch.device,
) -> Iterator[Result]:
    """function(part) for each part, in order, by as many threads as torch may use.

    Args:
        function: what to do; runs in several threads at once.
        parts: what to do it to.
        count: how many parts there are in all, those that other processes do included: the threads
            that a part gets, which its bits may depend on, are chosen by it.
        part_bytes: memory one part in work needs; limits how many are in work.
        device: on CUDA the device does the parallel work and one thread is enough.
    """
    function = torch.inference_mode()(function)  # less work a call
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    workers = max(1, min(threads, count, MEMORY // max(part_bytes, 1)))
    if workers == 1:
        yield from map(function, parts)
        return
    with _threads_each(threads // workers), ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(function, part))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def each_layer(function: Callable[[int], Result], count: int, device: torch.device) -> list[Result]:
    """function(layer number) for each of count layers, in order, several at a time."""
    return list(ordered_map(function, range(count), count=count, part_bytes=0, device=device))


class Scratch(threading.local):
    """Memory that a thread uses again for each part: new memory costs more than its use does."""

    def __init__(self) -> None:
        self._held: dict[str, torch.Tensor] = {}
        self._key: Hashable = None
        self._estimated: Any = None

    def empty(self, name: str, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """A tensor as like, of any content, in the memory that this thread holds under name."""
        size = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.dtype != like.dtype or len(held) < size:
            held = self._held[name] = like.new_empty(size)
        return held[:size].view(shape)

    def kept(self, key: Hashable, make: Callable[[], Result]) -> Result:
        """What make() gave when this was last called, if that was with the same key."""
        if self._key != key:
            self._key = self._estimated = None  # its memory may be taken again
            self._estimated, self._key = make(), key
        made: Result = self._estimated
        return made


_MKLDNN: Any = torch.backends.mkldnn  # whose switches its types leave out


@contextmanager
def full_precision() -> Iterator[None]:
    """Products of float32 tensors in true float32, never in TF32.

    Set for each backend: torch refuses to read its one older switch for all once a backend's own
    has been used.
    """
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, _MKLDNN.matmul)
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision


@contextmanager
def _threads_each(threads: int) -> Iterator[None]:
    """Threads started in here compute with this many threads each."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, threads))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _alone(own: Any) -> list[Any]:
    return [own]


@dataclass(frozen=True)
class Share:
    """Which share of the work is done here, and how to get what the others did."""

    rank: int = 0
    ranks: int = 1
    gather: Callable[[Any], list[Any]] = _alone  # this process's object -> everyone's, by rank

    def ordered_gather(
        self,
        costs: Sequence[float],
        split: Split,
        work: Callable[[list[int]], Iterable[Result]],
    ) -> list[Result]:
        """What all portions gave, in their order; only this process's are computed here.

        Args:
            costs: of each portion.
            split: `split_consecutive` or `split_balanced`.
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


def split_consecutive(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Portions of each process: neighbours, so that what is read together stays together."""
    owned: list[list[int]] = [[] for _ in range(ranks)]
    middles = np.cumsum(costs) - np.asarray(costs) / 2
    for number, middle in enumerate(middles):
        owned[min(ranks - 1, int(middle / sum(costs) * ranks))].append(number)
    return owned


def split_balanced(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Portions of each process: the next largest goes to whoever has least."""
    owned: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0.0] * ranks
    for number in sorted(range(len(costs)), key=lambda number: -costs[number]):
        least = loads.index(min(loads))
        owned[least].append(number)
        loads[least] += costs[number]
    return [sorted(numbers) for numbers in owned]
