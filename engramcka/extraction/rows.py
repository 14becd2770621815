"""What every block gives at single tokens, for what is read off in the extraction's own pass.

Whatever the store keeps (averages over spans, one of several streams, some layers), a read-out sees
the residual stream as the next block does. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch


class _AllRead(Exception):
    """The last block has run."""


class BlockRows:
    """Hooks on all blocks of a model that keep the tokens asked for.

    Args:
        blocks: the model's blocks, first to last.
    """

    def __init__(self, blocks: Sequence[torch.nn.Module]) -> None:
        self._blocks = blocks
        self.selected: dict[int, torch.Tensor] = {}

    @property
    def complete(self) -> bool:
        """Whether every block has run since `capture`."""
        return len(self.selected) == len(self._blocks)

    @contextmanager
    def capture(
        self, sequence: torch.Tensor, token: torch.Tensor, *, stop: bool = False
    ) -> Iterator[None]:
        """Keep (rows, width), or (rows, streams, width), of each block's output in `selected`.

        Args:
            sequence: (rows,) int64, index in the batch.
            token: (rows,) int64, its token.
            stop: end the pass after the last block.
        """
        self.selected = {}

        def keep(number: int, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            here = hidden.device
            self.selected[number] = hidden.detach()[sequence.to(here), token.to(here)]
            if stop and number == len(self._blocks):
                raise _AllRead

        handles = [
            block.register_forward_hook(lambda m, i, output, number=number: keep(number, output))
            for number, block in enumerate(self._blocks, start=1)
        ]
        try:
            with suppress(_AllRead):
                yield
        finally:
            for handle in handles:
                handle.remove()
