"""The extraction loop: a model and placed samples in, one activation store out.

Works through the store's chunks of samples in order. A chunk is the passages of its samples, in
batches alike in length, and is written whole, in the background, and then marked complete: a run
that is killed loses the chunks in flight, and the store that it leaves, once filled up, is the
same. Several ranks take every so-many-th chunk each; ranks that hold the model as one go through
all of them together, and the first writes. In host memory at most three chunks of all layers stand
at a time, whatever the number of samples: one that is gathered, two that are written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from engramcka.data import Passages
from engramcka.distributed import ALONE, World
from engramcka.errors import DataError
from engramcka.extraction.agreement import require_agreement
from engramcka.extraction.forward import Chunk, ForwardPass, Readout
from engramcka.extraction.hooks import STREAMS, ResidualStream
from engramcka.extraction.writer import Writer
from engramcka.models.points import Point, capture_points
from engramcka.stores import ActivationStore, create_activations, open_activations
from engramcka.stores.open import open_or_create

Nonfinite = Literal["error", "keep"]
Compression = Literal["none", "zstd"]

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
    points: Mapping[int, Point] | None = None,
    streams: str = STREAMS,
    layers: Collection[int] | None = None,
    readout: Readout | None = None,
    nonfinite: Nonfinite = "error",
    compression: Compression = "none",
    world: World = ALONE,
    as_one: World = ALONE,
) -> ActivationStore:
    """Fill a model's store with the residual stream after every block, at every sample's token.

    Chunks of a store that are damaged are made again.

    Args:
        model: a causal LM in eval mode, on its device.
        passages: placed samples; a row of the store each.
        path: the store; made if it is not there, else filled up.
        pad_id: token id to pad with (it is masked).
        attributes: JSON, kept in the store: provenance.
        inputs: JSON, kept in the store: all that the hidden states are made from.
        on_rows: called with (rows done on all ranks that this one knows of, rows in all).
        points: layer number -> where hidden states are taken; None for after every block.
        streams: what is made of several residual streams, see `ResidualStream`.
        layers: of the points, those that are stored; None for all of them, none at all where only
            a read-out is wanted.
        readout: read off all points in the same pass, into the store's read-outs.
        nonfinite: "error" stops at a chunk with a NaN or an infinity; "keep" stores it.
        compression: of a store that is made; lossless.
        world: the ranks that share the chunks out; the first makes the store.
        as_one: the ranks of the world, where they hold the model as one; the hidden states are
            then the same as one rank's but for rounding.

    Raises:
        ConfigError: ranks that hold the model as one do not see the same at some point.
        DataError: no sample could be placed, a passage does not fit the device's memory, or a
            hidden state is not finite.
    """
    if not len(passages.samples):
        raise DataError(
            "data: not one sample could be placed; data.max_length may be too small, or "
            "data.skip_first too large"
        )
    points = points or capture_points(model)
    stored = sorted(points if layers is None else layers)
    if readout is None:
        points = {number: points[number] for number in stored}
    stream = ResidualStream(points, streams)
    forward = ForwardPass(model, passages, stream, pad_id, readout, as_one)
    together = as_one.size > 1
    look = forward.look
    if together:
        look = partial(dict, require_agreement(forward.look(), as_one))
    if world.first:
        make = partial(
            _create,
            look=look,
            passages=passages,
            layers=stored,
            attributes={"streams": streams, **attributes},
            inputs=inputs,
            readout=readout,
            compression=compression,
        )
        open_or_create(path, make)
    # The first rank's word: another might look when a chunk has been written already.
    missing = world.meet(
        open_activations(path).missing() if world.first else None, lambda by_rank: by_rank[0]
    )
    store = open_activations(path)
    done = store.n_samples - sum(stop - start for start, stop in missing)
    writes = world.first or not together
    with Writer() as writer:
        for start, stop in missing if together else world.share(missing):
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


def _create(
    path: Path,
    look: Callable[[], Mapping[int, torch.Tensor]],
    passages: Passages,
    layers: list[int],
    attributes: Mapping[str, Any],
    inputs: Mapping[str, Any],
    readout: Readout | None,
    compression: Compression,
) -> None:
    """Make the empty store, its width and dtype read off a few tokens."""
    some = next(iter(look().values()))
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
    )


def sample_counts(passages: Passages) -> dict[str, Any]:
    """How many samples were drawn, and are left out by each reason; where those stored are from."""
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
