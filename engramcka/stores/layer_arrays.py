"""One layer's hidden states, in their own dtype, a slice of samples or chosen rows at a time.

Knows nothing of the store that they are in.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from engramcka.stores.shards import ShardedArray


class LayerArray:
    """One layer's hidden states, (samples, width), read a slice of samples at a time."""

    picks_rows = True  # `take` reads no more than the parts that hold them

    def __init__(
        self, array: ShardedArray, dtype: str, rows: npt.NDArray[np.int64] | None = None
    ) -> None:
        self._array, self._dtype, self._rows = array, dtype, rows
        count = array.grid.n_samples if rows is None else len(rows)
        self.shape: tuple[int, int] = (count, array.grid.width)
        self.dtype = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> npt.NDArray[Any]:
        start, stop, step = index.indices(len(self))
        if self._rows is not None:
            words = self._array.take(self._rows[index])
        else:
            words = self._array.rows(start, max(start, stop))[::step]
        return words.view(self.dtype)

    def take(self, rows: npt.NDArray[np.int64]) -> LayerArray:
        """The same layer at these rows only, in this order; all of them in order cost nothing."""
        if self._rows is None and np.array_equal(rows, np.arange(len(self))):
            return self
        chosen = rows if self._rows is None else self._rows[rows]
        return LayerArray(self._array, self._dtype, chosen)
