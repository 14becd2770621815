"""Validation loss: mean next-token cross-entropy over held-out sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engramcka.training import ranks


def validation_loss(model: Any, sequences: npt.NDArray[np.int64], batch_size: int) -> float:
    """Mean next-token cross-entropy over all sequences, nats a token, as `sequence_losses`."""
    return float(sequence_losses(model, sequences, batch_size).mean())


def sequence_losses(
    model: Any, sequences: npt.NDArray[np.int64], batch_size: int
) -> npt.NDArray[np.float64]:
    """Mean next-token cross-entropy of each sequence, nats a token, summed in float64.

    Ranks that train one model together share the sequences out and all get all of them.

    Args:
        model: a causal LM; it is left in evaluation mode.
        sequences: (count, length) token ids; each predicts its tokens 2 to length.
        batch_size: sequences a forward pass; the result does not depend on it but for rounding.

    Returns:
        (count,) float64.
    """
    model.eval()
    rank, count = ranks.place()
    found = torch.zeros(len(sequences), dtype=torch.float64, device=model.device)
    mine = np.arange(rank, len(sequences), count)
    for start in range(0, len(mine), batch_size):
        some = mine[start : start + batch_size]
        ids = torch.from_numpy(sequences[some]).to(model.device)
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        found[torch.from_numpy(some).to(found.device)] = losses.double().view(len(some), -1).mean(1)
    return ranks.total(found).cpu().numpy()
