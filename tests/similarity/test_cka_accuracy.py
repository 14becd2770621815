"""Every estimator against float64 NumPy: the largest error is 1e-6, whatever the input."""

import numpy as np
import pytest
import reference
import torch
from hidden_states import KINDS, Blocks, as_is, drawn, huge_samples, layers, massive

from engramcka import cka_map
from engramcka.similarity import layers as layers_module
from engramcka.similarity import reading, routes

TOLERANCE = 1e-6


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def both(rng, kind, n, y_widths=(3, 64, 200), x_widths=(64, 64, 500)):
    shared = rng.standard_normal((n, 8))
    return tuple(
        [kind(x) for x in layers(rng, n, widths, shared=shared)] for widths in (y_widths, x_widths)
    )


def take(monkeypatch, route):
    """Make the estimators over all samples go one way."""
    monkeypatch.setattr(routes, "gram_operations", lambda _: 0 if route == "gram" else 2)
    monkeypatch.setattr(routes, "feature_operations", lambda _: 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "batch_size"), [(64, 1024), (300, 64), (1030, 256)])
def test_minibatch(rng, kind, n, batch_size):
    y, x = both(rng, kind, n)
    for batches, parts in (
        ("random", drawn(n, batch_size, seed=3).batches),
        ("in-order", reference.batches(n, batch_size)),
    ):
        found = cka_map(y, x, batch_size=batch_size, batches=batches, seed=3)
        expected = reference.cka_matrix(y, x, parts=parts)
        np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=TOLERANCE)
        assert (found.route, found.batches, found.n_batches) == ("gram", batches, len(parts))
        assert (found.n_samples, found.batch_size) == (n, batch_size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", ["debiased", "biased"])
@pytest.mark.parametrize("route", ["gram", "feature"])
def test_over_all_samples(rng, monkeypatch, kind, estimator, route):
    take(monkeypatch, route)
    y, x = both(rng, kind, 700)
    found = cka_map(y, x, estimator=estimator)
    expected = reference.cka_matrix(y, x, estimator=estimator)
    np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=TOLERANCE)
    assert found.route == route


@pytest.mark.parametrize("n", [4, 5, 7, 33])
@pytest.mark.parametrize("estimator", ["minibatch", "debiased", "biased"])
@pytest.mark.parametrize("kind", [as_is, massive])
def test_few_samples_and_wide_layers(rng, n, estimator, kind):
    y, x = both(rng, kind, n, (1, 4096), (2, 700))
    found = cka_map(y, x, estimator=estimator)
    expected = reference.cka_matrix(y, x, estimator=estimator)
    np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=TOLERANCE)


def test_few_samples_of_which_one_is_huge():
    """Sums from feature space would cancel: few samples take the Gram route."""
    for seed in range(1, 6):
        y, x = both(np.random.default_rng(seed), huge_samples, 5, (1, 3, 64, 700), (2, 64, 500))
        found = cka_map(y, x, estimator="debiased")
        expected = reference.cka_matrix(y, x, estimator="debiased")
        np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=TOLERANCE)


def test_float64_stays_float64(rng):
    y, x = (layers(rng, 200, (20, 30), np.float64) for _ in range(2))
    for estimator in ("minibatch", "debiased"):
        found = cka_map(y, x, estimator=estimator, batch_size=64).similarity
        parts = drawn(200, 64).batches if estimator == "minibatch" else None
        expected = reference.cka_matrix(y, x, estimator=estimator, parts=parts)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_rbf_with_the_median_heuristic(rng):
    y, x = both(rng, as_is, 300, (3, 64), (40,))
    found = cka_map(y, x, kernel="rbf", batch_size=128).similarity
    kernels = [[reference.rbf(reference.median_distance(a)) for a in side] for side in (y, x)]
    expected = reference.cka_matrix(y, x, parts=drawn(300, 128).batches, kernels=kernels)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_rbf_of_an_offset_layer(rng):
    y, x = both(rng, massive, 200)
    found = cka_map(y, x, kernel="rbf", batch_size=100).similarity
    kernels = [reference.rbf(reference.median_distance(side)) for side in (y[1], x[2])]
    expected = reference.cka(y[1], x[2], parts=drawn(200, 100).batches, kernels=kernels)
    assert found[1, 2] == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("estimator", ["minibatch", "debiased"])
