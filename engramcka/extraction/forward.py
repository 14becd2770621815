"""Forward passes over the passages of a range of samples: rows of hidden states, and read-outs.

Passages of similar length go through the model together, under a budget of tokens, those of a
causal model only as far as their last wanted token; on a GPU they stand one behind the other in
rows where the model keeps them apart. The batches follow from the lengths alone, so that a run that
was stopped and started again makes the same. One that does not fit the device's memory is halved,
and so are those after it that are not smaller, which would not fit either: what is halved does not
depend on where a run began, given the same memory. Under tensor parallelism a batch cannot be
halved, since the other ranks would wait within it; batches are smaller there from the start. The
rows of a batch are copied to the host while the next one runs.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch

from engramcka.data import Passages
from engramcka.distributed import ALONE, World
from engramcka.errors import DataError
from engramcka.extraction.batching import (
    CUT,
    PACKED,
    TOKEN_BUDGET,
    WHOLE,
    Batch,
    Indices,
    Plan,
    lay_out,
    pad,
    plan_batches,
)
from engramcka.extraction.causality import is_causal, keeps_apart, needs_no_mask
from engramcka.extraction.packing import chunk_samples
from engramcka.extraction.residual_stream import ResidualStream, Spans
from engramcka.extraction.rows import BatchRows, ToHost
from engramcka.models import find_blocks
from engramcka.models.hooks import CapturePoint, PassHooks
from engramcka.pinned import sent
from engramcka.ram import out_of_memory
from engramcka.stores import layout

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
        too_large: tokens of the smallest batch that memory had no room for; infinity if all fitted.
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
        self._read: dict[Any, CapturePoint | torch.nn.Module] = {
            ("block", number): block for number, block in self._blocks.items()
        }
        self._device = next(model.parameters()).device
        self._to_host = ToHost()
        self.too_large: float = math.inf
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
        left = plan_batches(self.plan, ends, self._device.type, self.budget)
        while left:
            batch = left.pop(0)
            halves = batch.halves()
            if batch.tokens >= self.too_large and halves is not None:
                left[:0] = halves
                continue
            self._as_one.step()
            rows = None
            try:
                rows = self._forward(batch, wanted, start)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                self._require_divisible(batch, error)
            if rows is not None:
                yield rows
                continue
            self.too_large = batch.tokens
            self._free()  # only here, where the error no longer holds what the pass had made
            left.insert(0, batch)

    def choose_plan(self, points: Mapping[int, CapturePoint]) -> None:
        """Cut passages after their last wanted token, and give no mask, where the model allows it.

        On a GPU they are packed where the model allows that too. Under tensor parallelism all ranks
        call this.

        Args:
            points: where hidden states are taken.
        """
        self._read.update(points)
        self.plan = CUT if is_causal(self._model, self._read, self._passages.ids) else WHOLE
        if self._device.type == "cpu":  # a mask costs nothing there, and small batches are as good
            return
        self._is_unmasked = needs_no_mask(self._model, self._read, self._pad_id)
        if self._as_one.size == 1 and self._is_unmasked and self._keeps_apart():
            self.plan = PACKED

    def may_pack(self) -> bool:
        """Whether a model whose plan was chosen, and is another, may have passages in one row."""
        return needs_no_mask(self._model, self._read, self._pad_id) and self._keeps_apart()

    def _keeps_apart(self) -> bool:
        """Whether the model gives the same states of passages that stand in one row."""
        is_cut = self.plan == CUT  # so it is causal
        return is_cut and keeps_apart(self._model, self._read, self._passages.ids)

    def chunk_samples(self) -> int:
        """Samples of a chunk of a new store at most, see `engramcka.extraction.packing`."""
        if self.plan != PACKED:
            return layout.CHUNK_SAMPLES
        count = len(self._passages.samples)
        ends = self._ends(0, count)
        return chunk_samples(count, len(ends), sum(ends.values()))

    def probe(self) -> dict[int, torch.Tensor]:
        """Each point's hidden state, (1, width), at one token, to learn its width and dtype."""
        ids, mask = pad(
            [self._passages.ids[self._passages.passage[0]][:_PROBE_TOKENS]], self._pad_id
        )
        first = torch.zeros(1, dtype=torch.int64)
        with torch.no_grad(), self._stream.capture(first, first, first):
            self._model(**self._given(input_ids=ids, attention_mask=mask))
        return self._stream.selected

    def _ends(self, start: int, stop: int) -> dict[int, int]:
        """Passages of the samples from start to stop, ascending: how many tokens are run."""
        wanted = self._passages.passage[start:stop]
        if self.plan in (PACKED, CUT):
            return self._last_tokens(wanted, self._passages.last[start:stop])
        return {number: len(self._passages.ids[number]) for number in np.unique(wanted).tolist()}

    @staticmethod
    def _last_tokens(passage: Indices, last: Indices) -> dict[int, int]:
        """Passages, ascending: how many tokens there are up to the last that is wanted of each."""
        numbers, place = np.unique(passage, return_inverse=True)
        ends = np.zeros(len(numbers), dtype=np.int64)
        np.maximum.at(ends, place, last + 1)
        return dict(zip(numbers.tolist(), ends.tolist(), strict=True))

    def _require_divisible(self, batch: Batch, error: RuntimeError) -> None:
        """Refuse to go on where a batch that memory has no room for cannot be made smaller."""
        if self._as_one.size > 1:
            raise DataError(
                f"out of memory on {self._device} with a batch of {batch.tokens} tokens "
                "through a model that ranks hold as one; give it more ranks, or a smaller dtype"
            ) from error
        if batch.halves() is None:
            raise DataError(
                f"out of memory on {self._device} with one passage of {batch.tokens} tokens; lower "
                "data.max_length, or use a smaller dtype or a larger device"
            ) from error

    def _free(self) -> None:
        """Give back the memory of a pass that failed."""
        self._stream.selected = {}
        if self._device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()

    def _forward(self, batch: Batch, wanted: Indices, start: int) -> BatchRows:
        rows = np.flatnonzero(np.isin(wanted, batch.numbers))
        spans = self._spans(batch, wanted[rows], start + rows)
        given = self._inputs(batch, spans)
        with torch.no_grad():
            outputs = self._block_outputs(spans)
            with outputs, self._stream.capture_spans(spans):
                self._model(**given)
            if not outputs.complete:  # what is stored ended the pass before the last block
                outputs = self._block_outputs(spans, end=True)
                with outputs:
                    self._model(**given)
            read = {} if self._readout is None else self._readout(outputs.found)
        selected, self._stream.selected = self._stream.selected, {}
        return self._to_host(torch.from_numpy(rows), selected, read)

    def _spans(self, batch: Batch, passage: Indices, samples: Indices) -> Spans:
        """Where samples stand in a batch, each in the passage of its number."""
        place: dict[int, tuple[int, int]] = {}
        for index, row in enumerate(batch.rows):
            before = 0
            for number in row.tolist():
                place[number] = (index, before)
                before += batch.ends[number]
        found = np.array([place[number] for number in passage.tolist()], dtype=np.int64)
        first, last = (
            found[:, 1] + place_in[samples]
            for place_in in (self._passages.first, self._passages.last)
        )
        return Spans(*(torch.from_numpy(array) for array in (found[:, 0].copy(), first, last)))

    def _inputs(self, batch: Batch, spans: Spans) -> dict[str, Any]:
        """What the model is called with; spans go to its device in the same copy."""
        passages = [
            [self._passages.ids[number][: batch.ends[number]] for number in row.tolist()]
            for row in batch.rows
        ]
        if self.plan == PACKED:
            ids, positions = lay_out(passages, self._pad_id)
            return self._given(spans, input_ids=ids, position_ids=positions)
        ids, mask = pad([row[0] for row in passages], self._pad_id)
        if self._is_unmasked and self.plan == CUT:
            return self._given(spans, input_ids=ids)
        return self._given(spans, input_ids=ids, attention_mask=mask)

    def _given(self, spans: Spans | None = None, **arrays: Indices) -> dict[str, Any]:
        parts = [torch.from_numpy(part) for part in arrays.values()]
        flat = [part.flatten() for part in parts]
        if spans is not None:
            flat.append(spans.numbers)
        there = list(sent(torch.cat(flat), self._device).split([len(part) for part in flat]))
        if spans is not None:
            spans.keep(there.pop())
        given: dict[str, Any] = {"attention_mask": None, "use_cache": False}
        for name, part, one in zip(arrays, parts, there, strict=True):
            given[name] = one.view(part.shape)
        return given

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
