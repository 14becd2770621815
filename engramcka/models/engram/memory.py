"""The tables of one Engram module: row numbers in, vectors out.

All tables of a module are one matrix, one below the other. Knows nothing of hashing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from engramcka.models.engram.host import Fetch, HostLookup


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
        """Send for rows ahead of time; nothing to do where the matrix is beside them."""
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
    """Rows (..., row width) of a matrix whose rows ranks hold in order, as many each.

    Each looks up what it holds, and zeros are added to it: the same bits as from the whole matrix.
    For inference: it has no gradient.
    """
    own = weight.to_local()
    mesh = weight.device_mesh
    start = -(-weight.shape[0] // mesh.size()) * mesh.get_local_rank()
    place = rows - start
    is_own = (place >= 0) & (place < len(own))
    found = F.embedding(torch.where(is_own, place, 0), own) * is_own[..., None]
    distributed.all_reduce(found, group=mesh.get_group())
    return found
