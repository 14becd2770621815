"""The nearest depth on maps and models whose truth is known by construction."""

import numpy as np
import pytest

from engramcka.paper import published_maps
from engramcka.results import CkaMap
from engramcka.results.statistics import student_quantile


def made(similarity, spread=0.0, groups=20, seed=0, **fields):
    """A map of a known truth, seen through groups of estimates around it."""
    truth = np.asarray(similarity, dtype=float)
    noise = spread * np.random.default_rng(seed).standard_normal((groups, *truth.shape))
    parts = truth + noise
    total = parts.sum(axis=0)
    return CkaMap(total / groups, jackknife=(total - parts) / (groups - 1), **fields)


def ridge(nearest, rows, width=2.0, height=0.9):
    """Columns that peak at the given rows, counted from 1."""
    return height * np.exp(-(((np.arange(1, rows + 1)[:, None] - nearest) / width) ** 2))


def stream(rng, samples, layers, width=16, step=0.5):
    """The residual stream of a random model: every block adds to it."""
    state, states = rng.standard_normal((samples, width)), []
    for _ in range(layers):
        weights = rng.standard_normal((width, width)) / np.sqrt(width)
        state = state + step * np.tanh(state @ weights)
        state = state + step / 2 * rng.standard_normal(state.shape)
        states.append(state)
    return states


def another(rng, state, noise=0.5):
    """The same states in another basis, and something of its own."""
    basis = np.linalg.qr(rng.standard_normal((state.shape[1],) * 2))[0]
    return state @ basis + noise * rng.standard_normal(state.shape)


def debiased_map(y, x, groups=12):
    """Unbiased CKA of all samples and of all but each group (Song et al. 2012), by definition."""
    features = np.stack([*y, *x])
    kernels = features @ features.transpose(0, 2, 1)

    def cka(k):
        n = k.shape[1]
        k = k.copy()
        k[:, range(n), range(n)] = 0
        rows = k.sum(axis=2) / (n - 2)
        k += k.sum(axis=(1, 2))[:, None, None] / ((n - 1) * (n - 2))
        k -= rows[:, :, None] + rows[:, None, :]
        k[:, range(n), range(n)] = 0
        flat = k.reshape(len(k), -1)
        norms = np.sqrt((flat**2).sum(axis=1))
        return flat[: len(y)] @ flat[len(y) :].T / np.outer(norms[: len(y)], norms[len(y) :])

    parts = np.array_split(np.arange(features.shape[1]), groups)
    kept = [np.setdiff1d(np.concatenate(parts), part) for part in parts]
    return CkaMap(cka(kernels), jackknife=np.stack([cka(kernels[:, k][:, :, k]) for k in kept]))


def test_a_model_against_itself_is_at_its_own_depth():
    states = stream(np.random.default_rng(0), 120, 10)
    found = debiased_map(states, states).depth_shift()
    assert found.sentence == (
        "nearest depth +0.00 layers (95 % +0.00 to +0.00), 10 of 10 columns determined"
    )
    assert found.depth == pytest.approx(np.arange(1, 11), abs=1e-6)
    assert abs(found.shift) < 1e-6
    assert found.unit == "layers"


