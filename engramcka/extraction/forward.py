"""Forward passes over the passages of a range of samples: rows of hidden states, and read-outs.

A batch that does not fit the device's memory is halved, and so are those after it; where ranks hold
the model as one it cannot be, since the others would wait within it, and batches are smaller. What
a batch gives is sent to the host while the next one runs. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from engramcka.data import Passages
from engramcka.distributed import ALONE, World
from engramcka.errors import DataError
from engramcka.extraction.batching import length_batches, pad
from engramcka.extraction.hooks import ResidualStream
from engramcka.extraction.rows import BlockRows
from engramcka.models import find_blocks
from engramcka.ram import out_of_memory

TOKEN_BUDGET = {"cpu": 4096, "cuda": 65536}  # padded tokens a forward pass, to begin with
_SHARED_BUDGET = 16384  # at most, through a model that ranks hold as one

_LOOK = 2  # tokens that a hidden state's width and dtype are read off

Indices = npt.NDArray[np.int64]


class Readout(Protocol):
    """Something read off hidden states on the device, in the pass that makes them."""

    columns: Mapping[str, int]  # array name -> columns

    def __call__(self, hidden: Mapping[int, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Every block's output at each sample's last token in, name -> (rows, columns) out.

        Args:
            hidden: block number -> (rows, width); (rows, streams, width) of a model with several
                residual streams.
        """
        ...


@dataclass(frozen=True)
class Rows:
    """What one batch gives, on its way to the host."""

    index: torch.Tensor  # (rows,) places in the range of samples
    hidden: dict[int, torch.Tensor]  # block number -> (rows, width)
    readouts: dict[str, torch.Tensor]  # array name -> (rows, columns) float32
    ready: torch.cuda.Event | None  # the copies are there; None where there was nothing to copy


