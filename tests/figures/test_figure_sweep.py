from dataclasses import replace

import numpy as np
import pytest
from drawn import looked_at, made_sweep
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from engramcka.figures import plot_sweep, sweep_figure
from engramcka.figures.labels import layer_ticks
from engramcka.figures.sweep import Break, find_break
from engramcka.figures.sweep_labels import spread_apart
from engramcka.paper import published_sweep
from engramcka.results import LossSweep

FEW = {"without gating": 1.7742, "with 4-grams": 1.7688, "with $x_2$": 1.7689}


def test_points_are_means_and_bars_one_standard_deviation_over_seeds():
    sweep = made_sweep(seeds=4)
    line, _, (bars,) = plot_sweep(sweep).points
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 13))
    np.testing.assert_allclose(line.get_ydata(), sweep.loss.mean(axis=1))
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    deviation = np.std(sweep.loss, axis=1, ddof=1)
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * deviation)


def test_bars_are_the_interval_of_the_difference_where_it_is_known():
    sweep = made_sweep(seeds=3)
    half = np.linspace(0.001, 0.01, 12)
    for seeds in (3, 1):
        known = LossSweep(
            sweep.layers[::-1], sweep.loss[::-1, :seeds], sweep.baseline[:seeds],
            seeds=range(seeds),
        )  # fmt: skip
        center = known.difference
        ends = {"difference_low": center - half, "difference_high": center + half}
        artists = plot_sweep(replace(known, **ends))
        line, _, (bars,) = artists.points
        drawn = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(drawn[:, 1] - drawn[:, 0], 2 * half[::-1])
        np.testing.assert_allclose(line.get_ydata(), sweep.loss[:, :seeds].mean(axis=1))
        bottom, top = artists.axes.get_ylim()
        assert bottom < drawn.min() < drawn.max() < top


def test_missing_points_leave_a_gap_and_a_lone_seed_has_no_bar():
    nan = np.nan
    sweep = LossSweep((1, 2, 3), [[2.0, 2.1], [nan, nan], [nan, 1.9]], [2.2], seeds=(0, 1))
    line, _, (bars,) = plot_sweep(sweep).points
    np.testing.assert_array_equal(line.get_ydata(), [2.05, nan, 1.9])
    drawn = [s for s in bars.get_segments() if s.size and np.isfinite(s).all()]
    assert len(drawn) == 1


def test_a_far_baseline_breaks_the_axis_and_a_near_one_does_not():
    far = plot_sweep(published_sweep())
    assert far.broken.low < 1.80 < 1.808 < far.broken.top
    assert far.broken.bottom < 1.76782
    assert plot_sweep(published_sweep(), break_far=False).broken is None
    assert plot_sweep(made_sweep(baseline=(1.785, 1.7855, 1.786))).broken is None
    below = plot_sweep(made_sweep(baseline=(1.2,)))
    assert below.broken.bottom < 1.2 < below.broken.low < below.broken.high < 1.77


def test_ticks_say_what_the_broken_axis_shows():
    artists = plot_sweep(published_sweep())
    ax = artists.axes
    broken = artists.broken
    labels = {label.get_position()[1]: label.get_text() for label in ax.get_yticklabels()}
    assert len(labels) >= 3
    for at, text in labels.items():
        assert float(text) == pytest.approx(at, abs=1e-9)
        assert not broken.low < at < broken.high
    assert max(labels) > broken.high
    assert ax.get_ylim() == (broken.bottom, broken.top)


def test_lines_and_crosses_stand_at_their_losses():
    artists = plot_sweep(published_sweep())
    assert artists.baseline.get_ydata()[0] == 1.808
    assert [line.get_ydata()[0] for line in artists.references] == [1.76782]
    np.testing.assert_array_equal(
        artists.crosses.get_ydata(), list(published_sweep().variants.values())
    )
    assert artists.crosses.get_xdata().min() > 12.5


def test_the_baseline_is_drawn_orange_past_the_break():
    figure = sweep_figure(published_sweep())
    at = looked_at(figure, dpi=300)
    row = np.array([at(figure.axes[0], x, 1.808) for x in np.linspace(6, 12, 200)])
    red, green, blue = row.T
    orange = (red > 0.8) & (green < 0.65) & (blue < 0.4)
    assert 0.3 < orange.mean() < 0.95  # dashed


def test_variants_that_do_not_exist_are_left_out():
    artists = plot_sweep(made_sweep(variants={"a": np.nan, "b": 1.771}))
    assert [name.get_text() for name in artists.names] == ["b", "baseline"]
    assert plot_sweep(made_sweep(variants={"a": np.nan})).crosses is None


