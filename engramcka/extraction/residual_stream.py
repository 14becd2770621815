"""Hidden states at chosen points of a model and at chosen token positions only.

Captured by forward hooks. After a block that is what leaves it and enters the next, never the
output of the model's final norm (which is what the last entry of transformers' `hidden_states`
is). Nothing after the last of these points is run: neither the blocks behind it, nor the final
norm, nor the LM head, whose product over the vocabulary can cost as much as several blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch

from engramcka.errors import ConfigError
from engramcka.models.hooks import CapturePoint, PassHooks
from engramcka.pinned import sent

STREAMS = "mean"
"""What is made of a model's parallel residual streams, where it has several."""


class Spans:
    """Spans of tokens in a padded batch; averages hidden states over them on the device.

    Made from tensors on the CPU, so that nothing waits for the device; a device is sent all of them
    once.

    Args:
        sequence: (rows,) int64, index in the batch.
        first: (rows,) int64, first token of the span.
        last: (rows,) int64, its last token.
    """

    def __init__(self, sequence: torch.Tensor, first: torch.Tensor, last: torch.Tensor) -> None:
        self._batch, self._tokens = int(sequence.max()) + 1, int(last.max()) + 1
        self._is_points = bool((first == last).all())
        parts = [sequence, last]
        if not self._is_points:
            lengths = last - first + 1
            row = torch.repeat_interleave(lengths)
            starts = lengths.cumsum(0) - lengths
            token = first[row] + torch.arange(len(row)) - starts[row]
            parts += [lengths, sequence[row], token]
        self._sizes = [len(part) for part in parts]
        self.numbers = torch.cat(parts)  # on the CPU
        self._sent: dict[torch.device, list[torch.Tensor]] = {}
        self.keep(self.numbers)

    def keep(self, numbers: torch.Tensor) -> None:
        """Use ``numbers`` that were sent to a device there."""
        self._sent[numbers.device] = list(numbers.split(self._sizes))

    def fit(self, hidden: torch.Tensor) -> bool:
        """Whether a tensor's first two dimensions can be (batch, tokens)."""
        return hidden.shape[0] >= self._batch and hidden.shape[1] >= self._tokens

    def last_of(self, hidden: torch.Tensor) -> torch.Tensor:
        """(rows, ...) of (batch, tokens, ...) at each span's last token, bit for bit."""
        sequence, last, *_ = self._on(hidden.device)
        return hidden[sequence, last]

    def mean_of(self, hidden: torch.Tensor) -> torch.Tensor:
        """(rows, ...) means of (batch, tokens, ...) over the spans, summed in float32."""
        if self._is_points:
            return self.last_of(hidden)
        _, _, lengths, sequence, token = self._on(hidden.device)
        found = hidden[sequence, token]
        means = torch.segment_reduce(found.float(), "mean", lengths=lengths, unsafe=True)
        return means.to(hidden.dtype)

    def _on(self, device: torch.device) -> list[torch.Tensor]:
        if device not in self._sent:
            self.keep(sent(self.numbers, device))
        return self._sent[device]


class ResidualStream:
    """Hooks on points of a model that keep the rows asked for of what passes there.

    Use `capture_spans` around one forward pass, which it ends once all points have been passed;
    `selected` then holds one tensor a point, all on the device of the first.

    Args:
        points: layer number -> a point, or a module for what leaves it.
        streams: of several parallel residual streams, "mean", "sum", "concat", or one by its
            number from "0".
    """

    def __init__(
        self, points: Mapping[int, CapturePoint | torch.nn.Module], streams: str = STREAMS
    ) -> None:
        self._points, self._streams = points, streams
        self.selected: dict[int, torch.Tensor] = {}

    def capture(
        self, sequence: torch.Tensor, first: torch.Tensor, last: torch.Tensor
    ) -> AbstractContextManager[None]:
        """`capture_spans` of what `Spans` takes."""
        return self.capture_spans(Spans(sequence, first, last))

    @contextmanager
    def capture_spans(self, spans: Spans) -> Iterator[None]:
        """Keep, of each point's (batch, tokens, width) hidden state, the mean over each span.

        Several residual streams, (batch, tokens, streams, width), are made one as `streams` says.
        A span of a single token is kept bit for bit.

        Raises:
            ConfigError: what passes a point has another shape, or the pass did not come there.
        """
        select = partial(self._select, spans=spans)
        hooks = PassHooks(self._points, select, end=True)
        self.selected = hooks.found
        with hooks:
            yield
            self._require_all()

    def _select(self, number: int, hidden: Any, spans: Spans) -> torch.Tensor:
        if number in self.selected:
            raise ConfigError(f"layer {number}: its module runs more than once in a pass")
        _check_shape(number, hidden, spans)
        rows = spans.mean_of(hidden.detach())
        rows = _one_stream(rows, self._streams)
        first = next(iter(self.selected.values()), rows)
        return rows.to(first.device)  # of a model on several devices, one

    def _require_all(self) -> None:
        unseen = [str(number) for number in self._points if number not in self.selected]
        raise ConfigError(f"layers {', '.join(unseen)}: their modules do not run in a forward pass")


def _check_shape(number: int, hidden: Any, spans: Spans) -> None:
    """Refuse what is not (batch, tokens, width) or (batch, tokens, streams, width)."""
    shape = tuple(hidden.shape) if isinstance(hidden, torch.Tensor) else type(hidden).__name__
    if not isinstance(hidden, torch.Tensor) or hidden.dim() not in (3, 4) or not spans.fit(hidden):
        raise ConfigError(
            f"layer {number}: what passes there is {shape}, not (batch, tokens, width); name "
            "another point"
        )


def _one_stream(rows: torch.Tensor, streams: str) -> torch.Tensor:
    """(rows, streams, width) as (rows, width), or (rows, streams * width) for "concat".

    Args:
        rows: of one stream (rows, width), which stays as it is.
        streams: as in `ResidualStream`.
    """
    number = rows.shape[1] if rows.dim() == 3 else 1
    if streams.isdecimal() and int(streams) >= number:
        raise ConfigError(
            f"streams = {streams!r}: "
            + (
                f"the model has {number} residual streams; allowed: '0' to '{number - 1}'"
                if number > 1
                else "what is stored of this model is one stream; leave the key out"
            )
        )
    if rows.dim() == 2:
        return rows
    if streams == "mean":
        return rows.mean(dim=1)
    if streams == "sum":
        return rows.sum(dim=1)
    if streams == "concat":
        return rows.flatten(1)
    return rows[:, int(streams)]
