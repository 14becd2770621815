"""The extraction loop: a model and placed samples in, one activation store out.

Works through the store's chunks of samples in order. A chunk is the passages of its samples, in
batches alike in length, and is written whole and then marked complete: a run that is killed loses
the chunk in flight, and the store that it leaves, once filled up, is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engramcka.data import Passages
from engramcka.errors import DataError
from engramcka.extraction.batching import length_batches, pad
from engramcka.extraction.hooks import STREAMS, ResidualStream
from engramcka.models import find_blocks
from engramcka.stores import ActivationStore, create_activations, open_activations

TOKEN_BUDGET = {"cpu": 4096, "cuda": 65536}  # padded tokens a forward pass

_DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


def extract(
    model: Any,
    passages: Passages,
    path: Path,
    *,
    pad_id: int,
    attributes: Mapping[str, Any],
    inputs: Mapping[str, Any],
    on_rows: Callable[[int, int], None],
) -> ActivationStore:
    """Fill a model's store with the residual stream after every block, at every sample's token.

    Args:
        model: a causal LM in eval mode, on its device.
        passages: placed samples; a row of the store each.
        path: the store; made if it is not there, else filled up.
        pad_id: token id to pad with (it is masked).
        attributes: JSON, kept in the store: provenance.
        inputs: JSON, kept in the store: all that the hidden states are made from.
        on_rows: called with (rows done, rows in all).

    Raises:
        DataError: no sample could be placed.
    """
    if not len(passages.samples):
        raise DataError("data: not one entity could be placed; data.max_length may be too small")
    blocks = dict(enumerate(find_blocks(model).modules, start=1))
    chunk = _Chunk(model, passages, blocks, pad_id)
    if path.exists():
        store = open_activations(path, mode="r+")
    else:
        some = next(iter(chunk.run(0, 1).values()))
        if some.dtype not in _DTYPES:
            raise DataError(f"{path}: hidden states in {some.dtype}; set the model's dtype")
        store = create_activations(
            path,
            layers=list(blocks),
            width=some.shape[1],
            dtype=_DTYPES[some.dtype],
            samples=passages.samples.columns(),
            attributes={**attributes, "skipped": passages.skipped, "streams": STREAMS},
            inputs=inputs,
        )
    missing = store.missing()
    chunk.done = store.n_samples - sum(stop - start for start, stop in missing)
    for start, stop in missing:
        rows = chunk.run(start, stop, on_rows=lambda done: on_rows(done, store.n_samples))
        store.write(start, {layer: _words(value) for layer, value in rows.items()})
    return store


class _Chunk:
    """Forward passes over the passages of a range of samples."""

    def __init__(
        self, model: Any, passages: Passages, blocks: dict[int, torch.nn.Module], pad_id: int
    ) -> None:
        self._model, self._passages, self._pad_id = model, passages, pad_id
        self._stream = ResidualStream(blocks)
        self._device = next(model.parameters()).device
        self.done = 0  # samples that have gone through, or were there before

    def run(
        self, start: int, stop: int, on_rows: Callable[[int], None] = lambda done: None
    ) -> dict[int, torch.Tensor]:
        """Block number -> (stop - start, width) hidden states on the CPU."""
        wanted = self._passages.passage[start:stop]
        numbers = np.unique(wanted)
        lengths = [len(self._passages.ids[number]) for number in numbers.tolist()]
        out: dict[int, torch.Tensor] = {}
        for batch in length_batches(lengths, TOKEN_BUDGET[self._device.type]):
            rows, hidden = self._forward(numbers[batch], wanted, start)
            for layer, value in hidden.items():
                if layer not in out:
                    out[layer] = torch.empty(stop - start, value.shape[1], dtype=value.dtype)
                out[layer][torch.from_numpy(rows)] = value.cpu()
            self.done += len(rows)
            on_rows(self.done)
        return out

    def _forward(
        self, numbers: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64], start: int
    ) -> tuple[npt.NDArray[np.int64], dict[int, torch.Tensor]]:
        """One batch: rows of the chunk that stand in it, and their hidden states."""
        place = {number: index for index, number in enumerate(numbers.tolist())}
        rows = np.flatnonzero(np.isin(wanted, numbers))
        sequence = np.array([place[number] for number in wanted[rows].tolist()], dtype=np.int64)
        first = self._to(self._passages.first[start + rows])
        last = self._to(self._passages.last[start + rows])
        ids, mask = pad([self._passages.ids[number] for number in numbers.tolist()], self._pad_id)
        with torch.no_grad(), self._stream.capture(self._to(sequence), first, last):
            self._model(input_ids=self._to(ids), attention_mask=self._to(mask), use_cache=False)
        return rows, self._stream.selected

    def _to(self, array: npt.NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)


def _words(value: torch.Tensor) -> npt.NDArray[Any]:
    """A CPU tensor as NumPy; bfloat16, which NumPy lacks, as its 16-bit words."""
    value = value.contiguous()
    return value.view(torch.uint16).numpy() if value.dtype == torch.bfloat16 else value.numpy()
