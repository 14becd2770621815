"""Layers on a GPU: all of them sent once where they fit, else blocks of all layers at a time.

What is sent is what is stored, 16 bits a value where that is so, and is widened there. Several
threads read at once, into pinned memory that is used again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby

import torch

from engramcka.pinned import sent
from engramcka.ram import free_bytes
from engramcka.similarity.arrays import as_tensor
from engramcka.similarity.layers import HELD_BLOCK_BYTES, READ_SAMPLES, HeldSamples, Layers
from engramcka.similarity.reading import fits

READERS = 4  # threads that read at once
PIECE_BYTES = 2**28  # sent at once: a piece of pinned memory
_THREADED_BYTES = 2**22  # of a piece, below which one thread is enough

Fill = Callable[[int, torch.Tensor], object]  # (layer, (samples, width) to be overwritten)


def stored_bytes(y: Layers, x: Layers) -> int:
    """What one sample of all layers takes as it is stored."""
    return sum(
        int(array.shape[1]) * getattr(torch, dtype).itemsize
        for side in (y, x)
        for array, dtype in zip(side.arrays, side.dtypes, strict=True)
    )


def send_if_it_fits(y: Layers, x: Layers, device: torch.device) -> tuple[Layers, Layers] | None:
    """Both models with all their samples on a GPU, each read and sent once.

    Returns:
        None on a CPU, and where there is not enough memory.
    """
    if device.type == "cpu":
        return None
    if not fits(int(y.arrays[0].shape[0]), stored_bytes(y, x), free_bytes(device)):
        return None
    return _resident(y, device), _resident(x, device)


def _resident(side: Layers, device: torch.device) -> Layers:
    stacks, first = [], 0
    kinds = [
        (int(array.shape[1]), dtype) for array, dtype in zip(side.arrays, side.dtypes, strict=True)
    ]
    for (width, dtype), run in groupby(kinds):
        layers = range(first, first + len(list(run)))
        shape = (len(layers), int(side.arrays[first].shape[0]), width)
        stack = torch.empty(shape, dtype=getattr(torch, dtype), device=device)
        _send_all(side, layers, stack)
        stacks.append((first, stack))
        first = layers.stop
    arrays = tuple(layer for _, stack in stacks for layer in stack.unbind())
    return replace(side, arrays=arrays, stacks=tuple(stacks), held=HeldSamples(), _tensors={})


def _send_all(side: Layers, layers: range, stack: torch.Tensor) -> None:
    """All samples of some layers, in whole blocks from one end to the other."""
    there = [index for index in layers if _on_gpu(side.arrays[index])]
    for index in there:
        stack[index - layers.start].copy_(side.arrays[index])
    _, count, width = stack.shape
    step = HELD_BLOCK_BYTES // (width * stack.element_size()) // READ_SAMPLES * READ_SAMPLES
    step = max(step, READ_SAMPLES)
    for start in range(0, count, step):
        stop = min(start + step, count)

        def fill(index: int, place: torch.Tensor, start: int = start, stop: int = stop) -> None:
            block = side.arrays[index][start:stop]
            place.copy_(block if isinstance(block, torch.Tensor) else as_tensor(block))

        for run in _runs([index for index in layers if index not in there]):
            at = slice(run[0] - layers.start, run[-1] + 1 - layers.start)
            send(side, run, fill, stack[at, start:stop])


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    """Runs of neighbouring numbers."""
    return [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda e: e[1] - e[0])]


def send(side: Layers, layers: Sequence[int], fill: Fill, out: torch.Tensor) -> None:
    """Write a block of each of some layers to a GPU, as they are stored.

    Args:
        side: the model.
        layers: which, all of one width and dtype.
        fill: writes one layer's block to memory of the host; called by several threads at once.
        out: (layers, samples, width) on the GPU, of the dtype they are stored in.
    """
    layer_bytes = out.shape[1] * out.shape[2] * out.element_size()
    step = max(1, PIECE_BYTES // layer_bytes)
    for first in range(0, len(layers), step):
        part = layers[first : first + step]
        shape = (len(part), *out.shape[1:])
        with side.ring.memory(shape, out.dtype, out.device) as memory:
            _filled(part, memory, fill)
            out[first : first + step].copy_(memory, non_blocking=True)


def _filled(layers: Sequence[int], memory: torch.Tensor, fill: Fill) -> None:
    if len(layers) == 1 or memory.nbytes < _THREADED_BYTES:
        for index, place in zip(layers, memory.unbind(), strict=True):
            fill(index, place)
        return
    with ThreadPoolExecutor(min(READERS, len(layers))) as pool:
        list(pool.map(torch.inference_mode()(fill), layers, memory.unbind()))


def gather(side: Layers, layers: range, samples: torch.Tensor, out: torch.Tensor) -> None:
    """`Layers.gather` of several equally wide layers.

    Args:
        side: the model.
        layers: which.
        samples: (n,) of those last given to `Layers.hold`, on the host.
        out: (layers, n, width), of the dtype and on the device to compute with, overwritten.
    """
    if not _together(side, layers, out):
        for index, place in zip(layers, out.unbind(), strict=True):
            side.gather(index, samples, place)
        return
    stack = side.stack(layers)
    if stack is not None:
        rows = samples if side.rows is None else torch.from_numpy(side.rows)[samples]
        out.copy_(stack.index_select(1, sent(rows, out.device)))
    else:
        block = _stored(side, layers, out)
        send(side, layers, lambda index, place: side.pick(index, samples, place), block)
        out.copy_(block)
    _scale(side, layers, out)


def read(side: Layers, layers: range, start: int, stop: int, out: torch.Tensor) -> None:
    """`Layers.values` of several equally wide layers.

    Args:
        side: the model.
        layers: which.
        start: first sample.
        stop: last sample + 1.
        out: (layers, samples, width), of the dtype and on the device to compute with, overwritten.
    """
    if not _together(side, layers, out):
        for index, place in zip(layers, out.unbind(), strict=True):
            place.copy_(side.values(index, start, stop, out))
        return
    stack = side.stack(layers)
    if stack is None:
        block = _stored(side, layers, out)
        send(side, layers, lambda i, place: place.copy_(side.read(i, start, stop)), block)
    elif side.rows is None:
        block = stack[:, start:stop]
    else:
        rows = torch.from_numpy(side.rows[start:stop])
        block = stack.index_select(1, sent(rows, out.device))
    out.copy_(block)
    _scale(side, layers, out)


def _together(side: Layers, layers: range, out: torch.Tensor) -> bool:
    """Whether these layers can be written to a GPU at once."""
    if out.device.type == "cpu" or any(side.changes[index] is not None for index in layers):
        return False
    if side.stack(layers) is not None:
        return True
    alike = len({side.dtypes[index] for index in layers}) == 1
    return alike and not any(_on_gpu(side.arrays[index]) for index in layers)


def _on_gpu(array: object) -> bool:
    return isinstance(array, torch.Tensor) and array.device.type != "cpu"


def _stored(side: Layers, layers: range, out: torch.Tensor) -> torch.Tensor:
    """Memory on the GPU for what is stored."""
    return torch.empty(
        out.shape, dtype=getattr(torch, side.dtypes[layers.start]), device=out.device
    )


def _scale(side: Layers, layers: range, out: torch.Tensor) -> None:
    scales = [side.scales[index] for index in layers]
    if any(scale != 1.0 for scale in scales):
        out *= sent(torch.tensor(scales, dtype=out.dtype), out.device)[:, None, None]
