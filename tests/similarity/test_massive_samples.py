"""A map that rests on a few samples, or on one direction, says so; ordinary data do not."""

import re

import numpy as np
import pytest
import reference
from hidden_states import drawn, layers

from engramcka import cka_map

SINKS = [5, 300, 600, 900]
ESTIMATORS = pytest.mark.parametrize("estimator", ["minibatch", "debiased"])


@pytest.fixture
def sinks():
    """Independent layers, but for four samples that are far out in both, in one direction each."""
    rng = np.random.default_rng(7)
    y, x = rng.normal(size=(1024, 64)), rng.normal(size=(1024, 64))
    y[SINKS] += 200 * rng.normal(size=64)
    x[SINKS] += 200 * rng.normal(size=64)
    return [y.astype(np.float32)], [x.astype(np.float32)]


def said(found, part):
    return [warning for warning in found.warnings if part in warning]


@ESTIMATORS
@pytest.mark.parametrize("standardize", ["none", "zscore"])
@pytest.mark.parametrize("documents", [None, 1024, 200])
def test_massive_samples_are_named(sinks, estimator, standardize, documents):
    """Of documents in any order, too."""
    y, x = sinks
    groups = None
    if documents is not None:
        groups = np.random.default_rng(1).integers(0, documents, 1024)
        groups[SINKS] = [1, 9, 2, 5]
    names = ["first" if row in SINKS else f"word {row}" for row in range(1024)]
    options = {"estimator": estimator, "standardize": standardize, "groups": groups}
    found = cka_map(y, x, names=names, batch_size=300, **options)
    if estimator == "debiased":  # a batch of few samples has one of the four at most
        assert found.similarity[0, 0] > 0.9
    assert (found.n_massive, found.massive_samples) == (4, tuple(SINKS))
    assert found.y_diagnostics.massive_samples.tolist() == [4]
    assert found.x_diagnostics.massive_samples.tolist() == [4]
    assert found.y_diagnostics.top_samples_share[0] > 0.9
    assert said(found, "4 of 1,024 samples are massive (first): over 10 times as far")
    for side in ("y", "x"):
        [warning] = said(found, f"{side} layer 1 rests by ")
        assert re.search(r" by (9[89]|100)% on 1 % of the samples: compare massive", warning)


@ESTIMATORS
def test_without_massive_samples_nothing_is_in_common(sinks, estimator):
    y, x = sinks
    found = cka_map(y, x, estimator=estimator, massive="drop")
    assert found.similarity[0, 0] == pytest.approx(-0.0005, abs=5e-5)
    assert (found.n_massive, found.n_massive_dropped, found.n_samples) == (0, 4, 1020)
    assert found.warnings == ("4 samples dropped from both models: massive",)
    rest = np.delete(np.arange(1024), SINKS)
    expected = cka_map([y[0][rest]], [x[0][rest]], estimator=estimator)
    assert np.array_equal(found.similarity, expected.similarity)
    found = cka_map(y, x, estimator=estimator, normalize="rms")
    assert found.similarity[0, 0] == pytest.approx(0, abs=0.001)
    assert found.warnings == ()
    unit = [a / np.sqrt((a.astype(float) ** 2).mean(1, keepdims=True)) for a in (*y, *x)]
    expected = cka_map(unit[:1], unit[1:], estimator=estimator)
    assert found.similarity[0, 0] == pytest.approx(expected.similarity[0, 0], abs=1e-6)


@ESTIMATORS
def test_massive_samples_of_some_layers_are_told_apart(sinks, estimator):
    y, _ = sinks
    rng = np.random.default_rng(2)
    quiet, one = rng.normal(size=(2, 1024, 32)).astype(np.float32)
    one[77] += 50
    found = cka_map([quiet, *y, one], [quiet], estimator=estimator, y_layers=(3, 4, 9))
    assert found.y_diagnostics.massive_samples.tolist() == [0, 4, 1]
    assert found.massive_samples == (5, 77, 300, 600, 900)
    assert said(found, "5 of 1,024 samples are massive")
    assert said(found, "from the centre of y layers 4, 9 as the median sample")
    dropped = cka_map([quiet, *y, one], [quiet], estimator=estimator, massive="drop")
    assert dropped.n_massive_dropped == 5


