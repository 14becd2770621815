"""Pinned memory of the host, by which blocks go to a GPU while both go on working."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SLOTS = 3  # blocks that may be under way; the host waits for the oldest before it fills a fourth


class PinnedRing:
    """A few pieces of pinned memory, each used again once what was copied from it has arrived."""

    def __init__(self) -> None:
        self._used: deque[tuple[torch.Tensor, torch.cuda.Event]] = deque()

    @contextmanager
    def memory(
        self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> Iterator[torch.Tensor]:
        """A tensor to fill, and then to copy to the device without blocking, both inside.

        Args:
            shape: of the tensor.
            dtype: of the tensor.
            device: that it is copied to.
        """
        needed = math.prod(shape) * dtype.itemsize
        memory = None
        if len(self._used) == SLOTS:
            memory, arrived = self._used.popleft()
            arrived.synchronize()
        if memory is None or len(memory) < needed:
            memory = torch.empty(needed, dtype=torch.uint8, pin_memory=True)
        yield memory[:needed].view(dtype).view(shape)
        self._used.append((memory, torch.cuda.current_stream(device).record_event()))


def sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A few values of the host on the device; to a GPU they go without the host waiting."""
    if device.type == "cpu" or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
