"""Under tensor parallelism all ranks must see the same hidden states at a capture point.

They do not at points where each rank holds only a part, and such points are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from engramcka.distributed import World
from engramcka.errors import ConfigError

_ROUNDINGS = 64  # of their dtype that values may be apart, as a share of the largest
_MOST = 0.02  # and never more than this share

Hidden = Mapping[int, torch.Tensor]
Values = dict[str, npt.NDArray[np.float32]]


def require_agreement(hidden: Hidden, world: World) -> Hidden:
    """Hidden states, if they are the same on all ranks but for rounding; all of them call this.

    Args:
        hidden: layer -> (rows, width), of the same tokens on every rank.
        world: the ranks.

    Raises:
        ConfigError: they are not; names the layers.
    """
    coarsest = max(torch.finfo(rows.dtype).eps for rows in hidden.values())
    close = min(_ROUNDINGS * coarsest, _MOST)
    values = {str(layer): rows.float().cpu().numpy() for layer, rows in hidden.items()}
    apart = world.meet(values, partial(_differing, close=close))
    if apart:
        raise ConfigError(
            f"parallel = 'tp': ranks see different values at layer {', '.join(apart[:3])}, so each "
            "holds a part; allowed points: block, attention, mlp and others that no rank holds a "
            "part of"
        )
    return hidden


def _differing(by_rank: list[Values], close: float) -> list[str]:
    """Layers whose arrays differ by more than this share of the first rank's largest entry."""
    first, others = by_rank[0], by_rank[1:]
    return [
        layer
        for layer, value in first.items()
        if any(_apart(value, other[layer]) > close * np.abs(value).max() for other in others)
    ]


def _apart(value: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    return float(np.abs(value - other).max()) if value.shape == other.shape else float("inf")
