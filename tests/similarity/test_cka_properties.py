"""What holds for any hidden states at all."""

import numpy as np
import pytest
import torch
from hidden_states import layers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engramcka import cka_map
from engramcka.similarity import documents, exact, gram_strips

ESTIMATORS = st.sampled_from(["minibatch", "debiased", "biased"])
SEEDS = st.integers(0, 2**32 - 1)
SAMPLES = st.integers(4, 150)
QUICK = settings(max_examples=25, deadline=None)


def two_models(seed, n):
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 8))
    return rng, layers(rng, n, (1, 9, 30), shared=shared), layers(rng, n, (12, 5), shared=shared)


def similarity(y, x, estimator, **options):
    return cka_map(y, x, estimator=estimator, batch_size=40, **options).similarity


@QUICK
@given(SEEDS, SAMPLES, ESTIMATORS)
def test_symmetric(seed, n, estimator):
    _, y, x = two_models(seed, n)
    one, other = similarity(y, x, estimator), similarity(x, y, estimator)
    np.testing.assert_allclose(one, other.T, rtol=0, atol=1e-6)


@QUICK
@given(SEEDS, SAMPLES, ESTIMATORS, st.floats(1e-3, 1e3))
@example(606087139, 4, "minibatch", 96.75)
def test_rotation_and_scale_change_nothing(seed, n, estimator, scale):
    rng, y, x = two_models(seed, n)
    rotations = [np.linalg.qr(rng.standard_normal((a.shape[1], a.shape[1])))[0] for a in y]
    turned = [(scale * a @ q + 3).astype(np.float64) for a, q in zip(y, rotations, strict=True)]
    straight = [a.astype(np.float64) for a in y]
    one, other = similarity(turned, x, estimator), similarity(straight, x, estimator)
    # The unbiased HSIC divides by n (n - 3): with a handful of samples it is a small difference
    # of large sums, and rounding of the products in float32 shows (1.4e-6 in the example).
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 if n > 8 else 1e-5)


@QUICK
@given(SEEDS, SAMPLES, st.sampled_from(["debiased", "biased"]))
def test_the_order_of_samples_changes_nothing(seed, n, estimator):
    rng, y, x = two_models(seed, n)
    order = rng.permutation(n)
    one = similarity(y, x, estimator)
    other = similarity([a[order] for a in y], [a[order] for a in x], estimator)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@QUICK
@given(SEEDS, SAMPLES, ESTIMATORS)
def test_a_layer_is_like_itself(seed, n, estimator):
    _, y, _ = two_models(seed, n)
    found = cka_map(y, y, estimator=estimator, batch_size=40)
    np.testing.assert_allclose(np.diag(found.similarity), 1, rtol=0, atol=1e-6)
    assert (found.similarity <= 1 + 1e-6).all()  # Cauchy and Schwarz, for every estimator


@QUICK
@given(SEEDS, st.integers(2, 6))
def test_the_order_of_batches_changes_nothing(seed, count):
    rng, y, x = two_models(seed, 40 * count)
    order = np.concatenate([np.arange(40) + 40 * b for b in rng.permutation(count)])
    one = similarity(y, x, "minibatch", batches="in-order")
    other = similarity(
        [a[order] for a in y], [a[order] for a in x], "minibatch", batches="in-order"
    )
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("estimator", ["minibatch", "debiased"])
def test_independent_layers_average_zero(estimator):
    """And the biased estimate of the same is far above."""
    rng = np.random.default_rng(3)
    y, x = ([rng.standard_normal((64, 10)) for _ in range(60)] for _ in range(2))
    found = cka_map(y, x, estimator=estimator, batch_size=32).similarity
    # rows share a layer, so that cells are not independent: one mean a row
    rows = found.mean(axis=1)
    assert abs(rows.mean()) < 4 * rows.std() / np.sqrt(60)
    assert found.min() < 0  # stored as it is
    assert cka_map(y, x, estimator="biased").similarity.mean() > 0.1


@pytest.mark.parametrize("estimator", ["minibatch", "debiased", "biased"])
def test_threads_and_tiles(estimator, monkeypatch):
    """The same bits for the same threads and tiles; the same to 1e-6 for others."""
    _, y, x = two_models(5, 1000)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = cka_map(y, x, estimator=estimator, batch_size=200)
        again = cka_map(y, x, estimator=estimator, batch_size=200)
        torch.set_num_threads(1)
        one = cka_map(y, x, estimator=estimator, batch_size=200)
        monkeypatch.setattr(exact, "BLOCK", 48)
        monkeypatch.setattr(gram_strips, "STRIP", 7)
        tiles = cka_map(y, x, estimator=estimator, batch_size=200)
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(two.similarity, again.similarity)
    assert np.array_equal(two.jackknife, again.jackknife)
    np.testing.assert_allclose(one.similarity, two.similarity, rtol=0, atol=1e-6)
    np.testing.assert_allclose(tiles.similarity, two.similarity, rtol=0, atol=1e-6)


@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_a_backend_s_own_switch_may_have_been_used(precision):
    """After which torch refuses to read the older switch for all backends."""
    switch = torch.backends.cuda.matmul
    before = switch.fp32_precision
    _, y, x = two_models(5, 400)
    expected = cka_map(y, x, batch_size=40).similarity
    try:
        switch.fp32_precision = precision
        for asked in ("highest", "float32"):
            found = cka_map(y, x, batch_size=40, precision=asked).similarity
            assert np.array_equal(found, expected)
            assert switch.fp32_precision == precision
    finally:
        switch.fp32_precision = before


def test_torch_settings_are_left_as_they_were():
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    _, y, x = two_models(5, 400)
    cka_map(y, x, batch_size=40)
    with pytest.raises(ZeroDivisionError):
        cka_map(y, x, batch_size=40, on_progress=lambda done, total: 1 / 0)
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before


def test_progress_is_told():
    _, y, x = two_models(5, 400)
    for estimator in ("minibatch", "debiased"):
        told = []

        def tell(done, total, told=told):
            told.append((done, total))

        cka_map(y, x, estimator=estimator, batch_size=40, on_progress=tell)
        assert [done for done, _ in told] == list(range(1, len(told) + 1))
        assert {total for _, total in told} == {len(told)}


@given(st.integers(4, 3000), st.integers(4, 700))
def test_batches_in_order_cover_all_samples_and_none_is_too_small(n, size):
    batches = documents.in_order(n, size)
    assert np.array_equal(np.concatenate(batches), np.arange(n))
    assert all(len(batch) >= 4 for batch in batches)
    assert all(len(batch) == size for batch in batches[:-1])