def test_zscore(rng, estimator):
    y, x = both(rng, massive, 400)
    found = cka_map(y, x, estimator=estimator, standardize="zscore", batch_size=128).similarity
    scaled = [[reference.zscore(layer) for layer in side] for side in (y, x)]
    parts = drawn(400, 128).batches if estimator == "minibatch" else None
    expected = reference.cka_matrix(*scaled, estimator=estimator, parts=parts)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_drop_massive_records_what_it_drops(rng):
    y, x = both(rng, as_is, 400, (50, 60), (70,))
    y[0][:, [3, 17]] *= 500
    found = cka_map(y, x, standardize="drop-massive", batch_size=128)
    assert found.y_diagnostics.dropped == ((3, 17), ())
    assert found.y_diagnostics.width.tolist() == [48, 60]
    rest = [np.delete(y[0], [3, 17], axis=1), y[1]]
    expected = reference.cka_matrix(rest, x, parts=drawn(400, 128).batches)
    np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("estimator", ["minibatch", "debiased", "biased"])
def test_arrays_of_every_kind_give_the_same(rng, estimator, monkeypatch):
    monkeypatch.setattr(layers_module, "HELD_BLOCK_BYTES", 2**16)  # of 1,024 samples
    y, x = both(rng, as_is, 1500, (16,), (24, 24))
    plain = cka_map(y, x, estimator=estimator).similarity
    tensors = cka_map([torch.from_numpy(a) for a in y], x, estimator=estimator).similarity
    stored = [Blocks(a) for a in x]
    blocks = cka_map(y, stored, estimator=estimator)
    assert np.array_equal(plain, tensors)
    assert np.array_equal(plain, blocks.similarity)
    if estimator == "minibatch":
        assert max(array.longest for array in stored) <= 1024


def test_bfloat16_tensors_and_words_are_the_same_numbers(rng):
    values = [torch.randn(100, 20).bfloat16() for _ in range(2)]
    import ml_dtypes

    words = [v.view(torch.int16).numpy().view(ml_dtypes.bfloat16) for v in values]
    one, other = cka_map(values, values), cka_map(words, words)
    assert np.array_equal(one.similarity, other.similarity)
    assert one.dtype == other.dtype == "bfloat16"


def test_the_route_is_the_cheaper_one(rng):
    few_wide = layers(rng, 300, (3000,))
    many_narrow = layers(rng, 3000, (4,))
    assert cka_map(few_wide, few_wide, estimator="debiased").route == "gram"
    assert cka_map(many_narrow, many_narrow, estimator="debiased").route == "feature"


def test_layers_in_several_panels_and_columns(rng, monkeypatch):
    """What is cut up for memory's sake gives the same as what is not."""
    y, x = both(rng, as_is, 900)
    for route in ("gram", "feature"):
        take(monkeypatch, route)
        whole = cka_map(y, x, estimator="debiased")
        with monkeypatch.context() as small:
            small.setattr(reading, "PANEL_BYTES", 300_000)
            small.setattr(reading, "PRODUCT_BYTES", 300_000)
            small.setattr(reading, "LAYER_BYTES", 0)
            parts = cka_map(y, x, estimator="debiased")
        np.testing.assert_allclose(parts.similarity, whole.similarity, rtol=0, atol=1e-7)
        np.testing.assert_allclose(parts.jackknife, whole.jackknife, rtol=0, atol=1e-7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", ["minibatch", "debiased", "biased"])
def test_on_a_gpu(rng, kind, estimator):
    y, x = both(rng, kind, 700)
    found = cka_map(y, x, estimator=estimator, device="cuda").similarity
    expected = reference.cka_matrix(y, x, estimator=estimator)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_tensors_that_take_gradients(rng):
    y, x = both(rng, as_is, 200)
    leaves = [torch.from_numpy(a).requires_grad_() for a in y]
    for estimator in ("minibatch", "debiased"):
        found = cka_map(leaves, x, estimator=estimator, batch_size=50)
        plain = cka_map(y, x, estimator=estimator, batch_size=50)
        assert np.array_equal(found.similarity, plain.similarity)
    assert all(leaf.grad is None for leaf in leaves)
