"""Validation loss: mean next-token cross-entropy over held-out sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engramcka.training import ranks


def validation_loss(model: Any, sequences: npt.NDArray[np.int64], batch_size: int) -> float:
    """Mean next-token cross-entropy over all sequences, nats a token, summed in float64.

    Ranks that train one model together share the sequences out and all get the mean.

    Args:
        model: a causal LM; it is left in evaluation mode.
        sequences: (count, length) token ids; each predicts its tokens 2 to length.
        batch_size: sequences a forward pass; the result does not depend on it but for rounding.
    """
    model.eval()
    rank, count = ranks.place()
    mine = sequences[rank::count]
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    for start in range(0, len(mine), batch_size):
        ids = torch.from_numpy(mine[start : start + batch_size]).to(model.device)
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        total += losses.double().sum()
    return float(ranks.total(total)) / (len(sequences) * (sequences.shape[1] - 1))
