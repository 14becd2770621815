"""Means over tokens with intervals over documents."""

from __future__ import annotations

import numpy as np
import pytest

from engramcka.errors import ComparisonError
from engramcka.lens.curve import lens_curve
from engramcka.lens.logit_lens import READINGS
from engramcka.results.statistics import clustered_mean, student_quantile


def test_the_interval_is_the_leave_one_cluster_out_jackknifes() -> None:
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, 6, 50)
    values = rng.normal(size=(50, 3)) + cluster[:, None]
    mean, low, high = clustered_mean(values, cluster * 7)
    without = np.array([values[cluster != c].mean(axis=0) for c in range(6)])
    error = np.sqrt(5 / 6 * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    assert mean == pytest.approx(values.mean(axis=0))
    assert high - mean == pytest.approx(student_quantile(5) * error)
    assert mean - low == pytest.approx(high - mean)


def test_with_a_cluster_a_value_it_is_students_interval() -> None:
    values = np.random.default_rng(1).normal(size=40)
    mean, low, _ = clustered_mean(values, np.arange(40))
    assert mean - low == pytest.approx(student_quantile(39) * values.std(ddof=1) / np.sqrt(40))


def test_weights_of_zero_leave_values_and_clusters_out() -> None:
    values = np.array([1.0, 2.0, 5.0, 100.0, 7.0])
    cluster = np.array([0, 0, 1, 2, 1])
    kept = np.array([1.0, 1.0, 1.0, 0.0, 1.0])
    assert clustered_mean(values, cluster, kept) == clustered_mean(
        values[kept > 0], cluster[kept > 0]
    )
    assert all(np.isnan(clustered_mean(values, cluster, kept * 0)))
    one = clustered_mean(values[:2], cluster[:2])
    assert one[0] == 1.5
    assert np.isnan(one[1])


def test_intervals_hold_the_truth_when_documents_differ() -> None:
    """Tokens of a document alike: intervals that took them for independent would hold it rarely."""
    rng, held, naive_held = np.random.default_rng(2), 0, 0
    for _ in range(300):
        effect = rng.normal(size=25)
        cluster = np.repeat(np.arange(25), rng.integers(5, 40, 25))
        values = effect[cluster] + rng.normal(size=len(cluster))
        mean, low, high = clustered_mean(values, cluster)
        held += low < 0 < high
        naive_held += abs(mean) < 1.96 * values.std() / np.sqrt(len(values))
    assert held > 270
    assert naive_held < 200


def readings(tokens: int, layers: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    found = {name: rng.random((tokens, layers)) for name in READINGS}
    return found | {"top1": (found["top1"] > 0.5).astype(float)}


def test_a_curve_takes_the_direction_asked_for() -> None:
    found, documents = readings(30, 4), np.array(["a", "b", "c"] * 10)
    for direction, name in (
        ("final||layer", "kl_final_layer"),
        ("layer||final", "kl_layer_final"),
    ):
        curve = lens_curve(found, documents, [1, 2, 3, 4], direction=direction, label="m")
        assert curve.direction == direction
        assert curve.kl == pytest.approx(found[name].mean(axis=0))
        assert (curve.kl_low < curve.kl).all()
        assert curve.top1 == pytest.approx(found["top1"].mean(axis=0))
        assert curve.final_entropy == curve.entropy[-1]
        assert curve.n_tokens == 30
        assert "3 documents" in curve.warnings[0]


def test_one_document_gives_no_interval_and_says_so() -> None:
    curve = lens_curve(
        readings(5, 2), np.array(["a"] * 5), [1, 2], direction="final||layer", label="m"
    )
    assert curve.kl_low is None
    assert "no interval" in curve.warnings[0]


def test_readings_that_are_not_finite_are_refused_in_one_line() -> None:
    found = readings(9, 3)
    found["kl_final_layer"][[2, 4], 1:] = np.nan
    with pytest.raises(ComparisonError, match=r"2 of 9 tokens .* first after block 2;"):
        lens_curve(found, np.array(["a"] * 9), [1, 2, 3], direction="final||layer", label="m")
    none = {name: value[:0] for name, value in found.items()}
    with pytest.raises(ComparisonError, match="not one token"):
        lens_curve(none, np.array([]), [1, 2, 3], direction="final||layer", label="m")