def test_numbers_are_those_of_the_arrays_given(sinks):
    """Where samples were dropped before, and documents come in no order."""
    y, x = sinks
    y[0][[0, 1, 2, 500], 3] = np.nan
    groups = np.random.default_rng(3).integers(0, 300, 1024)
    for options in ({}, {"estimator": "debiased"}, {"estimator": "debiased", "pairs": "all"}):
        found = cka_map(y, x, groups=groups, nonfinite="drop", **options)
        assert found.massive_samples == tuple(SINKS)


@pytest.mark.parametrize("estimator", ["minibatch", "debiased", "biased"])
def test_the_share_is_that_of_the_farthest_samples(estimator):
    """Against float64 NumPy: the entries of the Gram matrix in their rows and columns."""
    rng = np.random.default_rng(4)
    y = rng.normal(size=(400, 30)) * np.exp(0.7 * rng.normal(size=(400, 1)))
    for groups in (None, rng.integers(0, 100, 400)):
        options = {"estimator": estimator, "batch_size": 90, "groups": groups}
        found = cka_map([y], [y[:, :7]], **options)
        whole = [np.arange(400)] if estimator != "minibatch" else drawn(400, 90, 0, groups).batches
        grams = [reference.gram(y[part]) for part in whole]
        lengths = [np.diag(k).copy() for k in grams]
        least = np.sort(np.concatenate(lengths))[-4]
        for part, k in zip(whole, grams, strict=True):
            if estimator != "biased":
                np.fill_diagonal(k, 0)
            if estimator == "debiased" and groups is not None:
                k *= groups[part][:, None] != groups[part]
        total = sum((k**2).sum() for k in grams)
        rest = sum(
            (k[np.ix_(near < least, near < least)] ** 2).sum()
            for k, near in zip(grams, lengths, strict=True)
        )
        expected = (total - rest) / total
        assert found.y_diagnostics.top_samples_share[0] == pytest.approx(expected, rel=1e-6)


@ESTIMATORS
def test_one_strong_direction_is_told_of(estimator):
    rng = np.random.default_rng(9)
    direction = rng.normal(size=64)
    direction /= np.linalg.norm(direction)
    strong = rng.normal(size=(1024, 64)) + 30 * rng.normal(size=(1024, 1)) * direction
    plain = rng.normal(size=(1024, 64))
    found = cka_map([plain, strong], [plain], estimator=estimator)
    assert found.y_diagnostics.top_dimension_share[1] < 0.3
    [warning] = found.warnings
    assert warning.startswith("y layer 2 rests by 100% on one direction")


@ESTIMATORS
@pytest.mark.parametrize("n", [4, 6, 10, 30, 100, 130, 1030])
def test_ordinary_layers_of_any_width_give_no_warning(estimator, n):
    rng = np.random.default_rng(n)
    widths = (1, 2, 3, 5, 8, 64, 700)
    y, x = ([rng.standard_normal((n, w)).astype(np.float32) for w in widths] for _ in range(2))
    found = cka_map(y, x, estimator=estimator, batch_size=256)
    assert [w for w in found.warnings if not w.startswith("no intervals")] == []
    related = cka_map(layers(rng, n, widths), x, estimator=estimator, batch_size=256)
    assert not said(related, "massive")


@ESTIMATORS
@pytest.mark.parametrize("n", [128, 400, 2000])
def test_heavy_tails_as_tokens_have_them_give_no_warning(estimator, n):
    rng = np.random.default_rng(n)
    plain = rng.standard_normal((4, n, 256))
    y = [
        plain[0] * np.exp(0.5 * rng.standard_normal((n, 1))),  # lengths of samples
        plain[1] * np.sqrt(5 / rng.chisquare(5, (n, 1))),
        rng.standard_t(4, (n, 256)),
        plain[2] * np.where(np.arange(256) < 4, 6, 1),  # some larger dimensions
    ]
    found = cka_map([a.astype(np.float32) for a in y], [plain[3]], estimator=estimator)
    assert found.warnings == ()


