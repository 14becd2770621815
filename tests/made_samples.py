"""A sample table of which the rows say nothing but their number."""

from __future__ import annotations

import numpy as np

from engramcka.data import Samples
from engramcka.data.samples import SampleRow

_TEXT = {"document", "entity", "kind", "type"}


def numbered_samples(count: int) -> Samples:
    """So many rows; every column is the row's number, as text where the column is text."""
    number = np.arange(count)
    return Samples(
        **{name: number.astype(str) if name in _TEXT else number for name in SampleRow._fields}
    )
