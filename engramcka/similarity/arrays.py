"""One layer's values as a plain dense array, or a one-line error that says how to get one."""

from __future__ import annotations

from collections.abc import Callable
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engramcka.errors import ComparisonError, EngramckaError
from engramcka.plain_text import first_line

_PLAIN = (torch.Tensor, torch.nn.Parameter)  # a subclass may hold its values anywhere


class Rows:
    """Something whose slices are NumPy arrays or tensors; the shape and dtype of each are checked.

    Args:
        array: with shape, dtype and slices of samples, as a Zarr array has.
        dtype: the one that it should have, in the machine's byte order.
        refuse: makes the error, of what was found.
    """

    ndim = 2

    def __init__(self, array: Any, dtype: Any, refuse: Callable[[str], ComparisonError]) -> None:
        self._array, self._refuse = array, refuse
        self.shape, self.dtype = (int(array.shape[0]), int(array.shape[1])), dtype

    def __getitem__(self, rows: slice) -> Any:
        """(samples, width) of some samples; masked values are NaN.

        Raises:
            ComparisonError: the slice is no dense array of the dtype and the size that it should
                have.
        """
        return self._checked(lambda: self._array[rows], len(range(*rows.indices(self.shape[0]))))

    @property
    def picks_rows(self) -> bool:
        """Whether `pick` reads no more than the rows asked for and what lies close to them."""
        return bool(getattr(self._array, "picks_rows", False))

    def pick(self, rows: npt.NDArray[np.int64]) -> Any:
        """(len(rows), width) single samples; raises as a slice does."""
        return self._checked(lambda: self._array.take(rows)[0 : len(rows)], len(rows))

    def _checked(self, read: Callable[[], Any], count: int) -> Any:
        try:
            block = read()
            if not isinstance(block, torch.Tensor):
                block = _native(np.asanyarray(block))
        except (EngramckaError, OSError, MemoryError):
            raise
        except Exception as error:  # each library raises its own kinds
            raise self._refuse(first_line(error)) from error
        shape = (count, self.shape[1])
        if tuple(block.shape) != shape or block.dtype != self.dtype:
            found, wanted = (tuple(block.shape), block.dtype), (shape, self.dtype)
            raise self._refuse(f"{found[0]} of {found[1]} for {wanted[0]} of {wanted[1]}")
        return block.detach() if isinstance(block, torch.Tensor) else _unmasked(block)


def dense(array: Any, name: str) -> tuple[Any, str]:
    """A tensor, a NumPy array or `Rows` of the same values, and the name of its dtype.

    Args:
        array: a layer's values, (samples, width); masked values become NaN.
        name: of the layer, for messages.

    Raises:
        ComparisonError: no matrix, or what cannot be read as a dense array.
    """
    if isinstance(array, torch.Tensor):
        array = _dense_tensor(array, name)
        return array, str(array.dtype).removeprefix("torch.")
    if not (hasattr(array, "shape") and hasattr(array, "dtype")):
        array = _listed(array, name)
    shape = tuple(array.shape)
    if len(shape) != 2 or not all(isinstance(n, int | np.integer) and n > 0 for n in shape):
        raise _no_matrix(name, shape)
    if isinstance(array, np.ndarray):
        array = _native(array)
        return _unmasked(array), str(array.dtype)
    dtype = _native_dtype(array.dtype)

    def refuse(reason: str) -> ComparisonError:
        return ComparisonError(
            f"{name} is a {type(array).__name__}, whose rows cannot be read as a dense NumPy "
            f"array ({reason}); convert it to one"
        )

    return Rows(array, dtype, refuse), str(dtype).removeprefix("torch.")


def in_memory(array: Any) -> bool:
    """Whether rows are read without a file: a tensor, or an array that is not memory-mapped."""
    if isinstance(array, torch.Tensor):
        return True
    if not isinstance(array, np.ndarray):
        return False
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return not isinstance(array, np.memmap | mmap)


def as_tensor(block: Any) -> torch.Tensor:
    """A NumPy array as a tensor of the same dtype; copied only if it must be."""
    values = np.ascontiguousarray(block)
    if not values.flags.writeable:
        values = values.copy()
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(values)


def _dense_tensor(array: torch.Tensor, name: str) -> torch.Tensor:
    found = advice = ""
    if type(array) not in _PLAIN:
        found = type(array).__name__
        advice = "a DTensor's to_local(), or a masked one filled with NaN, is one"
    elif array.is_nested:
        found, advice = "nested tensor", "pad its parts with NaN or concatenate them"
    elif array.layout != torch.strided:
        found, advice = f"tensor of layout {array.layout}", "to_dense() gives one"
    elif array.is_meta:
        found, advice = "meta tensor, without values", "load the values first"
    elif array.is_quantized:
        found, advice = f"quantized tensor ({array.dtype})", "dequantize() gives one"
    if found:
        raise ComparisonError(f"{name} is a {found}; a layer is a plain dense tensor: {advice}")
    if len(array.shape) != 2 or 0 in array.shape:
        raise _no_matrix(name, tuple(array.shape))
    return array.detach()


def _listed(array: Any, name: str) -> Any:
    """Lists, data frames and whatever else NumPy makes an array of."""
    try:
        if isinstance(array, list | tuple) and any(
            isinstance(row, np.ma.MaskedArray) for row in array
        ):
            return np.ma.stack(array)  # np.asarray would take what lies under the mask
        return np.asarray(array)
    except Exception as error:  # whatever the object's own conversion raises
        raise ComparisonError(
            f"{name} is a {type(array).__name__} that makes no array "
            f"({first_line(error)}); a layer is a matrix (samples, width)"
        ) from error


def _unmasked(values: Any) -> Any:
    """A base NumPy array of the same values; NaN where they are masked."""
    has_nan = values.dtype.kind == "f" or values.dtype.name == "bfloat16"
    if has_nan and isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        values = values.filled(np.nan)
    return np.asarray(values)


def _native(values: Any) -> Any:
    """The same in the machine's byte order."""
    return values.astype(_native_dtype(values.dtype), copy=False)


def _native_dtype(dtype: Any) -> Any:
    try:
        return np.dtype(dtype).newbyteorder("=")
    except TypeError:  # another library's
        return dtype


def _no_matrix(name: str, shape: tuple[Any, ...]) -> ComparisonError:
    return ComparisonError(f"{name} has shape {shape}; a layer is a matrix (samples, width)")