@pytest.mark.parametrize("style", ["plain", "acl", "nature"])
@pytest.mark.parametrize("rising", [True, False])
def test_no_name_covers_another_or_a_point_or_leaves_the_axes(style, rising):
    sweep = made_sweep(seeds=1, variants=FEW, reference={"layers 2 and 6": 1.7675})
    if not rising:
        sweep = LossSweep(
            sweep.layers, sweep.loss[::-1], [1.81], variants=FEW, reference={"both": 1.7675}
        )
    figure = sweep_figure(sweep, style)
    figure.draw_without_rendering()
    renderer, ax = figure.canvas.get_renderer(), figure.axes[0]
    frame = ax.get_window_extent()
    texts = list(ax.texts)
    assert len(texts) == 5
    for index, text in enumerate(texts):
        box = text.get_bbox_patch().get_window_extent(renderer)
        assert box.x0 >= frame.x0 - 1
        assert box.x1 <= frame.x1 + 1
        assert box.y0 >= frame.y0 - 1
        assert box.y1 <= frame.y1 + 1
        for other in texts[:index]:
            beside = other.get_bbox_patch().get_window_extent(renderer)
            overlap = min(box.y1, beside.y1) - max(box.y0, beside.y0)
            across = min(box.x1, beside.x1) - max(box.x0, beside.x0)
            assert overlap <= 2 or across <= 0, (text.get_text(), other.get_text())
        points = ax.transData.transform(np.column_stack([sweep.layers, sweep.mean]))
        assert not any(box.contains(*point) for point in points), text.get_text()


def test_an_empty_sweep_says_so():
    nan = np.nan
    artists = plot_sweep(LossSweep((1, 2), [nan, nan], [nan]))
    assert [text.get_text() for text in artists.axes.texts] == ["no loss yet"]
    assert plot_sweep(LossSweep((4,), [2.5], [])).baseline is None


def test_it_draws_on_the_callers_axes_from_layer_zero():
    ax = Figure().subplots()
    artists = plot_sweep(made_sweep(), ax, first_layer=0, title="mine")
    assert artists.axes is ax
    np.testing.assert_array_equal(artists.points[0].get_xdata(), np.arange(12))
    assert ax.get_title() == "mine"


limits = st.floats(0.1, 10.0)


@given(limits, limits, limits, limits)
def test_the_broken_scale_rises_and_its_inverse_undoes_it(below, gap, above, drawn):
    scale = Break(1.0, 1.0 + below, 1.0 + below + gap, 1.0 + below + gap + above, drawn)
    values = np.linspace(scale.bottom - 1, scale.top + 1, 101)
    there = scale.forward(values)
    assert (np.diff(there) > 0).all()
    np.testing.assert_allclose(scale.inverse(there), values, rtol=1e-9, atol=1e-9)
    whole = scale.forward(scale.top) - scale.forward(scale.bottom)
    assert whole == pytest.approx(below + drawn + above)


def test_equal_losses_still_have_a_scale():
    assert find_break(np.array([2.0, 2.0]), np.array([2.0])) is None
    found = find_break(np.array([2.0, 2.0]), np.array([3.0]))
    assert found.bottom < 2.0 < found.low < found.high < 3.0 < found.top


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.floats(0.5, 20))
def test_spread_apart_keeps_order_distance_and_range(wanted, gap):
    wanted = np.array(wanted)
    placed = spread_apart(wanted, gap, 0.0, 100.0)
    kept = min(gap, 100.0 / max(len(wanted) - 1, 1))
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(placed[order]) >= kept - 1e-6).all()
    assert placed.min() >= -1e-9
    assert placed.max() <= 100 + 1e-6


def test_what_is_far_enough_apart_stays():
    np.testing.assert_allclose(spread_apart(np.array([50.0, 10.0]), 5, 0, 100), [50, 10])
    np.testing.assert_allclose(spread_apart(np.array([50.0, 50.0]), 6, 0, 100), [47, 53])


@pytest.mark.parametrize(
    ("layers", "most", "shown"),
    [
        (range(1, 7), 6, [1, 2, 3, 4, 5, 6]),
        (range(1, 31), 12, [1, 5, 10, 15, 20, 25, 30]),
        (range(30), 12, [0, 5, 10, 15, 20, 25]),
        (range(1, 81), 10, [1, 10, 20, 30, 40, 50, 60, 70, 80]),
        (range(1, 201), 5, [1, 50, 100, 150, 200]),
        ((4, 8, 12, 16), 2, [4, 12]),
        ((7,), 0, [7]),
    ],
)
def test_ticks_are_round_numbers_after_the_first_layer(layers, most, shown):
    assert layer_ticks(list(layers), most) == shown


@given(st.integers(0, 1), st.integers(1, 400), st.integers(1, 40))
def test_there_are_never_many_more_ticks_than_have_room(first, count, most):
    layers = list(range(first, first + count))
    shown = layer_ticks(layers, most)
    assert 1 <= len(shown) <= most + 1
    assert set(shown) <= set(layers)
