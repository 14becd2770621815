"""The tables of one Engram module: row numbers in, vectors out.

All tables of a module are one matrix, one below the other. It may stay in host memory: row numbers
depend on token ids alone, so the rows that a module needs are known when the forward pass starts
(paper, section 6.4), and are fetched while the GPU is busy with earlier blocks. A worker thread
waits for the row numbers, gathers the rows into pinned memory and copies them on a side stream;
only the module waits for that copy.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor


class EngramMemory(nn.Module):
    """Rows of every order and head of one module (paper, equations 1 and 2).

    Args:
        n_rows: rows of all tables together.
        row_width: columns of a row, d_mem / (orders x heads).
        on_host: keep the matrix in host memory wherever the model goes; ``.to("cuda")`` then moves
            everything else. Trains on one GPU; DistributedDataParallel wants all on the GPU.
    """

    def __init__(self, n_rows: int, row_width: int, on_host: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_rows, row_width))
        self.on_host = on_host
        self._fetch: Fetch | None = None

    def prefetch(self, rows: Tensor) -> None:
        """Start fetching rows; does nothing where the matrix is on the rows' own device."""
        if rows.device != self.weight.device:
            self._fetch = Fetch(self.weight, rows)

    def forward(self, rows: Tensor) -> Tensor:
        """The memory e_t of each token, (B, T, d_mem), from row numbers (B, T, P)."""
        if isinstance(self.weight, DTensor):
            return _from_all_ranks(self.weight, rows).flatten(-2)
        if rows.device == self.weight.device:
            return F.embedding(rows, self.weight).flatten(-2)
        fetch, self._fetch = self._fetch, None
        if fetch is None or fetch.rows is not rows:  # recomputed under gradient checkpointing
            fetch = Fetch(self.weight, rows)
        found: Tensor = HostLookup.apply(self.weight, *fetch.result())
        return found.flatten(-2)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        if not self.on_host:
            return super()._apply(fn, recurse)

        def stay(tensor: Tensor) -> Tensor:
            """Only what ``fn`` does to the dtype, learnt without moving the matrix."""
            probe = fn(tensor.new_empty(0))
            if probe.is_meta:
                return fn(tensor)
            if tensor.is_meta:
                return torch.empty_like(tensor, dtype=probe.dtype, device="cpu")
            return tensor.to(dtype=probe.dtype)

        return super()._apply(stay, recurse)


def _from_all_ranks(weight: DTensor, rows: Tensor) -> Tensor:
    """Rows (..., row width) of a matrix whose rows are split evenly over the ranks, in order.

    Each rank looks up the rows it holds, and the sum over the ranks adds only zeros to them: the
    same bits as from the whole matrix. For inference: it has no gradient.
    """
    own = weight.to_local()
    mesh = weight.device_mesh
    start = -(-weight.shape[0] // mesh.size()) * mesh.get_local_rank()
    place = rows - start
    is_own = (place >= 0) & (place < len(own))
    found = F.embedding(torch.where(is_own, place, 0), own) * is_own[..., None]
    distributed.all_reduce(found, group=mesh.get_group())
    return found


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
