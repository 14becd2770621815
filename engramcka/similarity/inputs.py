"""What is compared: one model's layers as (samples, width) arrays, read a block at a time.

Takes torch tensors, NumPy arrays and anything that slices to NumPy arrays (Zarr arrays); gives
torch tensors in float32 or float64. Knows nothing of kernels, nor of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch

from engramcka.errors import ComparisonError

_EXACT_IN_FLOAT32 = ("float32", "float16", "bfloat16")


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
        self.arrays = [_not_a_list(array) for array in arrays]
        self.side = side
        self.numbers = tuple(numbers) or tuple(range(1, len(self.arrays) + 1))
        if not self.arrays or len(self.numbers) != len(self.arrays):
            raise ComparisonError(
                f"{side}: {len(self.arrays)} layers, {len(self.numbers)} layer numbers; "
                "give one array a layer, and as many numbers"
            )
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

    def read(self, index: int, start: int, stop: int) -> torch.Tensor:
        """Samples start to stop of one layer as they are; bfloat16 and float16 as such."""
        block = self.arrays[index][start:stop]
        return block.detach() if isinstance(block, torch.Tensor) else _from_numpy(block)

    def tensor_device(self) -> torch.device | None:
        """Where the layers lie if they are torch tensors: a CUDA device if any of them does."""
        devices = [array.device for array in self.arrays if isinstance(array, torch.Tensor)]
        return next((device for device in devices if device.type != "cpu"), None) or (
            devices[0] if devices else None
        )

    def _checked_dtype(self, index: int) -> str:
        array = self.arrays[index]
        if len(array.shape) != 2 or 0 in tuple(array.shape):
            raise ComparisonError(
                f"{self.name(index)} has shape {tuple(array.shape)}; "
                "a layer is a matrix (samples, width)"
            )
        dtype = str(array.dtype).removeprefix("torch.")
        if dtype not in (*_EXACT_IN_FLOAT32, "float64"):
            raise ComparisonError(
                f"{self.name(index)} is {dtype}; it must be float64, float32, float16 or bfloat16"
            )
        return dtype


def check_pair(y: Layers, x: Layers) -> None:
    """Raise ComparisonError unless y and x hold the same, sufficient number of samples."""
    if y.n_samples != x.n_samples:
        raise ComparisonError(
            f"y has {y.n_samples} samples, x {x.n_samples}; both need the same samples in the "
            "same order"
        )
    if y.n_samples < 4:
        raise ComparisonError(
            f"{y.n_samples} samples; the unbiased estimator of HSIC needs at least 4"
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


def _not_a_list(array: Any) -> Any:
    return array if hasattr(array, "shape") and hasattr(array, "dtype") else np.asarray(array)


def _from_numpy(block: Any) -> torch.Tensor:
    values = np.ascontiguousarray(block)
    if not values.flags.writeable:
        values = values.copy()
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(values)
