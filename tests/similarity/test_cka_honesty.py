"""Where there is no answer, or not the one expected, a map says so; it never guesses."""

import numpy as np
import pytest
import reference
import torch
from hidden_states import Blocks, drawn, huge_samples, layers

from engramcka import cka_map
from engramcka.errors import ComparisonError

ESTIMATORS = ["minibatch", "debiased", "biased"]


@pytest.fixture
def models():
    rng = np.random.default_rng(11)
    shared = rng.standard_normal((200, 8))
    return layers(rng, 200, (6, 9, 7), shared=shared), layers(rng, 200, (8, 5), shared=shared)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("value", [0.0, 0.1, -3e7])
def test_a_constant_layer_is_nan_and_named(models, estimator, value):
    y, x = models
    y[1][:] = value
    x[0][:] = value
    found = cka_map(y, x, estimator=estimator, batch_size=40, y_layers=(3, 4, 9))
    assert np.isnan(found.similarity).tolist() == [[True, False], [True, True], [True, False]]
    assert np.isnan(found.ci_low).tolist() == np.isnan(found.similarity).tolist()
    parts = drawn(200, 40).batches if estimator == "minibatch" else None
    expected = reference.cka_matrix([y[0], y[2]], [x[1]], estimator=estimator, parts=parts)
    np.testing.assert_allclose(found.similarity[[0, 2], 1:], expected, rtol=0, atol=1e-6)
    assert "y layer 4 is constant over the samples: row NaN" in found.warnings
    assert "x layer 1 is constant over the samples: column NaN" in found.warnings


def test_a_layer_constant_in_one_batch_is_no_constant_layer(models):
    y, x = models
    y[1][:40] = 5
    found = cka_map(y, x, batch_size=40, batches="in-order")
    assert np.isfinite(found.similarity).all()
    parts = [part for part in reference.batches(200, 40) if part[0]]
    sums = np.zeros(2)
    for part in parts:
        k, l = reference.gram(y[1][part]), reference.gram(x[0][part])  # noqa: E741
        sums += reference.hsic_unbiased(k, l), reference.hsic_unbiased(k, k)
    l_self = sum(
        reference.hsic_unbiased(reference.gram(x[0][part]), reference.gram(x[0][part]))
        for part in reference.batches(200, 40)
    )
    assert found.similarity[1, 0] == pytest.approx(sums[0] / np.sqrt(sums[1] * l_self), abs=1e-6)


def test_what_cancels_in_float64_too_is_nan_and_named():
    """One sample 10^7 times the others: float64 itself has no answer."""
    rng = np.random.default_rng(0)
    y, x = layers(rng, 60, (50,), np.float64), layers(rng, 60, (40, 30), np.float64)
    y[0][7] *= 1e7
    found = cka_map(y, x, estimator="debiased")
    assert np.isnan(found.similarity).all()
    assert any(w.startswith("y layer 1 is ill conditioned") for w in found.warnings)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("as_stored", [False, True])
def test_a_value_that_is_not_finite_is_an_error_with_layer_and_sample(
    models, estimator, value, as_stored
):
    y, x = models
    x[1][123, 2] = value
    if as_stored:
        x = [Blocks(a) for a in x]
    with pytest.raises(ComparisonError, match=r"x layer 8, sample 123: .* nonfinite=\"drop\""):
        cka_map(y, x, estimator=estimator, batch_size=40, x_layers=(2, 8))
    with pytest.raises(ComparisonError, match="x layer 8, sample 123"):
        cka_map(y, x, estimator=estimator, x_layers=(2, 8), standardize="zscore")


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_drop_leaves_the_sample_out_of_both_models(models, estimator):
    y, x = models
    keep = np.delete(np.arange(200), [17, 123])
    expected = cka_map(
        [a[keep] for a in y], [b[keep] for b in x], estimator=estimator, batch_size=40
    )
    x[1][123, 2], y[0][17, 0], y[0][123, 1] = np.nan, -np.inf, np.inf
    stored = [Blocks(a) for a in x]
    found = cka_map(y, stored, estimator=estimator, batch_size=40, nonfinite="drop")
    assert np.array_equal(found.similarity, expected.similarity)
    assert (found.n_samples, found.n_dropped) == (198, 2)
    assert found.y_diagnostics.nonfinite_share.tolist() == pytest.approx([2 / 200, 0, 0])
    assert found.x_diagnostics.nonfinite_share.tolist() == pytest.approx([0, 1 / 200])
    assert any(w.startswith("2 samples dropped from both models") for w in found.warnings)


