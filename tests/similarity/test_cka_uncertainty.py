"""Intervals cover the truth as often as they say; p values are small as often as they say."""

import numpy as np
import pytest
import reference
from hidden_states import drawn

from engramcka import cka_map
from engramcka.results import CkaMap, student_quantile

REPLICATES = 150
WIDTH = 6


def replicates(seed, n):
    """Pairs of layers with one known population CKA, each pair with its own samples."""
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal((2, 4, WIDTH)) * 0.7
    truth = reference.population_cka(*maps)
    ys, xs = [], []
    for _ in range(REPLICATES):
        z = rng.standard_normal((n, 4))
        ys.append(z @ maps[0] + rng.standard_normal((n, WIDTH)))
        xs.append(z @ maps[1] + rng.standard_normal((n, WIDTH)))
    return truth, ys, xs


@pytest.mark.parametrize(
    ("estimator", "batch_size"), [("minibatch", 64), ("minibatch", 32), ("debiased", 1024)]
)
def test_intervals_cover_the_truth(estimator, batch_size):
    covered = []
    for seed in range(2):
        truth, ys, xs = replicates(seed, 640)
        found = cka_map(ys, xs, estimator=estimator, batch_size=batch_size)
        low, high = np.diag(found.ci_low), np.diag(found.ci_high)
        covered += [*((low <= truth) & (truth <= high))]
    # 300 at 95 %: a standard error of 1.3 %
    assert 0.90 <= np.mean(covered) <= 0.99


def test_the_unbiased_estimators_have_no_bias_and_the_biased_one_has():
    error = {}
    for estimator, n in (("minibatch", 160), ("debiased", 160), ("biased", 20)):
        truth, ys, xs = replicates(5, n)
        values = np.diag(cka_map(ys, xs, estimator=estimator, batch_size=40).similarity)
        error[estimator] = (values.mean() - truth) / (values.std() / np.sqrt(REPLICATES))
    assert abs(error["minibatch"]) < 4
    assert abs(error["debiased"]) < 4
    assert error["biased"] > 4


@pytest.mark.parametrize("estimator", ["minibatch", "debiased", "biased"])
def test_the_jackknife_is_the_map_without_a_group(estimator):
    rng = np.random.default_rng(8)
    y, x = ([rng.standard_normal((320, w)) for w in (5, 7)] for _ in range(2))
    found = cka_map(y, x, estimator=estimator, batch_size=10, batches="in-order")
    assert len(found.jackknife) == 32
    for group in (0, 13, 31):
        rest = np.delete(np.arange(320), np.s_[10 * group : 10 * group + 10])
        without = reference.cka_matrix(
            [a[rest] for a in y], [b[rest] for b in x], estimator=estimator, batch_size=10
        )
        np.testing.assert_allclose(found.jackknife[group], without, rtol=0, atol=1e-9)


def test_at_most_64_groups():
    rng = np.random.default_rng(8)
    y, x = ([rng.standard_normal((1000, 3))] for _ in range(2))
    for batches, parts in (
        ("random", drawn(1000, 10).batches),
        ("in-order", reference.batches(1000, 10)),
    ):
        found = cka_map(y, x, batch_size=10, batches=batches)
        assert found.jackknife.shape == (64, 1, 1)
        assert len(parts) == found.n_batches == 100
        # in 64 groups: the first holds batches 0 and 1
        rest = reference.cka_matrix(y, x, parts=parts[2:])
        assert found.jackknife[0] == pytest.approx(rest, abs=1e-9)


def test_no_interval_from_one_batch_or_four_samples():
    rng = np.random.default_rng(8)
    y, x = ([rng.standard_normal((50, 3))] for _ in range(2))
    four = [y[0][:4]], [x[0][:4]]
    for found in (
        cka_map(y, x, batches="in-order"),
        cka_map(*four),
        cka_map(*four, estimator="debiased"),
    ):
        assert found.jackknife is found.ci_low is found.ci_high is None
        assert any(w.startswith("no intervals") for w in found.warnings)
        assert np.isfinite(found.similarity).all()


