"""The lens as something that is read off hidden states in the extraction's own pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engramcka.lens.divergence import READINGS, read_layers
from engramcka.lens.head import read_head

NAME = "lens"
"""What the read-out is called in a store."""

VERSION = 1
"""Grows when the numbers change, so that those of an older version are read anew."""


class LensReadout:
    """Readings of every block at the rows of one forward pass.

    Args:
        model: a causal LM in eval mode, on its device.
        ids: (tokens,) int64 of some text, to hold the read-out against the model's own logits.
        layers: how many blocks are read.

    Raises:
        ConfigError: as `engramcka.lens.head.read_head`.
    """

    def __init__(self, model: Any, ids: Tensor, layers: int) -> None:
        self._head = read_head(model, ids.to(next(model.parameters()).device))
        self.columns: dict[str, int] = dict.fromkeys(READINGS, layers)

    @torch.no_grad()
    def __call__(
        self, hidden: Mapping[int, Tensor], ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Readings of the rows, name -> (rows, layers) float32.

        Args:
            hidden: block number -> residual stream at the rows, (rows, width) or, of a model with
                several streams, (rows, streams, width).
            ids: not looked at; other read-outs do.
        """
        found = read_layers(hidden, self._head)
        return {name: value.float() for name, value in found.items()}
