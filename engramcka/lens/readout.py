"""The lens as something that is read off hidden states in the extraction's own pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engramcka.lens.divergence import READINGS, read_layers
from engramcka.lens.head import read_head
from engramcka.models import find_blocks

PREFIX = "lens_"
"""What the names of its arrays in a store begin with."""


class LensReadout:
    """Readings of every block at the rows of one forward pass.

    Args:
        model: a causal LM in eval mode, on its device.
        ids: (tokens,) of some text, to hold the read-out against the model's own logits.

    Raises:
        ConfigError: as `engramcka.lens.head.read_head`.
    """

    def __init__(self, model: Any, ids: npt.NDArray[np.int64]) -> None:
        tokens = torch.from_numpy(ids).to(next(model.parameters()).device)
        self._head = read_head(model, tokens)
        self.columns: Mapping[str, int] = {
            f"{PREFIX}{name}": len(find_blocks(model).modules) for name in READINGS
        }

    @torch.no_grad()
    def __call__(
        self, hidden: Mapping[int, Tensor], ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Readings of the rows, name -> (rows, layers) float32.

        Args:
            hidden: block number -> residual stream at the rows, (rows, width) or, of a model with
                several streams, (rows, streams, width).
        """
        found = read_layers(hidden, self._head)
        return {f"{PREFIX}{name}": value.float() for name, value in found.items()}