@pytest.mark.filterwarnings("error")
def test_batches_too_small_to_leave_documents_out_have_a_map_and_no_interval():
    rng = np.random.default_rng(9)
    y, x = ([rng.standard_normal((8, 3)) for _ in range(2)] for _ in range(2))
    found = cka_map(y, x, groups=np.arange(8) // 2, batch_size=4)
    assert np.isfinite(found.similarity).all()
    assert found.ci_low is None
    assert any("too few samples" in warning for warning in found.warnings)


def test_one_random_batch_has_an_interval_over_its_samples():
    rng = np.random.default_rng(8)
    y, x = ([rng.standard_normal((50, 3))] for _ in range(2))
    found = cka_map(y, x)
    assert (found.n_batches, found.interval_over, len(found.jackknife)) == (1, "samples", 8)
    groups = drawn(50, 1024).groups
    for group in range(8):
        rest = reference.cka_matrix(y, x, parts=[np.flatnonzero(groups != group)])
        assert found.jackknife[group] == pytest.approx(rest, abs=1e-9)


@pytest.mark.parametrize("estimator", ["minibatch", "debiased", "biased"])
def test_p_values_of_independent_layers_are_uniform(estimator):
    rng = np.random.default_rng(9)
    y, x = ([rng.standard_normal((80, 4)) for _ in range(40)] for _ in range(2))
    found = cka_map(y, x, estimator=estimator, batch_size=40, permutations=99)
    p = np.diag(found.p_value)  # pairs that share no layer are independent
    assert found.null.shape == (99, 40, 40)
    assert p.min() >= 0.01
    distance = np.abs(np.sort(p) - np.arange(1, 41) / 40).max()
    assert distance < 1.63 / np.sqrt(40)  # Kolmogorov and Smirnov at 1 %
    again = cka_map(y, x, estimator=estimator, batch_size=40, permutations=99)
    assert np.array_equal(found.null, again.null)
    other = cka_map(y, x, estimator=estimator, batch_size=40, permutations=99, seed=1)
    assert not np.array_equal(found.null, other.null)


@pytest.mark.parametrize("estimator", ["minibatch", "debiased", "biased"])
@pytest.mark.parametrize("n", [30, 600])
def test_the_null_is_the_map_of_shuffled_samples(estimator, n, monkeypatch):
    """With known shuffles, against the reference on samples shuffled by hand."""
    from engramcka.similarity import permutation

    def reverse(self, blocks, device):
        import torch

        return [torch.arange(b - a - 1, -1, -1)[None] for a, b in blocks]

    monkeypatch.setattr(permutation.Shuffles, "within", reverse)
    rng = np.random.default_rng(10)
    y, x = ([rng.standard_normal((n, w)) + 5 for w in (5, 7)] for _ in range(2))
    found = cka_map(y, x, estimator=estimator, batch_size=n, permutations=1)
    size = min(256, max(64, -(-n // 4))) if estimator == "minibatch" else 256
    order = np.concatenate([np.arange(n)[a : a + size][::-1] for a in range(0, n, size)])
    shuffled = [b[order] for b in x]
    expected = reference.cka_matrix(y, shuffled, estimator=estimator, batch_size=n)
    np.testing.assert_allclose(found.null[0], expected, rtol=0, atol=1e-9)


def test_related_layers_have_the_smallest_p():
    truth, ys, xs = replicates(1, 128)
    assert truth > 0.1
    found = cka_map(ys[:5], xs[:5], batch_size=64, permutations=49)
    assert (np.diag(found.p_value) == 1 / 50).all()
    rbf = cka_map(ys[:5], xs[:5], batch_size=64, kernel="rbf", permutations=49)
    assert (np.diag(rbf.p_value) == 1 / 50).all()


def test_diagnostics_of_known_layers():
    rng = np.random.default_rng(12)
    n = 4000
    scale = np.array([3.0, 1.0, 1.0, 1.0, 2.0])
    flat, uneven = rng.standard_normal((n, 50)), rng.standard_normal((n, 5)) * scale
    rotation = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    for estimator in ("minibatch", "debiased", "biased"):
        found = cka_map([flat, uneven, uneven @ rotation], [flat], estimator=estimator)
        d = found.y_diagnostics
        rank = (scale**2).sum() ** 2 / (scale**4).sum()
        np.testing.assert_allclose(d.effective_rank, [50, rank, rank], rtol=0.06)
        assert d.top_dimension_share[1] == pytest.approx(9 / 16, rel=0.06)
        assert d.top_component_share[2] == pytest.approx(9 / 16, rel=0.06)
        assert d.top_dimension_share[2] < 0.5
        assert d.width.tolist() == [50, 5, 5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_variances_are_those_of_every_batch(dtype):
    """Each batch's sums of squares are kept, though the next is made in the same memory."""
    rng = np.random.default_rng(15)
    n, batch = 150, 40
    scales = np.repeat([1.0, 5.0, 0.2, 9.0], [40, 40, 40, 30])[:, None]  # one a batch
    y = [(scales * rng.standard_normal((n, w)) * rng.random(w)).astype(dtype) for w in (9, 9, 30)]
    x = [(scales * rng.standard_normal((n, 4))).astype(dtype)]
    for batches, parts in (
        ("random", drawn(n, batch).batches),
        ("in-order", reference.batches(n, batch)),
    ):
        found = cka_map(y, x, batch_size=batch, batches=batches)
        for layers, diagnostics in ((y, found.y_diagnostics), (x, found.x_diagnostics)):
            for layer, share in zip(layers, diagnostics.top_dimension_share, strict=True):
                centred = [layer[part].astype(float) - layer[part].mean(0) for part in parts]
                squares = sum((part**2).sum(0) for part in centred)
                assert share == pytest.approx(squares.max() / squares.sum(), rel=1e-6)


def test_student_quantiles():
    """Tabulated values (Abramowitz and Stegun, table 26.10)."""
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 30: 2.042, 60: 2.000}
    for degrees, value in table.items():
        assert student_quantile(degrees) == pytest.approx(value, abs=6e-4)


def test_the_interval_of_the_alignment_covers_the_truth():
    """Maps of known alignment with noise: groups of estimates around a true map."""
    rng = np.random.default_rng(13)
    truth = np.exp(-0.5 * ((np.arange(12)[:, None] - np.arange(12) - 1.3) / 2) ** 2)
    aligned = CkaMap(truth).soft_alignment()
    covered = []
    for _ in range(200):
        groups = truth + 0.1 * rng.standard_normal((20, 12, 12))
        total = groups.sum(axis=0)
        cka = CkaMap(total / 20, jackknife=(total - groups) / 19)
        low, high = cka.soft_alignment_interval()
        covered += [*((low <= aligned) & (aligned <= high))[2:9]]
    assert 0.90 <= np.mean(covered) <= 0.99