@ESTIMATORS
def test_samples_that_are_mostly_the_same_make_no_massive_ones(estimator):
    rng = np.random.default_rng(5)
    y = np.full((200, 5), 0.1, np.float32)
    y[::3] += rng.standard_normal((67, 5)).astype(np.float32)
    x = rng.standard_normal((200, 8)).astype(np.float32)
    found = cka_map([y], [x], estimator=estimator)
    assert (found.n_massive, found.warnings) == (0, ())
    assert cka_map([y], [x], estimator=estimator, massive="drop").n_massive_dropped == 0


@pytest.mark.parametrize("estimator", ["minibatch", "debiased", "biased"])
def test_a_constant_layer_rests_on_nothing(estimator):
    rng = np.random.default_rng(6)
    y = [np.full((200, 5), 0.1, np.float32), rng.standard_normal((200, 5)).astype(np.float32)]
    x = [rng.standard_normal((200, 4)).astype(np.float32)]
    found = cka_map(y, x, estimator=estimator, batch_size=50)
    assert found.warnings == ("y layer 1 is constant over the samples: row NaN",)


def test_a_layer_constant_within_each_batch():
    rng = np.random.default_rng(8)
    y = np.repeat(rng.standard_normal((8, 96)), 64, axis=0)
    x = rng.standard_normal((512, 96))
    for options in ({"batch_size": 64}, {"estimator": "debiased"}):
        found = cka_map([y], [x], **options)
        assert found.similarity[0, 0] == pytest.approx(0, abs=0.01)
        assert found.ci_low[0, 0] < 0 < found.ci_high[0, 0]
        assert not said(found, "constant")
    found = cka_map([y], [x], batch_size=64, batches="in-order", y_layers=(7,))
    assert np.isnan(found.similarity).all()
    assert said(found, "y layer 7 is constant within each of 8 batches: row NaN")
    assert said(found, 'batches = "random" or estimator = "debiased" compares it')


@ESTIMATORS
def test_a_saturated_map_says_so(estimator):
    """Every layer is one strong direction and little else."""
    rng = np.random.default_rng(10)
    shared = rng.standard_normal((600, 1))
    y, x = (
        [100 * shared * rng.standard_normal(20) + rng.standard_normal((600, 20)) for _ in range(4)]
        for _ in range(2)
    )
    found = cka_map(y, x, estimator=estimator)
    [warning] = said(found, "saturated: 100% of the cells are 0.99 or more, or may be")
    assert warning.endswith('compare normalize = "rms"')
    found = cka_map(y, x, estimator=estimator, normalize="rms")
    assert said(found, "saturated")[0].endswith('compare standardize = "zscore"')
    found = cka_map(y, x, estimator=estimator, normalize="rms", standardize="drop-massive")
    assert said(found, "saturated")[0].endswith('compare standardize = "zscore"')
    found = cka_map(y, x, estimator=estimator, normalize="rms", standardize="zscore")
    assert said(found, "saturated")[0].endswith("can hardly be told apart")


@ESTIMATORS
def test_a_map_of_a_model_with_itself_is_not_saturated(estimator):
    rng = np.random.default_rng(11)
    y = [rng.standard_normal((600, 20)) for _ in range(4)]
    for side in (y, y[:2], y[:1]):
        found = cka_map(side, side, estimator=estimator)
        np.testing.assert_allclose(np.diag(found.similarity), 1, atol=1e-9)
        assert found.warnings == ()


def test_large_values_are_standardised_alike_after_massive_samples_are_dropped():
    rng = np.random.default_rng(1)
    y = (rng.normal(size=(400, 20)) + 3e4).astype(np.float32) * np.float32(2**14)
    y[7] *= 50
    x = (y * rng.uniform(0.5, 2, 20) + rng.normal(size=(400, 20)) * 1e4).astype(np.float32)
    found = cka_map([y], [x], massive="drop", standardize="zscore")
    rest = [np.delete(side, 7, axis=0).astype(np.float64) for side in (y, x)]
    exact = cka_map([rest[0]], [rest[1]], standardize="zscore")
    np.testing.assert_allclose(found.similarity, exact.similarity, rtol=0, atol=1e-6)
