"""Baselines: means, differences and their intervals against a slow second way."""

from dataclasses import replace

import numpy as np
import pytest
from made_baseline import COLUMNS, GROUPS, ROWS, made_baseline, noisy_map, truth

from engramcka.errors import ComparisonError
from engramcka.results import Baseline, SimilarityMap, jackknife_interval


def test_means_and_differences_are_those_of_the_cells():
    own, other = noisy_map(truth(0.8)), noisy_map(truth(0.5), seed=1)
    found = Baseline.of(own, {"untrained": other})
    for at, one in enumerate((own, other)):
        assert found.mean[at] == pytest.approx(one.similarity.mean())
        without = [one.jackknife[group].mean() for group in range(GROUPS)]
        low, high = jackknife_interval(one.similarity.mean(), without)
        assert (found.mean_low[at], found.mean_high[at]) == pytest.approx((low, high))
    assert found.above[0] == 0
    assert found.above[1] == pytest.approx((own.similarity - other.similarity).mean())
    without = [(own.jackknife[g] - other.jackknife[g]).mean() for g in range(GROUPS)]
    low, high = jackknife_interval(found.above[1], without)
    assert (found.above_low[1], found.above_high[1]) == pytest.approx((low, high))
    pairs = own.similarity.ravel(), other.similarity.ravel()
    assert found.correlation[1] == pytest.approx(np.corrcoef(*pairs)[0, 1])
    assert found.correlation[0] == pytest.approx(1)


def test_the_same_noise_in_both_maps_falls_out_of_the_difference():
    """Paired where samples are the same; where that is not so, the errors of both are added."""
    own, other = noisy_map(truth(0.8)), noisy_map(truth(0.5))
    paired = Baseline.of(own, {"untrained": other})
    assert paired.above_high[1] - paired.above_low[1] < 1e-12
    for fields in ({"samples": "5678"}, {"samples": ""}, {"n_massive_dropped": 1}):
        apart = Baseline.of(own, {"untrained": noisy_map(truth(0.5), **fields)})
        widths = [high - low for low, high in zip(apart.mean_low, apart.mean_high, strict=True)]
        width = apart.above_high[1] - apart.above_low[1]
        assert width == pytest.approx(sum(widths))


def test_best_is_the_most_similar_row_with_the_interval_of_that_cell():
    own = noisy_map(truth(0.8))
    found = Baseline.of(own, {"untrained": noisy_map(truth(0.5), seed=1)})
    for column in range(COLUMNS):
        row = int(np.argmax(own.similarity[:, column]))
        assert found.best[0, column] == own.similarity[row, column]
        ends = jackknife_interval(own.similarity[row, column], own.jackknife[:, row, column])
        assert (found.best_low[0, column], found.best_high[0, column]) == pytest.approx(ends)


def test_cells_that_one_map_lacks_count_in_neither():
    own, other = truth(0.8), truth(0.5)
    other[0] = np.nan
    own[1, 1] = np.nan
    maps = [SimilarityMap(cells, measure="rsa", n_samples=9) for cells in (own, other)]
    found = Baseline.of(maps[0], {"untrained": maps[1]})
    assert found.mean[1] == pytest.approx(np.nanmean(other))
    assert found.above[1] == pytest.approx(0.3)
    assert np.isnan(found.above_low[1])
    assert np.isfinite(found.best).all()
    assert found.warnings == (
        f"untrained: {COLUMNS + 1} cells with a value in it or in this map alone; each mean is "
        "over its own cells, the difference over those of both",
    )


def test_a_cell_without_a_value_when_a_document_is_left_out_is_in_no_mean():
    own = noisy_map(truth(0.8))
    t = own.jackknife.copy()
    t[3, 0, 0] = np.nan
    found = Baseline.of(replace(own, jackknife=t), {"untrained": own})
    whole = own.similarity.copy()
    whole[0, 0] = np.nan
    expected = jackknife_interval(
        np.nanmean(whole), (own.jackknife.sum((1, 2)) - own.jackknife[:, 0, 0]) / (whole.size - 1)
    )
    assert found.mean[0] == pytest.approx(np.nanmean(whole))
    assert (found.mean_low[0], found.mean_high[0]) == pytest.approx(expected)
    assert found.above[1] == pytest.approx(0.0)
    assert found.warnings[0] == (
        "this map: 1 cell without a value when some documents are left out; not in its mean"
    )


def test_tokens_are_the_first_cell_everywhere():
    own = noisy_map(truth(0.8))
    found = Baseline.of(own, {}, tokens="tokens alone")
    assert found.titles == ("this map", "tokens alone")
    np.testing.assert_array_equal(found.similarity[1], own.similarity[0, 0])
    assert found.above[1] == pytest.approx(own.similarity.mean() - own.similarity[0, 0])
    without = own.jackknife.mean(axis=(1, 2)) - own.jackknife[:, 0, 0]
    ends = jackknife_interval(found.above[1], without)
    assert (found.above_low[1], found.above_high[1]) == pytest.approx(ends)
    assert np.isnan(found.correlation[1])
    from_one = noisy_map(truth(0.8), y_layers=tuple(range(1, ROWS + 1)))
    with pytest.raises(ComparisonError, match="layer 0 of both models is wanted"):
        Baseline.of(from_one, {}, tokens="tokens alone")


def test_what_cannot_stand_beside_a_map_is_refused():
    own = noisy_map(truth(0.8))
    other = noisy_map(truth(0.5), x_layers=tuple(range(1, COLUMNS + 1)))
    with pytest.raises(ComparisonError, match=r"untrained has x_layers \(1, 2, 3\), the map"):
        Baseline.of(own, {"untrained": other})
    rsa = SimilarityMap(truth(0.5), measure="rsa", y_layers=own.y_layers, x_layers=own.x_layers)
    with pytest.raises(ComparisonError, match="untrained has measure rsa, the map cka"):
        Baseline.of(own, {"untrained": rsa})
    titles = ("this map", "untrained", "y_layer")
    with pytest.raises(ComparisonError, match="have one title"):
        replace(made_baseline(), titles=titles)
    with pytest.raises(ComparisonError, match="infinite"):
        replace(made_baseline(), mean=[1.0, np.inf, 0.0])
    with pytest.raises(ComparisonError, match="1 map of 4 x 3 layers are no baseline"):
        Baseline.of(own, {})


def test_the_sentence_says_more_or_less_and_by_how_much():
    found = made_baseline()
    less, more = (found.sentence(at) for at in (1, 2))
    assert less.startswith(f"untrained {found.mean[1]:.3f} (95 % {found.mean_low[1]:.3f} to ")
    low, high = found.above_low[1], found.above_high[1]
    assert f", less than the map by {found.above[1]:.3f} (95 % {low:.3f} to {high:.3f})" in less
    low, high = -found.above_high[2], -found.above_low[2]
    assert f", more than the map by {-found.above[2]:.3f} (95 % {low:.3f} to {high:.3f})" in more
    assert 0 < low < 0.1 < high < 0.2
    assert found.summary().startswith(f"MoE x Engram, mean CKA {found.mean[0]:.3f} (95 %")
    assert found.warnings == ("this map: one dimension", "MoE, seed 1 on MoE: few samples")
    apart = made_baseline(others={"untrained": noisy_map(truth(0.8), n_samples=500)}).sentence(1)
    assert " on 500 samples, less than the map by 0.000 (95 % " in apart
    rows = list(found.rows())
    assert len(rows) == ROWS * COLUMNS
    assert rows[4]["untrained"] == found.similarity[1, 1, 1]
    assert found.size() == "4 x 3  2 baselines"
