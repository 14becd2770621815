"""Forward passes over the passages of a range of samples: rows of hidden states, and read-outs.

Passages of similar length go through the model together, under a budget of tokens, those of a
causal model only as far as their last wanted token. The order follows from the lengths alone, so
that a run that was stopped and started again makes the same batches. A batch that does not fit
the device's memory is halved, and so are those after it. Under tensor parallelism it cannot be
halved, since the other ranks would wait within it; batches are smaller there from the start. The
rows of a batch are copied to the host while the next one runs.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from engramcka.data import Passages
from engramcka.distributed import ALONE, World
from engramcka.errors import DataError
from engramcka.extraction.batching import (
    BATCH_COST,
    BY_LENGTH,
    CUT,
    TOKEN_BUDGET,
    WHOLE,
    Indices,
    Plan,
    least_waste,
    length_batches,
    pad,
)
from engramcka.extraction.causality import is_causal, needs_no_mask
from engramcka.extraction.residual_stream import ResidualStream, Spans, sent
from engramcka.models import find_blocks
from engramcka.models.hooks import CapturePoint, PassHooks
from engramcka.ram import out_of_memory

_SHARED_BUDGET = 16384  # at most, through a model that ranks hold as one

_PROBE_TOKENS = 2  # of the pass that shows a hidden state's width and dtype


class Readout(Protocol):
    """Something computed from hidden states on the device, in the pass that makes them."""

    columns: Mapping[str, int]  # array name -> columns

    def __call__(self, hidden: Mapping[int, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Every block's output at each sample's last token in, name -> (rows, columns) out.

        Args:
            hidden: block number -> (rows, width); (rows, streams, width) of a model with several
                residual streams.
        """
        ...


@dataclass(frozen=True)
class BatchRows:
    """What one batch gives, on its way to the host."""

    index: torch.Tensor  # (rows,) places in the range of samples
    hidden: dict[int, torch.Tensor]  # block number -> (rows, width)
    readouts: dict[str, torch.Tensor]  # array name -> (rows, columns) float32
    ready: tuple[torch.cuda.Event, ...]  # when all have passed, the copies are there


