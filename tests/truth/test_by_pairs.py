"""What the truths are measured with, against every set of four samples."""

from __future__ import annotations

import numpy as np
import pytest
from by_pairs import Documents, PairSums, brute_force, hsic, trace_of_covariance


@pytest.mark.parametrize("documents", [[0, 0, 1, 2, 2, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6, 7, 8]])
def test_the_sums_are_the_mean_over_sets_of_four(documents: list[int]) -> None:
    random = np.random.default_rng(0)
    y = random.normal(size=(9, 3))
    x = random.normal(size=(9, 2)) + y[:, :2] + 5
    every = Documents(documents)
    found = hsic(PairSums(y, every), PairSums(x, every))
    assert found == pytest.approx(brute_force(y, x, documents), rel=1e-9)


def test_the_trace_is_that_of_the_covariance() -> None:
    x = np.random.default_rng(0).normal(size=(50, 4)) + 3
    found = trace_of_covariance(x, np.arange(50))
    assert found == pytest.approx(np.trace(np.cov(x.T)), rel=1e-9)