def test_too_few_samples_left_is_an_error(models):
    y, x = models
    y[0][3:] = np.nan
    with pytest.raises(ComparisonError, match="3 of 200 samples are finite"):
        cka_map(y, x, nonfinite="drop")


@pytest.mark.parametrize("tail", [1, 2, 3, 4])
def test_a_last_batch_below_four_joins_the_one_before(tail):
    rng = np.random.default_rng(2)
    y, x = layers(rng, 60 + tail, (5,)), layers(rng, 60 + tail, (5,))
    found = cka_map(y, x, batch_size=20, batches="in-order")
    expected = reference.cka_matrix(y, x, batch_size=20)
    np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=1e-6)
    assert len(found.jackknife) == (3 if tail < 4 else 4)


def test_sample_counts_that_differ_are_an_error(models):
    y, x = models
    with pytest.raises(ComparisonError, match="y has 200 samples, x 199"):
        cka_map(y, [a[:-1] for a in x])
    with pytest.raises(ComparisonError, match="y layer 2 has 150 samples, y layer 1 200"):
        cka_map([y[0], y[1][:150]], x)
    with pytest.raises(ComparisonError, match=r"3 samples; .* at least 4"):
        cka_map([a[:3] for a in y], [a[:3] for a in x])


def test_identities_that_differ_are_an_error(models):
    y, x = models
    names = [f"document {i}" for i in range(200)]
    cka_map(y, x, y_samples=names, x_samples=list(names))
    other = [*names[:50], "document 7", *names[51:]]
    with pytest.raises(ComparisonError, match="sample 50 is 'document 50' in y and 'document 7'"):
        cka_map(y, x, y_samples=names, x_samples=other)
    with pytest.raises(ComparisonError, match="x_samples names 199 samples"):
        cka_map(y, x, y_samples=names, x_samples=names[1:])


def test_values_outside_zero_and_one_are_kept():
    rng = np.random.default_rng(1)
    y, x = ([rng.standard_normal((12, 6)) for _ in range(30)] for _ in range(2))
    found = cka_map(y, x, estimator="debiased")
    assert found.similarity.min() < -0.05
    np.testing.assert_allclose(
        found.similarity, reference.cka_matrix(y, x, estimator="debiased"), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "unbiased"}, "minibatch, debiased, biased"),
        ({"kernel": "cosine"}, "linear, rbf"),
        ({"kernel": "rbf", "estimator": "debiased"}, 'needs estimator "minibatch"'),
        ({"standardize": "whiten"}, "none, zscore, drop-massive"),
        ({"nonfinite": "ignore"}, "error, drop"),
        ({"precision": "low"}, "highest, float32"),
        ({"batch_size": 3}, "batch_size is 3; it must be at least 4"),
        ({"permutations": -1}, "permutations is -1"),
        ({"y_layers": (1, 2)}, "3 layers, 2 layer numbers"),
    ],
)
def test_an_option_that_is_not_there_is_an_error(models, options, message):
    with pytest.raises(ComparisonError, match=message):
        cka_map(*models, **options)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (np.zeros((200, 3), np.int64), "y layer 1 is int64"),
        (np.zeros(200, np.float32), r"shape \(200,\)"),
        (np.zeros((200, 0), np.float32), r"shape \(200, 0\)"),
        (torch.zeros(200, 3, dtype=torch.complex64), "complex64"),
    ],
)
def test_an_array_that_is_no_layer_is_an_error(models, layer, message):
    with pytest.raises(ComparisonError, match=message):
        cka_map([layer], models[1])
    with pytest.raises(ComparisonError, match="0 layers"):
        cka_map([], models[1])


def test_one_dominating_dimension_is_named(models):
    y, x = models
    y[2][:, 4] *= 1000
    found = cka_map(y, x)
    assert found.y_diagnostics.top_dimension_share[2] > 0.99
    assert any(w.startswith("y layer 3 is dominated by one dimension") for w in found.warnings)
    assert not any(w.startswith("x layer") for w in found.warnings)


def test_the_biased_estimator_warns_of_its_bias():
    rng = np.random.default_rng(4)
    y, x = ([rng.standard_normal((100, 50))] for _ in range(2))
    found = cka_map(y, x, estimator="biased")
    assert any("biased similarities are too high" in w for w in found.warnings)
    assert not any("biased" in w for w in cka_map(y, x, estimator="debiased").warnings)


def test_huge_samples_do_not_stop_anything(models):
    y, x = models
    found = cka_map([huge_samples(a) for a in y], x, batch_size=50)
    assert np.isfinite(found.similarity).all()
