"""The extraction loop: a model and placed samples in, one activation store out.

Goes through the store's chunks of samples in order. The passages of a chunk's samples run in
batches of similar length, of a causal model up to the last wanted token; the chunk is written in
the background and then marked complete. A run that is killed loses only the chunks in flight, and
its store, once completed, is the same. Several ranks take chunks in turn; under tensor parallelism
they go through all chunks together, and the first rank writes. At most three chunks of all layers
are in host memory at a time, whatever the number of samples: one that is gathered, two that are
written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from engramcka.data import Passages
from engramcka.distributed import ALONE, World
from engramcka.errors import DataError, StoreError
from engramcka.extraction.agreement import require_agreement
from engramcka.extraction.batching import BY_LENGTH, PACKED, PLANS, Plan
from engramcka.extraction.forward import ForwardPass, Readout
from engramcka.extraction.residual_stream import STREAMS, ResidualStream
from engramcka.extraction.rows import Chunk
from engramcka.models import find_blocks, require_stream
from engramcka.models.blocks import capture_points
from engramcka.models.hooks import CapturePoint
from engramcka.stores import ActivationStore, create_activations, open_activations
from engramcka.stores.open import open_or_create, stored_attributes

Nonfinite = Literal["error", "keep"]
Compression = Literal["none", "zstd"]

PLAN = "batches"  # attribute of a store: how its batches are made

WAITING = 2  # jobs running or waiting in a `Writer`; bounds the host memory that they hold

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
    points: Mapping[int, CapturePoint] | None = None,
    streams: str = STREAMS,
    layers: Collection[int] | None = None,
    readout: Readout | None = None,
    nonfinite: Nonfinite = "error",
    compression: Compression = "none",
    chunk_samples: int | None = None,
    world: World = ALONE,
    as_one: World = ALONE,
) -> ActivationStore:
    """Fill a model's store with the residual stream after every block, at every sample's token.

    Damaged chunks of an existing store are computed again.

    Args:
        model: a causal LM in eval mode, on its device.
        passages: samples with their tokens; each is a row of the store.
        path: the store; created if it is not there, else completed.
        pad_id: token id to pad with (it is masked).
        attributes: JSON, kept in the store: provenance.
        inputs: JSON, kept in the store: all that the hidden states are made from.
        on_rows: called with (rows done on all ranks that this one knows of, rows in all).
        points: layer number -> where hidden states are taken; None for after every block.
        streams: how several residual streams become one, see `ResidualStream`.
        layers: of the points, those that are stored; None for all of them, empty where only a
            read-out is wanted.
        readout: computed from every block's output in the same pass, into the store's read-outs.
        nonfinite: "error" stops at a chunk with a NaN or an infinity; "keep" stores it.
        compression: of a new store; lossless.
        chunk_samples: of a new store, see `create_activations`.
        world: the ranks that share the chunks; the first creates the store.
        as_one: the ranks that hold the model together (tensor parallelism); the hidden states are
            then the same as one rank's but for rounding.

    Raises:
        ConfigError: under tensor parallelism, ranks see different values at some point.
        DataError: no sample could be placed, a passage does not fit the device's memory, or a
            hidden state is not finite.
    """
    if not len(passages.samples):
        raise DataError(
            "data: not one sample could be placed; data.max_length may be too small, or "
            "data.skip_first too large"
        )
    if points is None:
        found = capture_points(model)
        points = require_stream(model, found, passages.ids[0], is_chain=True, pad_id=pad_id)
    stored = sorted(points if layers is None else layers)
    if readout is None:
        points = {number: points[number] for number in stored}
    stream = ResidualStream(points, streams)
    forward = ForwardPass(model, passages, stream, pad_id, readout, as_one)
    forward.choose_plan(points)
    tensor_parallel = as_one.size > 1
    probe = forward.probe
    if tensor_parallel:
        probe = partial(dict, require_agreement(forward.probe(), as_one))
    if world.first:
        make = partial(
            _create,
            probe=probe,
            passages=passages,
            layers=stored,
            attributes={"streams": streams, PLAN: _begun(path) or forward.plan, **attributes},
            inputs=inputs,
            readout=readout,
            compression=compression,
            chunk_samples=chunk_samples,
            most_samples=forward.chunk_samples(),
        )
        open_or_create(path, make)
    # The first rank decides: another might ask when a chunk has been written already.
    missing = world.meet(
        open_activations(path).missing() if world.first else None, lambda by_rank: by_rank[0]
    )
    store = open_activations(path)
    begun_with = _plan(store)
    if begun_with == PACKED != forward.plan and not forward.may_pack():
        raise StoreError(
            f"{path}: begun with passages packed in rows, which this model does not keep apart on "
            "this device; finish it where it was begun, or delete it to make it again",
            exit_code=2,
        )
    forward.plan = begun_with
    done = store.n_samples - sum(stop - start for start, stop in missing)
    writes = world.first or not tensor_parallel
    with Writer() as writer:
        for start, stop in missing if tensor_parallel else world.share(missing):
            chunk = Chunk(stop - start, stored)
            for rows in forward.run(start, stop):
                if writes:
                    chunk.add(rows)
                done += len(rows.index)
                on_rows(done, store.n_samples)
            if writes:
                writer.submit(partial(_write, store, start, chunk, nonfinite))
    world.meet()
    if world.first and not store.is_complete and not store.missing():
        store.finalize()
    return store


def read_passages(
    model: Any,
    passages: Passages,
    readout: Readout,
    *,
    pad_id: int,
    on_rows: Callable[[int, int], None],
    as_one: World = ALONE,
) -> dict[str, npt.NDArray[np.float32]]:
    """A read-out at every sample, in the samples' order, in a pass that stores nothing.

    Args:
        model: a causal LM in eval mode, on its device.
        passages: samples with their tokens.
        readout: what is read; its batches are those of an extraction.
        pad_id: token id to pad with (it is masked).
        on_rows: called with (rows done, rows in all).
        as_one: the ranks that hold the model together; all of them read all samples.

    Returns:
        Array name -> (samples, columns).
    """
    blocks = find_blocks(model).modules
    last = ResidualStream({len(blocks): blocks[-1]})
    forward = ForwardPass(model, passages, last, pad_id, readout, as_one)
    forward.choose_plan({})
    total = len(passages.samples)
    chunk, done = Chunk(total), 0
    for rows in forward.run(0, total):
        chunk.add(rows)
        done += len(rows.index)
        on_rows(done, total)
    _, read = chunk.gather()
    return {name: value.float().numpy() for name, value in read.items()}


def _begun(path: Path) -> Any:
    """The plan of a store whose metadata are damaged, as far as it is known: chunks stay in it."""
    with suppress(StoreError):
        return stored_attributes(path).get(PLAN, BY_LENGTH)
    return None


def _plan(store: ActivationStore) -> Plan:
    """How a store's batches are made: as when it was begun, or chunks would differ by roundings."""
    said = store.attributes.get(PLAN, BY_LENGTH)
    for plan in PLANS:
        if said == plan:
            return plan
    raise StoreError(
        f"{store.path}: begun with batches {str(said)!r}, allowed: {', '.join(PLANS)}; a newer "
        "engramcka may finish it, or delete it to make it again",
        exit_code=2,
    )