class ForwardPass:
    """A model over passages, a range of samples at a time.

    Args:
        model: a causal LM in eval mode, on its device.
        passages: placed samples.
        stream: the hooks that take hidden states out of it.
        pad_id: token id to pad with (it is masked).
        readout: what else is read; None for hidden states alone.
        as_one: the ranks that hold the model as one; all of them run the same passes.
    """

    def __init__(
        self,
        model: Any,
        passages: Passages,
        stream: ResidualStream,
        pad_id: int,
        readout: Readout | None = None,
        as_one: World = ALONE,
    ) -> None:
        self._model, self._passages, self._pad_id = model, passages, pad_id
        self._readout = readout
        self._stream = stream
        self._rows = BlockRows(find_blocks(model).modules) if readout is not None else None
        self._device = next(model.parameters()).device
        self._copies = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self.budget = TOKEN_BUDGET[self._device.type]
        self._as_one = as_one
        if as_one.size > 1:
            self.budget = min(self.budget, _SHARED_BUDGET)

    def run(self, start: int, stop: int) -> Iterator[Rows]:
        """The samples from start to stop, a batch at a time, in an order that lengths decide.

        Raises:
            DataError: a single passage does not fit the device's memory.
        """
        wanted = self._passages.passage[start:stop]
        numbers = np.unique(wanted)
        lengths = [len(self._passages.ids[number]) for number in numbers.tolist()]
        left = [numbers[batch] for batch in length_batches(lengths, self.budget)]
        while left:
            batch = left.pop(0)
            if self._tokens(batch) > self.budget and len(batch) > 1:
                left[:0] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
                continue
            self._as_one.step()
            try:
                rows = self._forward(batch, wanted, start)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                self._shrink(batch, error)
                left.insert(0, batch)
            else:
                yield rows

    def look(self) -> dict[int, torch.Tensor]:
        """Each point's (1, width) at the first sample's first token: its width and dtype."""
        ids, mask = pad([self._passages.ids[self._passages.passage[0]][:_LOOK]], self._pad_id)
        first = torch.zeros(1, dtype=torch.int64)
        with torch.no_grad(), self._stream.capture(first, first, first):
            self._model(input_ids=self._to(ids), attention_mask=self._to(mask), use_cache=False)
        return self._stream.selected

    def _tokens(self, batch: Indices) -> int:
        """Padded tokens of a batch."""
        return len(batch) * max(len(self._passages.ids[number]) for number in batch.tolist())

    def _shrink(self, batch: Indices, error: RuntimeError) -> None:
        if self._as_one.size > 1:
            raise DataError(
                f"out of memory on {self._device} with a batch of {self._tokens(batch)} tokens "
                "through a model that ranks hold as one; give it more ranks, or a smaller dtype"
            ) from error
        if len(batch) == 1:
            length = self._tokens(batch)
            raise DataError(
                f"out of memory on {self._device} with one passage of {length} tokens; lower "
                "data.max_length, or use a smaller dtype or a larger device"
            ) from error
        self.budget = max(1, self._tokens(batch) // 2)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _forward(self, numbers: Indices, wanted: Indices, start: int) -> Rows:
        place = {number: index for index, number in enumerate(numbers.tolist())}
        rows = np.flatnonzero(np.isin(wanted, numbers))
        sequence = np.array([place[number] for number in wanted[rows].tolist()], dtype=np.int64)
        first, last = self._passages.first[start + rows], self._passages.last[start + rows]
        spans = [torch.from_numpy(array) for array in (sequence, first, last)]
        ids, mask = pad([self._passages.ids[number] for number in numbers.tolist()], self._pad_id)
        batch = {"input_ids": self._to(ids), "attention_mask": self._to(mask), "use_cache": False}
        with torch.no_grad():
            before = nullcontext() if self._rows is None else self._rows.capture(*spans[::2])
            with before, self._stream.capture(*spans):
                self._model(**batch)
            read = self._read(batch, *spans[::2])
        return self._to_host(torch.from_numpy(rows), self._stream.selected, read)

    def _read(
        self, batch: Mapping[str, Any], sequence: torch.Tensor, token: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        if self._readout is None or self._rows is None:
            return {}
        if not self._rows.complete:  # what is stored ended the pass before the last block
            with self._rows.capture(sequence, token, stop=True):
                self._model(**batch)
        return dict(self._readout(self._rows.selected))

    def _to_host(
        self,
        index: torch.Tensor,
        hidden: Mapping[int, torch.Tensor],
        read: Mapping[str, torch.Tensor],
    ) -> Rows:
        if self._copies is None:
            return Rows(index, dict(hidden), dict(read), None)
        self._copies.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._copies):
            host_hidden = {layer: self._pinned(value) for layer, value in hidden.items()}
            host_read = {name: self._pinned(value) for name, value in read.items()}
            return Rows(index, host_hidden, host_read, self._copies.record_event())

    def _pinned(self, value: torch.Tensor) -> torch.Tensor:
        assert self._copies is not None
        host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        host.copy_(value, non_blocking=True)
        value.record_stream(self._copies)
        return host

    def _to(self, array: npt.NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)


class Chunk:
    """The rows of one chunk of samples, gathered on the host.

    Args:
        size: samples.
        layers: the layers that are kept; others are there for a read-out alone.
    """

    def __init__(self, size: int, layers: Collection[int] = ()) -> None:
        self._size, self._layers = size, layers
        self._arriving: Rows | None = None
        self._hidden: dict[int, torch.Tensor] = {}
        self._readouts: dict[str, torch.Tensor] = {}

    def add(self, rows: Rows) -> None:
        """Take a batch's rows, which need not have arrived: those of the one before are placed."""
        self._place()
        self._arriving = rows

    def gather(self) -> tuple[dict[int, torch.Tensor], dict[str, torch.Tensor]]:
        """Hidden states (size, width) by block, and read-outs (size, columns) by name."""
        self._place()
        return self._hidden, self._readouts

    def _place(self) -> None:
        rows, self._arriving = self._arriving, None
        if rows is None:
            return
        if rows.ready is not None:
            rows.ready.synchronize()
        for layer in self._layers:
            self._put(self._hidden, layer, rows.hidden[layer], rows.index)
        for name, value in rows.readouts.items():
            self._put(self._readouts, name, value.float(), rows.index)

    def _put(
        self, target: dict[Any, torch.Tensor], key: Any, value: torch.Tensor, index: torch.Tensor
    ) -> None:
        if key not in target:
            target[key] = torch.empty(self._size, *value.shape[1:], dtype=value.dtype)
        target[key][index] = value
