"""What is compared: one model's layers as (samples, width) arrays, read a block at a time.

Takes torch tensors, NumPy arrays and anything that slices to NumPy arrays (Zarr arrays); gives
torch tensors in float32 or float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Self

import numpy as np
import torch

from engramcka.errors import ComparisonError
from engramcka.pinned import PinnedRing, sent
from engramcka.ram import free_bytes
from engramcka.similarity.arrays import Rows, as_tensor, dense, in_memory
from engramcka.similarity.documents import Ints

READ_SAMPLES = 1024  # samples read at once
HELD_BLOCK_BYTES = 64 * 2**20  # bytes of an array that are read at once to be held
_NEAR = 8  # times as many rows may be read in one block as are asked for
_EXACT_IN_FLOAT32 = ("float32", "float16", "bfloat16")
_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}

Change = Callable[[torch.Tensor], torch.Tensor]  # (samples, width) -> (samples, new width)


class HeldSamples:
    """Samples of some layers that were read into memory, for `Layers.gather`."""

    def __init__(self) -> None:
        self.tensors: dict[int, torch.Tensor] = {}  # layer -> its samples, in the order of the file
        self.places = np.zeros(0, dtype=np.int64)  # sample -> its row in them; -1: not read

    def clear(self) -> None:
        """Forget all of them."""
        self.tensors = {}
        self.places = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Layers:
    """The hidden states of one model, layer by layer, over one set of samples.

    A view of the arrays: which samples are kept and how their values are changed. What leaves
    samples out or changes values returns another view of the same arrays.
    """

    side: str  # "y" or "x", for messages
    numbers: tuple[int, ...]  # block number of each layer
    arrays: tuple[Any, ...]  # (samples, width) a layer
    dtypes: tuple[str, ...]  # that the layers came in
    n_samples: int  # kept
    widths: tuple[int, ...]  # dimensions that are compared
    rows: Ints | None = None  # the samples kept; None means all
    changes: tuple[Change | None, ...]  # of values, before they are scaled
    scales: tuple[float, ...]  # powers of two
    nonfinite_share: tuple[float, ...]  # of the samples, where they were looked for
    dropped: tuple[tuple[int, ...], ...]  # dimensions of each layer that are left out
    held: HeldSamples = field(default_factory=HeldSamples, compare=False)
    stacks: tuple[tuple[int, torch.Tensor], ...] = ()  # (first layer, (layers, samples, width)):
    # what the arrays of neighbouring layers are parts of, where they lie together on a GPU
    ring: PinnedRing = field(default_factory=PinnedRing, compare=False)
    _tensors: dict[int, torch.Tensor] = field(default_factory=dict, compare=False)

    @classmethod
    def from_arrays(cls, arrays: Sequence[Any], side: str, numbers: Sequence[int] = ()) -> Layers:
        """All samples of some arrays, unchanged.

        Args:
            arrays: one (samples, width) array a layer; widths may differ, sample counts may not.
            side: "y" or "x", for messages.
            numbers: block numbers of the layers, for messages; () means 1, 2, ..

        Raises:
            ComparisonError: no layers, an array that is not a matrix or has no columns, a dtype
                that is not a floating point type, or layers with different sample counts.
        """
        arrays = list(arrays)
        numbers = tuple(numbers) or tuple(range(1, len(arrays) + 1))
        if not arrays or len(numbers) != len(arrays):
            raise ComparisonError(
                f"{side}: {len(arrays)} layers, {len(numbers)} layer numbers; "
                "give one array a layer, and as many numbers"
            )
        names = [f"{side} layer {number}" for number in numbers]
        checked = [
            _checked_dtype(*dense(array, name), name)
            for array, name in zip(arrays, names, strict=True)
        ]
        counts = [int(array.shape[0]) for array, _ in checked]
        for name, count in zip(names, counts, strict=True):
            if count != counts[0]:
                raise ComparisonError(
                    f"{name} has {count} samples, {names[0]} {counts[0]}; "
                    "every layer needs the same samples"
                )
        return cls(
            side=side,
            numbers=numbers,
            arrays=tuple(array for array, _ in checked),
            dtypes=tuple(dtype for _, dtype in checked),
            n_samples=counts[0],
            widths=tuple(int(array.shape[1]) for array, _ in checked),
            changes=(None,) * len(checked),
            scales=(1.0,) * len(checked),
            nonfinite_share=(0.0,) * len(checked),
            dropped=((),) * len(checked),
        )

    def __len__(self) -> int:
        return len(self.arrays)

    @property
    def dtype(self) -> str:
        """Name of the dtype the layers came in, "a, b" where they differ."""
        return ", ".join(dict.fromkeys(self.dtypes))

    @property
    def needs_float64(self) -> bool:
        """Whether float32 cannot hold some layer's values exactly."""
        return any(dtype not in _EXACT_IN_FLOAT32 for dtype in self.dtypes)

    def name(self, index: int) -> str:
        """How a message names a layer, e.g. "y layer 12"."""
        return f"{self.side} layer {self.numbers[index]}"

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """(first, last + 1, width) of each run of neighbouring layers that have the same width."""
        first = 0
        for width, run in groupby(self.widths):
            last = first + len(list(run))
            yield first, last, width
            first = last

    def parts(self, dimension_bytes: int, most: int) -> Iterator[range]:
        """As many neighbouring, equally wide layers each as need at most so much memory, or one.

        Args:
            dimension_bytes: that one dimension of a layer needs.
            most: bytes of a part.
        """
        for first, last, width in self.runs():
            step = max(1, most // (dimension_bytes * width))
            for start in range(first, last, step):
                yield range(start, min(start + step, last))

    def read(self, index: int, start: int, stop: int) -> torch.Tensor:
        """Samples start to stop of one layer, of those kept, in the dtype they came in."""
        if self.rows is None:
            return self._slice(index, start, stop)
        rows = self.rows[start:stop]
        low, high = int(rows.min()), int(rows.max()) + 1
        if high - low > _NEAR * len(rows) and not in_memory(self.arrays[index]):
            return self._runs(index, rows)
        block = self._slice(index, low, high)
        return block[sent(torch.from_numpy(rows - low), block.device)]

    def read_at(self, index: int, samples: Ints) -> torch.Tensor:
        """These samples of one layer, of those kept, in the dtype they came in.

        Args:
            index: of the layer.
            samples: (n,) which ones; neighbours are read at once.
        """
        return self._runs(index, samples if self.rows is None else self.rows[samples])

    def values(self, index: int, start: int, stop: int, like: torch.Tensor) -> torch.Tensor:
        """Samples start to stop of one layer, scaled, in the dtype and on the device of like."""
        return self._changed(index, _sent(self.read(index, start, stop), like))

    def values_at(self, index: int, samples: Ints, like: torch.Tensor) -> torch.Tensor:
        """`read_at`, scaled, in the dtype and on the device of like."""
        return self._changed(index, _sent(self.read_at(index, samples), like))

    def hold(self, samples: Ints) -> None:
        """Read these samples of every layer that is not in memory, for `gather`.

        Whole blocks are read one after the other, and what is asked for is picked from each: to
        read rows in the order of a random batch would read the same chunks again for each batch.

        Args:
            samples: (n,) which ones, increasing.
        """
        self.held.clear()
        outside = [i for i, array in enumerate(self.arrays) if not in_memory(array)]
        if not outside:
            return
        rows = samples if self.rows is None else self.rows[samples]
        order = np.argsort(rows, kind="stable")
        self.held.places = np.full(int(samples.max()) + 1, -1)
        self.held.places[samples[order]] = np.arange(len(samples))
        for index in outside:
            self.held.tensors[index] = self._picked(index, rows[order])

    def loaded(self) -> Self:
        """The same with every array in memory, each read whole and once."""
        arrays = tuple(
            array if in_memory(array) else self._picked(index, np.arange(int(array.shape[0])))
            for index, array in enumerate(self.arrays)
        )
        return replace(self, arrays=arrays, held=HeldSamples(), _tensors={})

    def held_bytes(self) -> int:
        """What `hold` needs for one sample."""
        return sum(
            int(array.shape[1]) * _BYTES[dtype]
            for array, dtype in zip(self.arrays, self.dtypes, strict=True)
            if not in_memory(array)
        )

    def gather(self, index: int, samples: torch.Tensor, out: torch.Tensor) -> None:
        """Write these samples of one layer, scaled, to out.

        Args:
            index: of the layer.
            samples: (n,) which ones, of those last given to `hold`.
            out: (n, width), of the dtype and on the device to compute with.
        """
        array, rows = self._source(index, samples)
        if array.dtype == out.dtype and array.device == out.device and not self._alters(index):
            torch.index_select(array, 0, rows, out=out)
        else:
            out.copy_(self._changed(index, _sent(array.index_select(0, rows), out)))

    def pick(self, index: int, samples: torch.Tensor, out: torch.Tensor) -> None:
        """Write these samples of one layer, as they came in, to out; else as `gather`."""
        array, rows = self._source(index, samples)
        torch.index_select(array, 0, rows, out=out)

    def _source(self, index: int, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where these samples of one layer are: a tensor, and rows of it on its device."""
        array = self.held.tensors.get(index)
        if array is not None:
            return array, torch.from_numpy(self.held.places)[samples]
        array = self._in_memory_tensor(index)
        rows = samples if self.rows is None else torch.from_numpy(self.rows)[samples]
        return array, sent(rows, array.device)

    def stack(self, layers: range) -> torch.Tensor | None:
        """(layers, all samples, width) some layers as they are stored, if they lie together."""
        for first, stack in self.stacks:
            if first <= layers.start and layers.stop <= first + len(stack):
                return stack[layers.start - first : layers.stop - first]
        return None

    def keep(self, samples: Ints) -> Self:
        """The same without every sample, of those kept so far, that is not named; in this order.

        Args:
            samples: (n,) numbers.
        """
        rows = samples if self.rows is None else self.rows[samples]
        return replace(self, rows=rows, n_samples=len(samples), held=HeldSamples())

    def change(self, changes: Sequence[Change | None]) -> Self:
        """The same with a further change of each layer's values; None leaves a layer as it is."""
        both = tuple(_then(one, more) for one, more in zip(self.changes, changes, strict=True))
        return replace(self, changes=both, held=HeldSamples())

    def raise_if_nonfinite(self, samples: Ints) -> None:
        """Raise ComparisonError, naming layer and sample, if these hold a NaN or an infinity."""
        for index in range(len(self)):
            finite = self._held_at(index, samples).isfinite().all(dim=1)
            if not bool(finite.all()):
                sample = int(samples[int((~finite).nonzero()[0, 0])])
                sample = sample if self.rows is None else int(self.rows[sample])
                raise ComparisonError(
                    f"{self.name(index)}, sample {sample}: a value is NaN or infinite; "
                    'nonfinite="drop" leaves such samples out of both models'
                )

    def constant(self, index: int, samples: Ints) -> bool:
        """Whether one layer is the same for all of these samples."""
        first = self._held_at(index, samples[:1])
        return all(
            bool((self._held_at(index, samples[start : start + READ_SAMPLES]) == first).all())
            for start in range(0, len(samples), READ_SAMPLES)
        )

    def _held_at(self, index: int, samples: Ints) -> torch.Tensor:
        """`read_at`, from what is held where these samples are."""
        held = self.held.tensors.get(index)
        if held is not None and samples.max() < len(self.held.places):
            places = self.held.places[samples]
            if places.min() >= 0:
                return held[torch.from_numpy(places)]
        return self.read_at(index, samples)

    def _alters(self, index: int) -> bool:
        return self.changes[index] is not None or self.scales[index] != 1.0

    def _changed(self, index: int, block: torch.Tensor) -> torch.Tensor:
        change, scale = self.changes[index], self.scales[index]
        block = block if change is None else change(block)
        return block if scale == 1.0 else block * scale

    def _slice(self, index: int, start: int, stop: int) -> torch.Tensor:
        block = self.arrays[index][start:stop]
        return block if isinstance(block, torch.Tensor) else as_tensor(block)

    def _runs(self, index: int, rows: Ints) -> torch.Tensor:
        """Rows of one array, neighbours at once."""
        if in_memory(self.arrays[index]):
            array = self._in_memory_tensor(index)
            return array.index_select(0, sent(torch.from_numpy(rows), array.device))
        array = self.arrays[index]
        if isinstance(array, Rows) and array.picks_rows:
            return as_tensor(array.pick(rows))
        cuts = np.flatnonzero(np.diff(rows) != 1) + 1
        runs = [self._slice(index, int(run[0]), int(run[-1]) + 1) for run in np.split(rows, cuts)]
        return torch.cat(runs)

    def _picked(self, index: int, rows: Ints) -> torch.Tensor:
        """Increasing rows of one array, read in whole blocks."""
        count, width = map(int, self.arrays[index].shape)
        step = max(
            READ_SAMPLES,
            HELD_BLOCK_BYTES // (width * _BYTES[self.dtypes[index]]) // READ_SAMPLES * READ_SAMPLES,
        )
        parts = []
        for start in range(0, count, step):
            first, last = np.searchsorted(rows, (start, start + step))
            if last > first:
                block = self._slice(index, start, min(start + step, count))
                whole = last - first == len(block)
                parts.append(block if whole else block[torch.from_numpy(rows[first:last] - start)])
        return torch.cat(parts)

    def _in_memory_tensor(self, index: int) -> torch.Tensor:
        found = self._tensors.get(index)
        if found is None:
            array = self.arrays[index]
            found = array if isinstance(array, torch.Tensor) else as_tensor(array)
            self._tensors[index] = found
        return found

    def tensor_device(self) -> torch.device | None:
        """Where the layers lie if they are torch tensors: a CUDA device if any of them does."""
        devices = [array.device for array in self.arrays if isinstance(array, torch.Tensor)]
        return next((device for device in devices if device.type != "cpu"), None) or (
            devices[0] if devices else None
        )


def _sent(block: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A block of the dtype and on the device of like.

    To a GPU it goes as it is, from pinned memory, and is widened there: the host does not wait.
    """
    return sent(block, like.device).to(like)


def _checked_dtype(array: Any, dtype: str, name: str) -> tuple[Any, str]:
    if dtype not in (*_EXACT_IN_FLOAT32, "float64"):
        raise ComparisonError(
            f"{name} is {dtype}; it must be float64, float32, float16 or bfloat16"
        )
    return array, dtype


def _then(first: Change | None, second: Change | None) -> Change | None:
    if first is None or second is None:
        return first or second
    return lambda block: second(first(block))


def load_if_it_fits(y: Layers, x: Layers, ranks: int) -> tuple[Layers, Layers]:
    """Both models, read into memory where half of the memory that is free holds all of them.

    Args:
        y: one model.
        x: the other.
        ranks: processes that share the memory.
    """
    needed = sum(side.held_bytes() * int(side.arrays[0].shape[0]) for side in (y, x))
    if 0 < needed <= free_bytes() / (2 * ranks):
        return y.loaded(), x.loaded()
    return y, x


def choose_device(y: Layers, x: Layers, device: str | torch.device) -> torch.device:
    """Where to compute: "auto" is where the tensors are, for other arrays a GPU if there is one."""
    if str(device) != "auto":
        return torch.device(device)
    found = [side.tensor_device() for side in (y, x)]
    cuda = next((place for place in found if place is not None and place.type != "cpu"), None)
    if cuda is not None:
        return cuda
    if None in found and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")
