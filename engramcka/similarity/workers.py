"""Work on several parts of the data at once, with results in order.

A worker thread does whole batches or tiles and never waits for the others inside one, which is
what a product shared between threads does at every step. Each part is computed by one thread
alone, so the result has the same bits for any number of workers.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")

MEMORY = 512 * 2**20  # bytes that the parts in work may hold together, beyond the first


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
        self._made: Any = None

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
            self._key = self._made = None  # its memory may be taken again
            self._made, self._key = make(), key
        made: Result = self._made
        return made


@contextmanager
def full_precision(high: bool = False) -> Iterator[None]:
    """Products in true float32; with ``high`` in TF32 where the device has it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if high else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _threads_each(threads: int) -> Iterator[None]:
    """Threads started in here compute with this many threads each."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, threads))
    try:
        yield
    finally:
        torch.set_num_threads(before)