def _create(
    path: Path,
    probe: Callable[[], Mapping[int, torch.Tensor]],
    passages: Passages,
    layers: list[int],
    attributes: Mapping[str, Any],
    inputs: Mapping[str, Any],
    readout: Readout | None,
    compression: Compression,
    chunk_samples: int | None,
    most_samples: int,
) -> None:
    """Create the empty store; width and dtype are those of a hidden state at one token."""
    some = next(iter(probe().values()))
    if some.dtype not in _DTYPES:
        raise DataError(f"{path}: hidden states in {some.dtype}; set the model's dtype")
    create_activations(
        path,
        layers=layers,
        width=some.shape[1],
        dtype=_DTYPES[some.dtype],
        samples=passages.columns(),
        attributes={**attributes, **sample_counts(passages)},
        inputs=inputs,
        readouts=readout.columns if readout is not None else {},
        compression=compression,
        chunk_samples=chunk_samples,
        most_samples=most_samples,
    )


def sample_counts(passages: Passages) -> dict[str, Any]:
    """How many samples were drawn and left out, by reason; documents of those that are stored."""
    documents, most = passages.samples.spread()
    left_out = passages.left_out
    return {
        "drawn": len(passages.samples) + left_out.total,
        "documents": documents,
        "most_of_a_document": most,
        "left_out": asdict(left_out),
        "skipped": left_out.total - left_out.repeated,
        "repeated": left_out.repeated,
    }


def _write(store: ActivationStore, start: int, chunk: Chunk, nonfinite: Nonfinite) -> None:
    hidden, read = chunk.gather()
    if nonfinite == "error":
        for layer, rows in hidden.items():
            _check_finite(store, layer, start, rows)
    store.write(
        start,
        {layer: _words(rows) for layer, rows in hidden.items()},
        {name: rows.numpy() for name, rows in read.items()},
    )


def _check_finite(store: ActivationStore, layer: int, start: int, rows: torch.Tensor) -> None:
    if all(edge.isfinite() for edge in torch.aminmax(rows)):  # NaN if there is one; reads once
        return
    finite = torch.isfinite(rows).all(dim=1)
    bad = torch.nonzero(~finite)[:, 0]
    raise DataError(
        f"{store.path}: layer {layer} is not finite at {len(bad)} of {len(rows)} samples, the "
        f"first is sample {start + int(bad[0])}; try another dtype, or data.nonfinite = 'keep'",
        exit_code=1,
    )


def _words(value: torch.Tensor) -> npt.NDArray[np.generic]:
    """A CPU tensor as NumPy; bfloat16, which NumPy lacks, as its 16-bit words."""
    value = value.contiguous()
    return value.view(torch.uint16).numpy() if value.dtype == torch.bfloat16 else value.numpy()


class Writer:
    """Writes in background threads, with back-pressure, so that the model does not wait.

    A context manager, which waits at its end for the jobs that are left.
    """

    def __init__(self, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="engramcka-writer")
        self._room = threading.Semaphore(WAITING)
        self._jobs: list[Future[None]] = []

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            self._raise_finished()

    def submit(self, job: Callable[[], None]) -> None:
        """Run a job when a thread is free; blocks while `WAITING` jobs are not done.

        Raises:
            Exception: what an earlier job raised.
        """
        self._room.acquire()
        self._raise_finished()

        def run() -> None:
            try:
                job()
            finally:
                self._room.release()

        self._jobs.append(self._pool.submit(run))

    def _raise_finished(self) -> None:
        done = [job for job in self._jobs if job.done()]
        self._jobs = [job for job in self._jobs if job not in done]
        for job in done:
            job.result()
