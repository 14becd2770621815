"""What is compared: one model's layers as (samples, width) arrays, read a block at a time.

Takes torch tensors, NumPy arrays and anything that slices to NumPy arrays (Zarr arrays); gives
torch tensors in float32 or float64. Knows nothing of kernels, nor of files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engramcka.errors import ComparisonError
from engramcka.similarity.arrays import dense

_BLOCK = 1024  # samples looked at at once
_EXACT_IN_FLOAT32 = ("float32", "float16", "bfloat16")

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
        self.rows: npt.NDArray[np.int64] | None = None  # the samples kept; None means all
        self.changes: list[Change | None] = [None] * len(self.arrays)  # see prepare
        self.scales = [1.0] * len(self.arrays)  # powers of two, see look
        self.directions: list[torch.Tensor] = []  # (width,) a layer, see look
        self._cut: dict[tuple[int, int], list[torch.Tensor]] = {}  # see cut
        self.nonfinite_share = [0.0] * len(self.arrays)
        self.dropped: list[tuple[int, ...]] = [()] * len(self.arrays)
        self.dtypes = [self._checked_dtype(index) for index in range(len(self.arrays))]
        self.widths = [int(array.shape[1]) for array in self.arrays]
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
        block = self._slice(index, int(rows[0]), int(rows[-1]) + 1)
        return block[torch.from_numpy(rows - rows[0]).to(block.device)]

    def values(self, index: int, start: int, stop: int, like: torch.Tensor) -> torch.Tensor:
        """Samples start to stop of one layer, scaled, in the dtype and on the device of like."""
        block = self.read(index, start, stop).to(like)
        change, scale = self.changes[index], self.scales[index]
        block = block if change is None else change(block)
        return block if scale == 1.0 else block * scale

    def blocks(self, part: range, start: int, stop: int, like: torch.Tensor) -> list[torch.Tensor]:
        """`values` of some layers, without a call a layer where they were `cut`."""
        cut = self._cut.get((start, stop))
        if cut is not None and cut[0].dtype == like.dtype:
            return cut[part.start : part.stop]
        return [self.values(index, start, stop, like) for index in part]

    def cut(self, ranges: Sequence[tuple[int, int]], like: torch.Tensor) -> None:
        """Make the slices that `blocks` will give as they are, (start, stop) each, of all samples.

        A thread that makes one when it needs it may have to wait for the others.
        """
        unscaled = all(scale == 1.0 for scale in self.scales)
        plain = unscaled and self.rows is None and not any(self.changes)
        if plain and all(_is_like(array, like) for array in self.arrays):
            sizes = [stop - start for start, stop in ranges]
            blocks = zip(*(array.split_with_sizes(sizes) for array in self.arrays), strict=True)
            self._cut = dict(zip(ranges, map(list, blocks), strict=True))

    def keep(self, rows: npt.NDArray[np.int64]) -> None:
        """Leave out every sample that is not in ``rows`` (increasing sample numbers)."""
        self.rows, self.n_samples = rows, len(rows)

    def raise_if_nonfinite(self, start: int, stop: int) -> None:
        """Raise ComparisonError, naming layer and sample, if samples start to stop hold a NaN or
        an infinity."""
        for index in range(len(self)):
            finite = self.read(index, start, stop).isfinite().all(dim=1)
            if not bool(finite.all()):
                sample = start + int((~finite).nonzero()[0, 0])
                sample = sample if self.rows is None else int(self.rows[sample])
                raise ComparisonError(
                    f"{self.name(index)}, sample {sample}: a value is NaN or infinite; "
                    'nonfinite="drop" leaves such samples out of both models'
                )

    def constant(self, index: int, start: int, stop: int) -> bool:
        """Whether one layer is the same for all samples start to stop."""
        first = self.read(index, start, start + 1)
        edges = [*range(start, stop, _BLOCK), stop]
        return all(bool((self.read(index, a, b) == first).all()) for a, b in pairwise(edges))

    def _slice(self, index: int, start: int, stop: int) -> torch.Tensor:
        block = self.arrays[index][start:stop]
        return block if isinstance(block, torch.Tensor) else _from_numpy(block)

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


def _is_like(array: Any, like: torch.Tensor) -> bool:
    """Whether an array is a tensor of like's dtype, on its device."""
    if not isinstance(array, torch.Tensor):
        return False
    return array.dtype == like.dtype and array.device == like.device


def _from_numpy(block: Any) -> torch.Tensor:
    values = np.ascontiguousarray(block)
    if not values.flags.writeable:
        values = values.copy()
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(values)