ORDERS = {
    "same": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    "block cut out": [1, 2, 3, 4, 6, 7, 8, 9, 10],
    "block doubled": [1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10],
    "reversed": [10, 9, 8, 7, 6, 5, 4, 3, 2, 1],
    "permuted": [7, 1, 10, 4, 2, 9, 3, 8, 6, 5],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_models_of_a_known_order(order, noise):
    rng = np.random.default_rng(1)
    y = stream(rng, 120, 10)
    x = [another(rng, y[layer - 1], noise) for layer in order]
    found = debiased_map(y, x).depth_shift()
    truth = np.array(order) - np.arange(1, len(order) + 1)
    known = found.determined
    assert found.n_determined >= len(order) - 2
    assert found.unit == "layers"
    assert found.depth[known] == pytest.approx(np.array(order)[known], abs=0.05)
    expected = truth[known].mean()
    assert found.shift == pytest.approx(expected, abs=0.01)
    assert found.shift_low - 1e-9 <= expected <= found.shift_high + 1e-9


def test_independent_models_have_no_depth():
    said = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        found = debiased_map(stream(rng, 120, 10), stream(rng, 120, 10)).depth_shift()
        assert found.n_determined <= 2
        said += np.isfinite(found.shift)
    assert said == 0
    assert found.sentence.startswith("nearest depth not determined (")


def test_the_interval_covers_depths_between_the_rows():
    """y is every fourth layer of a finer stream, x layers of it anywhere: truths are fractions."""
    covered, columns = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        fine = stream(rng, 100, 40, step=0.25)
        at = np.sort(rng.integers(3, 40, 10))
        found = debiased_map(fine[3::4], [another(rng, fine[i]) for i in at]).depth_shift()
        depth, known = (at + 1) / 4, found.determined
        shift = (depth - np.arange(1, 11))[known].mean()
        covered.append(found.shift_low <= shift <= found.shift_high)
        columns += [*((found.depth_low <= depth) & (depth <= found.depth_high))[known]]
    assert np.mean(covered) >= 0.9
    assert np.mean(columns) >= 0.9


@pytest.mark.parametrize("spread", [0.05, 0.1])
def test_the_interval_is_as_wide_as_it_should_be(spread):
    """Truths anywhere between the rows, and noise that moves the maximum in some maps."""
    covered, columns = [], []
    for seed in range(100):
        nearest = np.sort(np.random.default_rng(1000 + seed).uniform(2, 11, 9))
        found = made(ridge(nearest, 12), spread, seed=seed).depth_shift(x_blocks=12)
        known = found.determined
        if np.isfinite(found.shift):
            shift = (nearest - np.arange(1, 10))[known].mean()
            covered.append(found.shift_low <= shift <= found.shift_high)
        columns += [*((found.depth_low <= nearest) & (nearest <= found.depth_high))[known]]
    assert len(covered) > 95
    assert 0.90 <= np.mean(covered) <= 0.99
    assert np.mean(columns) >= 0.9


def test_two_tied_rows_share_a_column():
    tied = made(ridge(np.array([3.5, 6.0, 7.5]), 10)).depth_shift(x_blocks=10)
    assert tied.depth == pytest.approx([3.5, 6, 7.5], abs=1e-6)
    assert tied.determined.all()


def test_best_rows_that_are_not_neighbours_determine_nothing():
    """Rows 1, 2, 9, 10 and 11 alike at 0.05: their mean, 6.5, is like neither."""
    column = np.full(12, 0.03)
    column[[0, 1, 8, 9, 10]] = 0.05
    cka = made(column[:, None], 0.005)
    assert cka.soft_alignment()[0] == pytest.approx(6.5, abs=0.6)
    found = cka.depth_shift()
    assert not found.determined.any()
    assert np.isnan([found.shift, found.shift_low, found.shift_high]).all()
    assert found.sentence == "nearest depth not determined (0 of 1 columns)"


def test_a_second_peak_is_told_from_a_best_row():
    """The block after a cut: like its own row and, over a valley, nearly like the row before."""
    column = np.array([0.2, 0.5, 0.983, 0.971, 0.980, 0.966, 0.95])
    assert not made(column[:, None], 1e-4).depth_shift().determined[0]
    column[2] = 1.0  # identical: nothing else is nearly as near, however high
    found = made(column[:, None], 1e-4 * (column < 1)[:, None]).depth_shift(x_blocks=7)
    assert found.determined[0]
    assert found.depth[0] == 3


def test_a_saturated_map_has_no_depth():
    """All cells 0.995: which is highest is a matter of which samples were drawn."""
    found = made(np.full((12, 12), 0.995), 0.002).depth_shift()
    assert found.n_determined <= 1
    assert np.isnan(found.shift)
    identical = made(np.ones((12, 12))).depth_shift()  # no noise either
    assert identical.sentence == "nearest depth not determined (0 of 12 columns)"


def test_depths_that_differ_are_compared_in_relative_depth():
    """30 x 7 layers: row 30 i / 7 for column i is the same share of the way."""
    at = np.arange(1, 8)
    found = made(ridge(at * 30 / 7, 30), 1e-3).depth_shift()
    assert found.unit == "relative depth"
    assert found.shift == pytest.approx(0, abs=0.02)
    assert found.shift_low <= 0 <= found.shift_high
    assert " of the depth (95 % " in found.sentence
    assert found.depth[found.determined] == pytest.approx((at / 7)[found.determined], abs=0.02)


def test_numbers_of_blocks_make_the_unit():
    """Every second block captured: in layers once it is known that both models have 12."""
    cka = made(ridge(np.arange(2, 13, 2), 12), 1e-3, x_layers=(2, 4, 6, 8, 10, 12))
    assert cka.depth_shift().unit == "layers"
    cka = made(ridge(np.arange(1, 11, 2), 12), 1e-3, x_layers=(1, 3, 5, 7, 9))
    assert cka.depth_shift().unit == "relative depth"
    found = cka.depth_shift(x_blocks=12)
    assert found.unit == "layers"
    assert found.shift == pytest.approx(0, abs=0.01)


def test_layers_are_where_their_numbers_say():
    similarity = ridge(np.arange(1, 8), 7)
    numbers = (3, 5, 7, 9, 11, 13, 15)
    cka = made(similarity, y_layers=numbers, x_layers=tuple(n - 1 for n in numbers))
    assert cka.depth_shift().shift == pytest.approx(1, abs=1e-6)
    order = np.random.default_rng(0).permutation(7)
    mixed = made(similarity[order], y_layers=tuple(order), x_layers=tuple(range(7)))
    assert mixed.depth_shift().shift == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("spread", [1e-3, 0.02, 0.3, 3.0])
@pytest.mark.parametrize("shape", [(30, 7), (12, 12), (3, 20), (1, 5), (2, 2)])
def test_nothing_is_wider_than_the_model(shape, spread):
    rows, columns = shape
    x = np.linspace(1, rows, columns)
    for seed in range(5):
        found = made(ridge(x, rows), spread, groups=3, seed=seed).depth_shift()
        deepest = rows if found.unit == "layers" else 1
        assert (found.depth_low >= 0).all()
        assert (found.depth_high <= deepest).all()
        assert (found.depth_low <= found.depth + 1e-9).all()
        assert (found.depth <= found.depth_high + 1e-9).all()
        if np.isfinite(found.shift):
            assert found.shift_low <= found.shift + 1e-9
            assert found.shift <= found.shift_high + 1e-9
            assert found.shift_high - found.shift_low < deepest


def test_columns_without_a_number_are_left_out_and_said():
    similarity = ridge(np.arange(1, 11), 10)
    similarity[:, 4] = np.nan
    similarity[6] = np.nan
    found = made(similarity, 1e-3).depth_shift()
    assert np.isnan(found.depth[4])
    assert not found.determined[4]
    assert found.n_columns == 9
    assert found.sentence.endswith("of 9 columns determined, 1 without a number")
    nothing = CkaMap(np.full((3, 3), np.nan)).depth_shift()
    assert nothing.sentence == "nearest depth not determined (0 of 0 columns), 3 without a number"


def test_a_map_without_a_jackknife_has_no_interval():
    found = CkaMap(ridge(np.arange(2, 9), 8)).depth_shift()
    assert found.shift == 1
    assert np.isnan([found.shift_low, found.shift_high]).all()
    assert found.sentence == (
        "nearest depth +1.00 layers (no interval), 7 of 7 columns with one peak"
    )
    assert np.isnan(published_maps()["Engram-27B"].depth_shift().shift)  # read off a figure


def test_student_quantiles_further_out():
    """Tabulated values (Abramowitz and Stegun, table 26.10): 0.99, 0.998 and 0.9995 within."""
    table = {(5, 0.99): 4.032, (20, 0.998): 3.552, (1, 0.998): 318.309, (60, 0.99): 2.660}
    for (degrees, within), value in table.items():
        assert student_quantile(degrees, within) == pytest.approx(value, abs=6e-4)
