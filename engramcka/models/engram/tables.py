"""The tables of one Engram module: row numbers in, vectors out.

All tables of a module are one matrix, one below the other. It may stay in host memory: row numbers
depend on token ids alone, so the rows that a module needs are known when the forward pass starts
(paper, section 6.4), and are fetched while the GPU is busy with earlier blocks. A worker thread
waits for the row numbers, gathers the rows into pinned memory and copies them on a side stream;
only the module waits for that copy. The gradient of such a matrix is that of the rows that were
looked up, a sparse tensor, whatever the matrix holds beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor


class EngramMemory(nn.Module):
    """Rows of every order and head of one module (paper, equations 1 and 2).

    Args:
        n_rows: rows of all tables together.
        row_width: columns of a row, d_mem / (orders x heads).
        on_host: keep the matrix in host memory wherever the model goes; ``.to("cuda")`` then moves
            everything else. Its gradient is sparse, also where the model is on the CPU, and wants
            an optimiser and clipping that take it (`engramcka.training.table_rows`).
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
            if not (self.on_host and self.weight.is_cpu):
                return F.embedding(rows, self.weight).flatten(-2)
            here = F.embedding(rows, self.weight.detach())
            return _looked_up(self.weight, here, rows.reshape(-1)).flatten(-2)
        fetch, self._fetch = self._fetch, None
        if fetch is None or fetch.rows is not rows:  # recomputed under gradient checkpointing
            fetch = Fetch(self.weight, rows)
        return _looked_up(self.weight, *fetch.result()).flatten(-2)

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
        ctx.table_shape, ctx.table_dtype = table.shape, table.dtype
        return fetched.view_as(fetched)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """The gradient as `sum_by_row` makes it."""
        (host_rows,) = ctx.saved_tensors
        per_place = grads[0].reshape(-1, ctx.table_shape[1])
        per_place = per_place.to(device="cpu", dtype=ctx.table_dtype)
        return sum_by_row(host_rows, per_place, ctx.table_shape), None, None


def _looked_up(table: Tensor, fetched: Tensor, host_rows: Tensor) -> Tensor:
    found: Tensor = HostLookup.apply(table, fetched, host_rows)
    return found


def sum_by_row(numbers: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """Values summed over the places that name the same row, in the order of the places.

    Args:
        numbers: of rows, (places,) int64 on the CPU.
        values: (places, width) on the CPU.
        shape: of the table, (rows, width).

    Returns:
        A sparse tensor of that shape and of the values' dtype, coalesced: its memory is that of
        the rows that are named. The same bits as a dense sum.
    """
    rows, place = torch.unique(numbers, return_inverse=True)
    sums = values.new_zeros(len(rows), shape[1]).index_add_(0, place, values)
    return torch.sparse_coo_tensor(
        rows[None], sums, shape, is_coalesced=True, check_invariants=False
    )
