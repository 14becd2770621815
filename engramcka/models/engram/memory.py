"""The tables of one Engram module: rows in, vectors out.

All tables of a module are one matrix, one below the other. Knows nothing of hashing: it is given
row numbers.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, empty, nn


class EngramMemory(nn.Module):
    """Rows of every order and head of one module (paper, equations 1 and 2).

    Args:
        n_rows: rows of all tables together.
        row_width: columns of a row, d_mem / (orders x heads).
    """

    def __init__(self, n_rows: int, row_width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(empty(n_rows, row_width))

    def forward(self, rows: Tensor) -> Tensor:
        """The memory e_t of each token, (B, T, d_mem), from row numbers (B, T, P)."""
        return F.embedding(rows, self.weight).flatten(-2)
