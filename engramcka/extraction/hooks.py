"""The residual stream after each block, at chosen token positions only.

Captured by forward hooks on the blocks, so it is what leaves a block and enters the next, never
the output of the model's final norm (which is what the last entry of transformers'
`hidden_states` is). Nothing after the last of these blocks is run: neither the blocks behind it,
nor the final norm, nor the LM head, whose product over the vocabulary can cost as much as several
blocks. Knows nothing of files or samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch

STREAMS = "mean"
"""What is made of a model's parallel residual streams, where it has several."""


class _SeenAll(Exception):
    """The last block asked for has run."""


class Spans:
    """Spans of tokens in a padded batch, to average hidden states over on the device.

    Args:
        sequence: (rows,) int64, index in the batch.
        first: (rows,) int64, first token of the span.
        last: (rows,) int64, its last token.
    """

    def __init__(self, sequence: torch.Tensor, first: torch.Tensor, last: torch.Tensor) -> None:
        self._lengths = last - first + 1
        self._points = bool((first == last).all())
        starts = self._lengths.cumsum(0) - self._lengths
        row = torch.repeat_interleave(self._lengths)
        self._sequence = sequence[row]
        self._token = first[row] + torch.arange(len(row), device=row.device) - starts[row]

    def mean_of(self, hidden: torch.Tensor) -> torch.Tensor:
        """(rows, ...) means of (batch, tokens, ...) over the spans, summed in float32."""
        found = hidden[self._sequence, self._token]
        if self._points:
            return found
        sums = torch.segment_reduce(found.float(), "mean", lengths=self._lengths, unsafe=True)
        return sums.to(hidden.dtype)


class ResidualStream:
    """Hooks on blocks that keep the rows asked for of each block's output.

    Use `capture` around one forward pass, which it ends after the last block; `selected` then
    holds one tensor a block, on the model's device.
    """

    def __init__(self, blocks: Mapping[int, torch.nn.Module]) -> None:
        self._blocks = blocks
        self._last = max(blocks)
        self.selected: dict[int, torch.Tensor] = {}

    @contextmanager
    def capture(
        self, sequence: torch.Tensor, first: torch.Tensor, last: torch.Tensor
    ) -> Iterator[None]:
        """Keep, of each block's (batch, tokens, width) output, the mean over each named span.

        A model with several residual streams, (batch, tokens, streams, width), gives their mean.

        Args:
            sequence: (rows,) int64, index in the batch.
            first: (rows,) int64, first token of the span in that sequence.
            last: (rows,) int64, its last token; the same one for a single token, which is kept bit
                for bit.
        """
        self.selected = {}
        spans = Spans(sequence, first, last)
        handles = [
            block.register_forward_hook(self._hook(number, spans))
            for number, block in self._blocks.items()
        ]
        try:
            with suppress(_SeenAll):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, number: int, spans: Spans) -> Any:
        def keep(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            rows = spans.mean_of(hidden.detach())
            self.selected[number] = rows.mean(dim=1) if rows.dim() == 3 else rows
            if number == self._last:
                raise _SeenAll

        return keep
