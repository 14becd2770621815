"""Rows of hidden states and read-outs on their way from a batch to a chunk on the host.

From a GPU the rows of all layers come in one copy, through pinned buffers that are used again. They
are bounded, however many tokens of a batch are wanted: rows that do not fit come layer by layer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

BUFFERS, BUFFER_BYTES = 3, 256 << 20
"""Of one batch whose rows are placed, one whose rows arrive, and one more."""

_ALIGNED = 64  # bytes that a tensor in a buffer begins at a multiple of


@dataclass(frozen=True)
class BatchRows:
    """What one batch gives, on its way to the host.

    From a GPU it lies in a buffer that the batch after the next but one is written over.
    """

    index: torch.Tensor  # (rows,) places in the range of samples
    hidden: dict[int, torch.Tensor]  # block number -> (rows, width)
    readouts: dict[str, torch.Tensor]  # array name -> (rows, columns) float32
    ready: tuple[torch.cuda.Event, ...]  # when all have passed, the copies are there


@dataclass(frozen=True)
class _Part:
    """Values of one shape, dtype and device, which are copied at once."""

    names: tuple[Any, ...]
    value: torch.Tensor  # (names, rows, width)


class ToHost:
    """Takes the rows of one batch after another to the host.

    Args:
        buffer_bytes: of each of the pinned buffers at most.
    """

    def __init__(self, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._most = buffer_bytes
        self._buffers = [torch.empty(0, dtype=torch.uint8) for _ in range(BUFFERS)]
        self._next = 0
        self._copies: dict[torch.device, torch.cuda.Stream] = {}

    def __call__(
        self,
        index: torch.Tensor,
        hidden: Mapping[int, torch.Tensor],
        read: Mapping[str, torch.Tensor],
    ) -> BatchRows:
        """Rows that are there once their events have passed; those of a CPU are there.

        Args:
            index: (rows,) places in the range of samples.
            hidden: block number -> (rows, width) on a device.
            read: array name -> (rows, columns) there.
        """
        values = [*hidden.values(), *read.values()]
        if all(value.device.type == "cpu" for value in values):
            return BatchRows(index, dict(hidden), dict(read), ())
        widths = [value.shape[1] for value in read.values()]
        joined = {}
        if read:  # of one float type and as many rows each
            joined = {tuple(read): torch.cat([value.float() for value in read.values()], dim=1)}
        given: dict[Any, torch.Tensor] = {**hidden, **joined}
        found = {name: value for name, value in given.items() if value.device.type == "cpu"}
        there = {name: value for name, value in given.items() if name not in found}
        ready: tuple[torch.cuda.Event, ...] = ()
        if sum(map(_room, there.values())) <= self._most:
            ready = self._at_once(_stacked(there), found)
        else:
            self._in_parts(there, found)
        host_read: dict[str, torch.Tensor] = {}
        if read:
            split = found.pop(tuple(read)).split(widths, dim=1)
            host_read = dict(zip(read, split, strict=True))
        return BatchRows(index, found, host_read, ready)

    def _at_once(
        self, parts: list[_Part], found: dict[Any, torch.Tensor]
    ) -> tuple[torch.cuda.Event, ...]:
        """All parts into one buffer, without waiting for them."""
        buffer = self._buffer(self._next, sum(_room(part.value) for part in parts))
        self._next = (self._next + 1) % BUFFERS
        devices, begin = set(), 0
        for part in parts:
            host = self._copy(part.value, buffer[begin:])
            begin += _room(part.value)
            devices.add(part.value.device)
            found.update(zip(part.names, host.unbind(), strict=True))
        return tuple(self._copies[device].record_event() for device in devices)

    def _in_parts(self, values: Mapping[Any, torch.Tensor], found: dict[Any, torch.Tensor]) -> None:
        """One by one, in pieces, through the two buffers that no other batch's rows are in."""
        arriving: tuple[torch.Tensor, torch.Tensor, torch.cuda.Event] | None = None
        turn = 0
        for name, value in values.items():
            found[name] = whole = torch.empty(value.shape, dtype=value.dtype)
            for first, last in _pieces(value, self._most):
                buffer = self._buffer((self._next + turn) % BUFFERS, self._most)
                turn = 1 - turn
                host = self._copy(value[first:last], buffer)
                event = self._copies[value.device].record_event()
                if arriving is not None:
                    _arrive(*arriving)
                arriving = whole[first:last], host, event
        if arriving is not None:
            _arrive(*arriving)

    def _buffer(self, number: int, size: int) -> torch.Tensor:
        """(bytes,) of pinned memory, of this size at least."""
        if len(self._buffers[number]) < size:
            grown = min(self._most, max(size, 2 * len(self._buffers[number])))
            self._buffers[number] = torch.empty(grown, dtype=torch.uint8, pin_memory=True)
        return self._buffers[number]

    def _copy(self, value: torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
        """A value's copy at the beginning of a buffer, once the stream of copies has come there."""
        device = value.device
        if device not in self._copies:
            self._copies[device] = torch.cuda.Stream(device)
        copies = self._copies[device]
        copies.wait_stream(torch.cuda.current_stream(device))
        host = buffer[: value.nbytes].view(value.dtype).view(value.shape)
        with torch.cuda.stream(copies):
            host.copy_(value, non_blocking=True)
        value.record_stream(copies)  # its memory is used again after that
        return host


def _arrive(target: torch.Tensor, host: torch.Tensor, event: torch.cuda.Event) -> None:
    event.synchronize()
    target.copy_(host)


def _room(value: torch.Tensor) -> int:
    """Bytes that a tensor takes in a buffer."""
    return -(-value.nbytes // _ALIGNED) * _ALIGNED


def _pieces(value: torch.Tensor, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows that are of so many bytes at most."""
    rows = max(1, most // max(1, value[:1].nbytes))
    for first in range(0, len(value), rows):
        yield first, min(first + rows, len(value))


def _stacked(values: Mapping[Any, torch.Tensor]) -> list[_Part]:
    """Values of one shape, dtype and device together."""
    alike: dict[Any, list[Any]] = {}
    for name, value in values.items():
        alike.setdefault((value.shape, value.dtype, value.device), []).append(name)
    return [
        _Part(tuple(names), torch.stack([values[name] for name in names]))
        for names in alike.values()
    ]


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
