"""A read-out in a pass of its own, where there is nothing else to store. Knows nothing of files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.data import Passages
from engramcka.distributed import ALONE, World
from engramcka.extraction.forward import Chunk, ForwardPass, Readout
from engramcka.extraction.residual_stream import ResidualStream
from engramcka.models import find_blocks


def read_passages(
    model: Any,
    passages: Passages,
    readout: Readout,
    *,
    pad_id: int,
    on_rows: Callable[[int, int], None],
    as_one: World = ALONE,
) -> dict[str, npt.NDArray[np.float32]]:
    """What a read-out gives at every sample, in the samples' order.

    Args:
        model: a causal LM in eval mode, on its device.
        passages: placed samples.
        readout: what is read; its batches are those of an extraction.
        pad_id: token id to pad with (it is masked).
        on_rows: called with (rows done, rows in all).
        as_one: the ranks that hold the model as one; all of them read all samples.

    Returns:
        Array name -> (samples, columns).
    """
    blocks = find_blocks(model).modules
    last = ResidualStream({len(blocks): blocks[-1]})
    forward = ForwardPass(model, passages, last, pad_id, readout, as_one)
    total = len(passages.samples)
    chunk, done = Chunk(total), 0
    for rows in forward.run(0, total):
        chunk.add(rows)
        done += len(rows.index)
        on_rows(done, total)
    _, read = chunk.gather()
    return {name: value.float().numpy() for name, value in read.items()}
