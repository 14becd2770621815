"""What is compared: one model's layers as (samples, width) arrays, read a block at a time.

Takes torch tensors, NumPy arrays and anything that slices to NumPy arrays (Zarr arrays); gives
torch tensors in float32 or float64. Knows nothing of kernels, nor of files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engramcka.errors import ComparisonError
from engramcka.memory import free_bytes
from engramcka.similarity.arrays import Rows, dense

_BLOCK = 1024  # samples looked at at once
_HELD_BLOCK = 64 * 2**20  # bytes of an array that are read at once to be held
_NEAR = 8  # times as many rows may be read in one block as are asked for
_EXACT_IN_FLOAT32 = ("float32", "float16", "bfloat16")
_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}

Ints = npt.NDArray[np.int64]
Change = Callable[[torch.Tensor], torch.Tensor]  # (samples, width) -> (samples, new width)


class Layers:
    """The hidden states of one model, layer by layer, over one set of samples.

    Args:
        arrays: one (samples, width) array a layer; widths may differ, sample counts may not.
        side: "y" or "x", for messages.
        numbers: block numbers of the layers, for messages; () means 1, 2, ..

    Raises:
        ComparisonError: no layers, an array that is not a matrix or has no columns, a dtype that
            is not a floating point type, or layers with different sample counts.
    """

    def __init__(self, arrays: Sequence[Any], side: str, numbers: Sequence[int] = ()) -> None:
        self.arrays = list(arrays)
        self.side = side
        self.numbers = tuple(numbers) or tuple(range(1, len(self.arrays) + 1))
        if not self.arrays or len(self.numbers) != len(self.arrays):
            raise ComparisonError(
                f"{side}: {len(self.arrays)} layers, {len(self.numbers)} layer numbers; "
                "give one array a layer, and as many numbers"
            )
        self.rows: Ints | None = None  # the samples kept; None means all
        self.changes: list[Change | None] = [None] * len(self.arrays)  # see prepare
        self.scales = [1.0] * len(self.arrays)  # powers of two, see look
        self.directions: list[torch.Tensor] = []  # (width,) a layer, see look
        self.centres: list[torch.Tensor] = []  # (width,) a layer, see look
        self.distances: list[float] = []  # median distance from it a layer, see look
        self._tensors: list[torch.Tensor | None] = [None] * len(self.arrays)  # of those in memory
        self._held: list[torch.Tensor | None] = [None] * len(self.arrays)  # see hold
        self._place = np.zeros(0, dtype=np.int64)  # where in them a sample is; -1: not there
        self.nonfinite_share = [0.0] * len(self.arrays)
        self.dropped: list[tuple[int, ...]] = [()] * len(self.arrays)
        self.dtypes = [self._checked_dtype(index) for index in range(len(self.arrays))]
        self.raw_widths = [int(array.shape[1]) for array in self.arrays]
        self.widths = list(self.raw_widths)  # that are compared
        counts = [int(array.shape[0]) for array in self.arrays]
        self.n_samples = counts[0]
        for index, count in enumerate(counts):
            if count != self.n_samples:
                raise ComparisonError(
                    f"{self.name(index)} has {count} samples, {self.name(0)} {self.n_samples}; "
                    "every layer needs the same samples"
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
        if high - low > _NEAR * len(rows) and not _in_memory(self.arrays[index]):
            return self._runs(index, rows)
        block = self._slice(index, low, high)
        return block[torch.from_numpy(rows - low).to(block.device)]

    def read_at(self, index: int, samples: Ints) -> torch.Tensor:
        """These samples of one layer, of those kept, in the dtype they came in.

        Args:
            index: of the layer.
            samples: (n,) which ones; neighbours are read at once.
        """
        return self._runs(index, samples if self.rows is None else self.rows[samples])

    def values(self, index: int, start: int, stop: int, like: torch.Tensor) -> torch.Tensor:
        """Samples start to stop of one layer, scaled, in the dtype and on the device of like."""
        return self._changed(index, self.read(index, start, stop).to(like))

    def values_at(self, index: int, samples: Ints, like: torch.Tensor) -> torch.Tensor:
        """`read_at`, scaled, in the dtype and on the device of like."""
        return self._changed(index, self.read_at(index, samples).to(like))

    def hold(self, samples: Ints) -> None:
        """Read these samples of every layer that is not in memory, for `gather`.

        Whole blocks are read one after the other, and what is asked for is picked from each: to
        read rows in the order of a random batch would read the same chunks again for each batch.

        Args:
            samples: (n,) which ones, increasing.
        """
        self._held = [None] * len(self)
        self._place = np.zeros(0, dtype=np.int64)
        outside = [i for i, array in enumerate(self.arrays) if not _in_memory(array)]
        if not outside:
            return
        rows = samples if self.rows is None else self.rows[samples]
        order = np.argsort(rows, kind="stable")
        self._place = np.full(int(samples.max()) + 1, -1)
        self._place[samples[order]] = np.arange(len(samples))
        for index in outside:
            self._held[index] = self._picked(index, rows[order])

    def load(self) -> None:
        """Read every array that is not in memory, whole and once."""
        for index, array in enumerate(self.arrays):
            if not _in_memory(array):
                self.arrays[index] = self._picked(index, np.arange(int(array.shape[0])))

    def held_bytes(self) -> int:
        """What `hold` needs for one sample."""
        return sum(
            width * _BYTES[dtype]
            for array, width, dtype in zip(self.arrays, self.raw_widths, self.dtypes, strict=True)
            if not _in_memory(array)
        )

    def gather(self, index: int, samples: torch.Tensor, out: torch.Tensor) -> None:
        """Write these samples of one layer, scaled, to out.

        Args:
            index: of the layer.
            samples: (n,) which ones, of those last given to `hold`.
            out: (n, width), of the dtype and on the device to compute with.
        """
        array = self._held[index]
        if array is not None:
            rows = torch.from_numpy(self._place)[samples]
        else:
            array = self._in_memory_tensor(index)
            rows = samples if self.rows is None else torch.from_numpy(self.rows)[samples]
        rows = rows.to(array.device)
        if array.dtype == out.dtype and array.device == out.device and not self._alters(index):
            torch.index_select(array, 0, rows, out=out)
        else:
            out.copy_(self._changed(index, array.index_select(0, rows).to(out)))

    def keep(self, samples: Ints) -> None:
        """Leave out every sample, of those kept so far, that is not named; put them in this order.

        Args:
            samples: (n,) numbers.
        """
        self.rows = samples if self.rows is None else self.rows[samples]
        self.n_samples = len(samples)

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
            bool((self._held_at(index, samples[start : start + _BLOCK]) == first).all())
            for start in range(0, len(samples), _BLOCK)
        )

    def _held_at(self, index: int, samples: Ints) -> torch.Tensor:
        """`read_at`, from what is held where these samples are."""
        held = self._held[index]
        if held is not None and samples.max() < len(self._place):
            places = self._place[samples]
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
        return block if isinstance(block, torch.Tensor) else _from_numpy(block)

    def _runs(self, index: int, rows: Ints) -> torch.Tensor:
        """Rows of one array, neighbours at once."""
        if _in_memory(self.arrays[index]):
            array = self._in_memory_tensor(index)
            return array.index_select(0, torch.from_numpy(rows).to(array.device))
        array = self.arrays[index]
        if isinstance(array, Rows) and array.picks_rows:
            return _from_numpy(array.pick(rows))
        cuts = np.flatnonzero(np.diff(rows) != 1) + 1
        runs = [self._slice(index, int(run[0]), int(run[-1]) + 1) for run in np.split(rows, cuts)]
        return torch.cat(runs)

    def _picked(self, index: int, rows: Ints) -> torch.Tensor:
        """Increasing rows of one array, read in whole blocks."""
        width, count = self.raw_widths[index], int(self.arrays[index].shape[0])
        step = max(_BLOCK, _HELD_BLOCK // (width * _BYTES[self.dtypes[index]]) // _BLOCK * _BLOCK)
        parts = []
        for start in range(0, count, step):
            first, last = np.searchsorted(rows, (start, start + step))
            if last > first:
                block = self._slice(index, start, min(start + step, count))
                whole = last - first == len(block)
                parts.append(block if whole else block[torch.from_numpy(rows[first:last] - start)])
        return torch.cat(parts)

    def _in_memory_tensor(self, index: int) -> torch.Tensor:
        found = self._tensors[index]
        if found is None:
            array = self.arrays[index]
            found = array if isinstance(array, torch.Tensor) else _from_numpy(array)
            self._tensors[index] = found
        return found

    def tensor_device(self) -> torch.device | None:
        """Where the layers lie if they are torch tensors: a CUDA device if any of them does."""
        devices = [array.device for array in self.arrays if isinstance(array, torch.Tensor)]
        return next((device for device in devices if device.type != "cpu"), None) or (
            devices[0] if devices else None
        )

    def _checked_dtype(self, index: int) -> str:
        self.arrays[index], dtype = dense(self.arrays[index], self.name(index))
        if dtype not in (*_EXACT_IN_FLOAT32, "float64"):
            raise ComparisonError(
                f"{self.name(index)} is {dtype}; it must be float64, float32, float16 or bfloat16"
            )
        return dtype


def check_pair(
    y: Layers,
    x: Layers,
    y_samples: Sequence[Any] | None = None,
    x_samples: Sequence[Any] | None = None,
) -> None:
    """Raise ComparisonError unless y and x hold the same, sufficient number of samples.

    Args:
        y: one model.
        x: the other.
        y_samples: identities of y's samples; where both are given they must be the same.
        x_samples: identities of x's samples.
    """
    if y.n_samples != x.n_samples:
        raise ComparisonError(
            f"y has {y.n_samples} samples, x {x.n_samples}; both need the same samples in the "
            "same order"
        )
    if y.n_samples < 4:
        raise ComparisonError(
            f"{y.n_samples} samples; the unbiased estimator of HSIC needs at least 4"
        )
    if y_samples is None or x_samples is None:
        return
    for name, samples in (("y_samples", y_samples), ("x_samples", x_samples)):
        if len(samples) != y.n_samples:
            raise ComparisonError(f"{name} names {len(samples)} samples, y has {y.n_samples}")
    for index, (a, b) in enumerate(zip(y_samples, x_samples, strict=True)):
        if not np.array_equal(a, b):
            raise ComparisonError(
                f"sample {index} is {a!r} in y and {b!r} in x; both need the same samples in the "
                "same order"
            )


def load_if_it_fits(y: Layers, x: Layers, ranks: int) -> None:
    """Read what is not in memory, where half of the memory that is free holds all of it.

    Args:
        y: one model.
        x: the other.
        ranks: processes that share the memory.
    """
    needed = sum(side.held_bytes() * int(side.arrays[0].shape[0]) for side in (y, x))
    if 0 < needed <= free_bytes() / (2 * ranks):
        for side in (y, x):
            side.load()


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


def _in_memory(array: Any) -> bool:
    """Whether any row is had at once: a tensor, or an array that is no file's."""
    if isinstance(array, torch.Tensor):
        return True
    if not isinstance(array, np.ndarray):
        return False
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return not isinstance(array, np.memmap | mmap)


def _from_numpy(block: Any) -> torch.Tensor:
    values = np.ascontiguousarray(block)
    if not values.flags.writeable:
        values = values.copy()
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(values)