class ForwardPass:
    """A model over passages, a range of samples at a time.

    Args:
        model: a causal LM in eval mode, on its device.
        passages: samples with their tokens.
        stream: the hooks that take hidden states out of it.
        pad_id: token id to pad with (it is masked).
        readout: what else is read; None for hidden states alone.
        as_one: the ranks that hold the model as one; all of them run the same passes.

    Attributes:
        plan: how batches are made; of a store that was begun, what it says.
        budget: padded tokens of a batch at most.
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
        blocks = find_blocks(model).modules if readout is not None else ()
        self._blocks = dict(enumerate(blocks, start=1))  # what the read-out reads
        self._device = next(model.parameters()).device
        self._copies: dict[torch.device, torch.cuda.Stream] = {}
        self.budget = TOKEN_BUDGET[self._device.type]
        self.plan: Plan = WHOLE
        self._is_unmasked = False  # a mask keeps attention from its fastest kernels
        self._as_one = as_one
        if as_one.size > 1:
            self.budget = min(self.budget, _SHARED_BUDGET)

    def run(self, start: int, stop: int) -> Iterator[BatchRows]:
        """The samples from start to stop, a batch at a time, in an order that lengths decide.

        Raises:
            DataError: a single passage does not fit the device's memory.
        """
        wanted = self._passages.passage[start:stop]
        ends = self._ends(start, stop)
        left = self._batches(ends)
        while left:
            batch = left.pop(0)
            tokens = len(batch) * max(ends[number] for number in batch.tolist())
            if tokens > self.budget and len(batch) > 1:
                left[:0] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
                continue
            self._as_one.step()
            rows = None
            try:
                rows = self._forward(batch, ends, wanted, start)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                self._require_divisible(len(batch), tokens, error)
            if rows is not None:
                yield rows
                continue
            self.budget = max(1, tokens // 2)
            self._free()  # only here, where the error no longer holds what the pass had made
            left.insert(0, batch)

    def choose_plan(self, points: Mapping[int, CapturePoint]) -> None:
        """Cut passages after their last wanted token, and give no mask, where the model allows it.

        Under tensor parallelism all ranks call this.

        Args:
            points: where hidden states are taken.
        """
        read: dict[Any, CapturePoint | torch.nn.Module] = {
            ("block", number): block for number, block in self._blocks.items()
        }
        read.update(points)
        self.plan = CUT if is_causal(self._model, read, self._passages.ids) else WHOLE
        is_gpu = self._device.type != "cpu"  # on a CPU a mask costs nothing
        self._is_unmasked = is_gpu and needs_no_mask(self._model, read, self._pad_id)

    def probe(self) -> dict[int, torch.Tensor]:
        """Each point's hidden state, (1, width), at one token, to learn its width and dtype."""
        ids, mask = pad(
            [self._passages.ids[self._passages.passage[0]][:_PROBE_TOKENS]], self._pad_id
        )
        first = torch.zeros(1, dtype=torch.int64)
        with torch.no_grad(), self._stream.capture(first, first, first):
            self._model(**self._given(ids, mask))
        return self._stream.selected

    def _ends(self, start: int, stop: int) -> dict[int, int]:
        """Passages of the samples from start to stop, ascending: how many tokens are run."""
        wanted = self._passages.passage[start:stop]
        if self.plan == CUT:
            return self._last_tokens(wanted, self._passages.last[start:stop])
        return {number: len(self._passages.ids[number]) for number in np.unique(wanted).tolist()}

    @staticmethod
    def _last_tokens(passage: Indices, last: Indices) -> dict[int, int]:
        """Passages, ascending: how many tokens there are up to the last that is wanted of each."""
        numbers, place = np.unique(passage, return_inverse=True)
        ends = np.zeros(len(numbers), dtype=np.int64)
        np.maximum.at(ends, place, last + 1)
        return dict(zip(numbers.tolist(), ends.tolist(), strict=True))

    def _batches(self, ends: Mapping[int, int]) -> list[Indices]:
        """Numbers of the passages that run together."""
        numbers, lengths = np.array(list(ends)), list(ends.values())
        if self.plan == BY_LENGTH:
            return [numbers[batch] for batch in length_batches(lengths, self.budget)]
        cost = BATCH_COST[self._device.type]
        return [numbers[batch] for batch in least_waste(lengths, self.budget, cost)]

    def _require_divisible(self, passages: int, tokens: int, error: RuntimeError) -> None:
        """Refuse to go on where a batch that memory has no room for cannot be made smaller."""
        if self._as_one.size > 1:
            raise DataError(
                f"out of memory on {self._device} with a batch of {tokens} tokens "
                "through a model that ranks hold as one; give it more ranks, or a smaller dtype"
            ) from error
        if passages == 1:
            raise DataError(
                f"out of memory on {self._device} with one passage of {tokens} tokens; lower "
                "data.max_length, or use a smaller dtype or a larger device"
            ) from error

    def _free(self) -> None:
        """Give back the memory of a pass that failed."""
        self._stream.selected = {}
        if self._device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()

    def _forward(
        self, numbers: Indices, ends: Mapping[int, int], wanted: Indices, start: int
    ) -> BatchRows:
        place = {number: index for index, number in enumerate(numbers.tolist())}
        rows = np.flatnonzero(np.isin(wanted, numbers))
        sequence = np.array([place[number] for number in wanted[rows].tolist()], dtype=np.int64)
        first, last = self._passages.first[start + rows], self._passages.last[start + rows]
        spans = Spans(*(torch.from_numpy(array) for array in (sequence, first, last)))
        passages = [self._passages.ids[number][: ends[number]] for number in numbers.tolist()]
        ids, mask = pad(passages, self._pad_id)
        needs_mask = not self._is_unmasked or self.plan != CUT
        batch = self._given(ids, mask if needs_mask else None, spans)
        with torch.no_grad():
            outputs = self._block_outputs(spans)
            with outputs, self._stream.capture_spans(spans):
                self._model(**batch)
            if not outputs.complete:  # what is stored ended the pass before the last block
                outputs = self._block_outputs(spans, end=True)
                with outputs:
                    self._model(**batch)
            read = {} if self._readout is None else self._readout(outputs.found)
        return self._to_host(torch.from_numpy(rows), self._stream.selected, read)

    def _given(
        self, ids: Indices, mask: Indices | None, spans: Spans | None = None
    ) -> dict[str, Any]:
        """What the model is called with; spans go to its device in the same copy."""
        parts = [torch.from_numpy(part) for part in (ids, mask) if part is not None]
        flat = [part.flatten() for part in parts]
        if spans is not None:
            flat.append(spans.numbers)
        there = list(sent(torch.cat(flat), self._device).split([len(part) for part in flat]))
        if spans is not None:
            spans.keep(there.pop())
        given = [part.view(ids.shape) for part in there]
        return {
            "input_ids": given[0],
            "attention_mask": given[1] if mask is not None else None,
            "use_cache": False,
        }

    def _block_outputs(self, spans: Spans, *, end: bool = False) -> PassHooks[int, torch.Tensor]:
        """Hooks that keep each block's output at spans' last tokens, as the next block takes it.

        (rows, width), or (rows, streams, width), whatever the store keeps. No hooks where nothing
        is read out.

        Args:
            spans: of the batch.
            end: end the pass after the last block.
        """

        def select(_number: int, hidden: torch.Tensor) -> torch.Tensor:
            return spans.last_of(hidden.detach())

        return PassHooks(self._blocks, select, end=end)

    def _to_host(
        self,
        index: torch.Tensor,
        hidden: Mapping[int, torch.Tensor],
        read: Mapping[str, torch.Tensor],
    ) -> BatchRows:
        if self._device.type == "cpu":
            return BatchRows(index, dict(hidden), dict(read), ())
        stacked = _stacked(hidden)
        if read:  # of one float type and as many rows each
            widths = [value.shape[1] for value in read.values()]
            whole = torch.cat([value.float() for value in read.values()], dim=1)
            stacked = {**stacked, tuple(read): whole}
        devices = {value.device for value in stacked.values()}
        for device in devices:  # of a model on several, rows may come from any
            copies = self._copies.setdefault(device, torch.cuda.Stream(device))
            copies.wait_stream(torch.cuda.current_stream(device))
        found = {names: self._pinned(value) for names, value in stacked.items()}
        ready = tuple(self._copies[device].record_event() for device in devices)
        host_read = {}
        if read:
            host_read = dict(zip(read, found.pop(tuple(read)).split(widths, dim=1), strict=True))
        host_hidden = {
            layer: value
            for layers, values in found.items()
            for layer, value in zip(layers, values.unbind(), strict=True)
        }
        return BatchRows(index, host_hidden, host_read, ready)

    def _pinned(self, value: torch.Tensor) -> torch.Tensor:
        """Its copy on the host once the stream of copies has come there; memory is used again."""
        copies = self._copies[value.device]
        with torch.cuda.stream(copies):
            host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            host.copy_(value, non_blocking=True)
        value.record_stream(copies)
        return host


def _stacked(hidden: Mapping[int, torch.Tensor]) -> dict[tuple[Any, ...], torch.Tensor]:
    """Layers of one shape, dtype and device together, one tensor (layers, rows, width) for each."""
    alike: dict[Any, list[int]] = {}
    for layer, value in hidden.items():
        alike.setdefault((value.shape, value.dtype, value.device), []).append(layer)
    return {
        tuple(layers): torch.stack([hidden[layer] for layer in layers]) for layers in alike.values()
    }


class Chunk:
    """The rows of one chunk of samples, gathered on the host.

    Args:
        size: samples.
        layers: the layers that are kept; others are there for a read-out alone.
    """

    def __init__(self, size: int, layers: Collection[int] = ()) -> None:
        self._size, self._layers = size, layers
        self._arriving: BatchRows | None = None
        self._hidden: dict[int, torch.Tensor] = {}
        self._readouts: dict[str, torch.Tensor] = {}

    def add(self, rows: BatchRows) -> None:
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
        for event in rows.ready:
            event.synchronize()
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
