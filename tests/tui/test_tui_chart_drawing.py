from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import small_sweep

from engramcka.figures import sweep_figure
from engramcka.results import LossSweep
from engramcka.tui.charts.sweep import SweepPlot
from engramcka.tui.widgets.axes import round_values
from engramcka.tui.widgets.canvas import CharacterGrid
from engramcka.tui.widgets.chart_drawing import chart_frame, draw_chart, value_range


def plain(lines):
    return ["".join(text for text, _ in line) for line in lines]


def places(lines, mark):
    return [(x, y) for y, line in enumerate(plain(lines)) for x, c in enumerate(line) if c == mark]


def chart_of(sweep, near=False):
    return replace(SweepPlot(sweep).chart(0), near=near)


def test_points_stand_over_their_layers_at_their_losses():
    sweep = small_sweep()
    lines = draw_chart(chart_of(sweep), 70, 24)
    frame = chart_frame(chart_of(sweep), 70, 24)
    assert frame is not None
    expected = {
        (int(frame.x(layer)), round(frame.y(float(mean))))
        for layer, mean in zip(sweep.layers, sweep.mean, strict=True)
    }
    assert set(places(lines, "●")) == expected
    heights = [round(frame.y(float(m))) for m in sweep.mean]
    assert heights[1] == max(heights)  # the lowest loss is lowest on the screen


def test_a_bar_is_that_of_the_figure():
    """One standard deviation over seeds, or the interval of the difference where it is known."""
    sweep = small_sweep()
    curve = SweepPlot(sweep).chart(0).curves[0]
    deviation = np.std([2.01, 2.03], ddof=1)  # 0.02 apart in every layer; the last has one seed
    means = np.array([2.02, 1.99, 2.06, np.nan])
    np.testing.assert_allclose(curve.low, means - deviation)
    np.testing.assert_allclose(curve.high, means + deviation)
    ends = sweep.difference - 0.3, sweep.difference + 0.3
    known = replace(sweep, difference_low=ends[0], difference_high=ends[1])
    curve = SweepPlot(known).chart(0).curves[0]
    np.testing.assert_allclose(curve.high - sweep.mean, 0.3)
    (axes,) = sweep_figure(known).axes[:1]
    half = [abs(np.diff(s[:, 1]))[0] / 2 for s in axes.containers[0].lines[2][0].get_segments()]
    np.testing.assert_allclose(half, 0.3)


def test_layers_in_any_order_are_drawn_from_left_to_right():
    curve = SweepPlot(LossSweep((4, 1), np.array([2.0, 2.1]), np.array([]))).chart(0).curves[0]
    assert (curve.x.tolist(), curve.y.tolist()) == ([1, 4], [2.1, 2.0])


def test_a_baseline_far_away_becomes_an_arrow_or_a_line():
    near = "\n".join(plain(draw_chart(chart_of(small_sweep(), near=True), 70, 24)))
    far = "\n".join(plain(draw_chart(chart_of(small_sweep()), 70, 24)))
    assert "↑ MoE 2.51" in near
    assert "╌" not in near
    assert "↑" not in far
    assert "╌" in far
    assert "MoE 2.51" in far


def test_an_ablation_far_away_is_an_arrow_at_the_edge():
    sweep = replace(small_sweep(), variants={"without gating": 2.02, "worse": 3.0, "odd": np.nan})
    lines = draw_chart(chart_of(sweep, near=True), 90, 24)
    assert "↑ worse" in plain(lines)[0]
    assert len(places(lines, "×")) == 1
    assert len(places(draw_chart(chart_of(sweep), 90, 24), "×")) == 2


def test_missing_points_leave_a_gap():
    sweep = LossSweep((1, 2, 3), np.array([2.0, np.nan, 2.1]), np.array([]))
    lines = draw_chart(chart_of(sweep), 60, 20)
    assert len(places(lines, "●")) == 2
    dots = [c for line in plain(lines) for c in line if 0x2800 < ord(c) < 0x2900]
    assert not dots


def test_nothing_there_at_all_is_no_error():
    sweep = LossSweep((1, 2), np.array([np.nan, np.nan]), np.array([np.nan]))
    assert len(draw_chart(chart_of(sweep, near=True), 60, 20, 1.0)) == 20
    shown = SweepPlot(sweep)
    assert shown.details(0, 1.0) == [
        ("model", None), ("layer", "1"), ("loss", "not there yet"), ("", None),
    ]  # fmt: skip
    assert shown.best(0) is None


def test_ablations_are_crosses_with_names_where_there_is_room():
    wide, narrow = (plain(draw_chart(chart_of(small_sweep()), width, 24)) for width in (90, 20))
    assert any("without gating ×" in line for line in wide)
    assert sum(line.count("×") for line in narrow) == 1
    assert not any("gating" in line for line in narrow)


def test_an_ablation_has_a_place_right_of_the_last_layer_and_is_told_there():
    shown = SweepPlot(replace(small_sweep(), variants={"a": 2.02, "b": 2.12, "c": np.nan}))
    *layers, b, a = shown.chart(0).places
    assert layers == [1, 2, 4, 6]
    assert shown.summary(0, a) == ["a 2.0200", "to base −0.4900"]
    assert shown.value(0, b) == 2.12
    assert ("b", None) in shown.details(0, b)[:2]
    assert shown.chart(0).last_number == 6


def test_hostile_names_are_drawn_as_text():
    sweep = LossSweep(
        (1, 2), np.array([2.0, 2.1]), np.array([2.05]), baseline_label="\x1b[31m[red]"
    )
    text = "\n".join(plain(draw_chart(chart_of(sweep), 60, 20)))
    assert "\x1b" not in text
    assert "[31m[red] 2.05" in text


@given(st.integers(1, 120), st.integers(1, 50), st.booleans(), st.booleans())
def test_every_size_is_filled_exactly(width, height, near, ascii_only):
    chart = chart_of(small_sweep(), near)
    lines = plain(draw_chart(chart, width, height, 1.0, ascii_only=ascii_only))
    assert len(lines) == height
    assert all(len(line) == width for line in lines)


@given(st.floats(0.1, 100), st.floats(1e-6, 50), st.integers(2, 12))
def test_ticks_are_inside_and_not_too_many(low, span, most):
    values = round_values(low, low + span, most)
    assert len(values) <= most + 1
    assert all(low - 1e-9 <= value <= low + span + span * 1e-6 for value in values)


def test_the_near_range_keeps_what_is_near():
    low, high = value_range(chart_of(small_sweep(), near=True))
    assert low < 1.97
    assert high < 2.5
    assert value_range(chart_of(small_sweep()))[1] > 2.51


@pytest.mark.parametrize(
    ("x", "y", "bits"), [(0, 0, 0x01), (1, 0, 0x08), (0, 3, 0x40), (1, 3, 0x80)]
)
def test_dots_are_the_bits_of_braille(x, y, bits):
    grid = CharacterGrid(1, 1)
    grid.dot(x, y, "curve")
    assert grid.lines() == [[(chr(0x2800 + bits), "curve")]]


def test_wide_characters_take_two_places():
    grid = CharacterGrid(4, 1)
    grid.text(0, 0, "層a", "axis")
    assert plain(grid.lines()) == ["層a "]
