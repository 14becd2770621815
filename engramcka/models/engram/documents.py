"""Where documents begin in sequences that hold several, so that a memory does not reach across.

Letters: B sequences, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

FAR = 1 << 30
"""More tokens than any n-gram or convolution reaches back."""


def since_start(
    input_ids: Tensor, end_id: int | None, position_ids: Tensor | None, goes_on: bool
) -> Tensor | None:
    """How many tokens of its own document stand before each token.

    A document begins after an end-of-text token, and where a position id is 0.

    Args:
        input_ids: (B, T).
        end_id: the end-of-text token; None if there is none.
        position_ids: (B, T) or (1, T); others, and None, say nothing.
        goes_on: whether tokens came before these.

    Returns:
        (B, T) int64, `FAR` where the document began before these tokens, or with them; None if no
        document begins among them (on a GPU that is not looked at, since it would have to wait).
    """
    begins = torch.zeros_like(input_ids, dtype=torch.bool)
    if end_id is not None:
        begins[:, 1:] = input_ids[:, :-1] == end_id
    if position_ids is not None and position_ids.dim() == 2:
        begins = begins | (position_ids.to(input_ids.device) == 0)
    elif end_id is None:
        return None
    if not goes_on:
        begins[:, 0] = False
    if not begins.is_cuda and not torch.compiler.is_compiling() and not bool(begins.any()):
        return None
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    latest = torch.where(begins, places, -1).cummax(1).values
    return torch.where(latest < 0, FAR, places - latest)
