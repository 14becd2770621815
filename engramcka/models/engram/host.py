"""Table rows from host memory: fetched for a batch while the GPU is busy with earlier blocks.

Addresses depend on token ids alone, so the rows a module needs are known when the forward pass
starts (paper, section 6.4). A worker thread waits for the row numbers, gathers the rows into
pinned memory and copies them on a side stream; the module waits for that copy, no one else does.
Knows nothing of what the rows are for.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor


@cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=2, thread_name_prefix="engram-rows")


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


class Fetch:
    """Rows of one batch on their way to a device.

    Args:
        table: (rows, width) on the CPU.
        rows: row numbers, (...) int64, on the device that wants them.
    """

    def __init__(self, table: Tensor, rows: Tensor) -> None:
        self.rows = rows
        self._table = table.detach()
        self._ready: torch.cuda.Event | None = None
        self._copied: torch.cuda.Event | None = None
        self._host_rows = self._numbers_to_host()
        self._future: Future[Tensor] = _workers().submit(self._gather)

    def _numbers_to_host(self) -> Tensor:
        if not self.rows.is_cuda:
            return self.rows.reshape(-1)
        stream = _side_stream(self.rows.device)
        stream.wait_stream(torch.cuda.current_stream(self.rows.device))
        with torch.cuda.stream(stream):
            host = torch.empty(self.rows.numel(), dtype=torch.int64, pin_memory=True)
            host.copy_(self.rows.reshape(-1), non_blocking=True)
            self.rows.record_stream(stream)
            self._ready = stream.record_event()
        return host

    def _gather(self) -> Tensor:
        """In the worker: the rows, staged and sent, (rows.numel(), width)."""
        shape = (self._host_rows.numel(), self._table.shape[1])
        if self._ready is None:
            return torch.index_select(self._table, 0, self._host_rows)
        self._ready.synchronize()
        self._staged = torch.empty(shape, dtype=self._table.dtype, pin_memory=True)
        torch.index_select(self._table, 0, self._host_rows, out=self._staged)
        stream = _side_stream(self.rows.device)
        with torch.cuda.stream(stream):
            fetched = self._staged.to(self.rows.device, non_blocking=True)
            self._copied = stream.record_event()
        return fetched

    def result(self) -> tuple[Tensor, Tensor]:
        """The rows, (..., width) on the device, and their numbers on the host, (rows,)."""
        fetched = self._future.result()
        if self._copied is not None:
            current = torch.cuda.current_stream(self.rows.device)
            current.wait_event(self._copied)
            fetched.record_stream(current)
        return fetched.view(*self.rows.shape, -1), self._host_rows


class HostLookup(torch.autograd.Function):
    """Fetched rows as a function of the table, whose gradient is made on the host."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, fetched: Tensor, host_rows: Tensor) -> Tensor:
        """``fetched`` as it is."""
        ctx.save_for_backward(host_rows)
        ctx.table = table.shape, table.dtype
        return fetched.view_as(fetched)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of each row, summed over the places where it was looked up."""
        (host_rows,) = ctx.saved_tensors
        shape, dtype = ctx.table
        per_place = grads[0].reshape(-1, shape[1]).to(device="cpu", dtype=dtype)
        total = torch.zeros(shape, dtype=dtype).index_add_(0, host_rows, per_place)
        return total, None, None
