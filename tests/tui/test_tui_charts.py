"""Curves: where they are drawn, and what is said at a place; every number against the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_baseline import made_baseline
from made_robustness import made_robustness
from small_runs import allocation, lens_curve, training_curve

from engramcka.results import SlotSweep
from engramcka.tui.charts.allocation import AllocationPlot
from engramcka.tui.charts.baseline import BaselinePlot
from engramcka.tui.charts.lens import LensPlot
from engramcka.tui.charts.robustness import RobustnessPlot
from engramcka.tui.charts.slots import SlotsPlot
from engramcka.tui.charts.training import TrainingPlot
from engramcka.tui.loading import Several
from engramcka.tui.widgets.chart_drawing import (
    Chart,
    Curve,
    chart_frame,
    draw_chart,
    mark_of,
    thinned,
    value_range,
)


def two_lenses(**fields):
    values = {"moe": lens_curve("MoE", 3.0), "engram": lens_curve("Engram", 2.0, **fields)}
    return LensPlot(Several("engram", values))


def plain(lines):
    return ["".join(text for text, _ in line) for line in lines]


def test_marks_stand_at_their_values():
    both = two_lenses().chart(0)
    assert "● MoE  ◆ Engram" in plain(draw_chart(both, 70, 24))[0]
    for index in (0, 1):
        curve = replace(both.curves[index], style=index)
        chart = Chart((curve,), "c", zero=True)
        lines, frame = plain(draw_chart(chart, 70, 24)), chart_frame(chart, 70, 24)
        expected = {
            (int(frame.x(x)), round(frame.y(y))) for x, y in zip(curve.x, curve.y, strict=True)
        }
        mark = mark_of(index)
        found = {(x, y) for y, line in enumerate(lines) for x, c in enumerate(line) if c == mark}
        assert found == expected


def test_the_axis_takes_in_every_interval_and_begins_at_zero_where_that_is_near():
    chart = two_lenses().chart(0)
    low, high = value_range(chart)
    assert low <= min(float(curve.low.min()) for curve in chart.curves)
    assert high >= max(float(curve.high.max()) for curve in chart.curves)
    assert value_range(replace(chart, zero=False))[0] < 0 == low


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=40),
    st.integers(1, 90), st.integers(1, 30), st.booleans(),
)  # fmt: skip
def test_any_curve_fills_exactly_the_field(values, width, height, ascii_only):
    y = np.array(values)
    curve = Curve("a\x1b[31m", np.arange(len(y), dtype=float), y, y - 1, y + 1)
    lines = plain(draw_chart(Chart((curve, curve), "c"), width, height, 0.0, ascii_only=ascii_only))
    assert len(lines) == height
    assert {len(line) for line in lines} == {width}
    assert "\x1b" not in "".join(lines)


def test_thinning_keeps_the_extremes():
    rng = np.random.default_rng(0)
    curve = Curve("a", np.arange(20_000.0), rng.normal(size=20_000))
    frame = chart_frame(Chart((curve,), "c"), 60, 20)
    x, y = thinned(curve, frame)
    assert len(x) <= 4 * 60
    assert (y.min(), y.max()) == (curve.y.min(), curve.y.max())
    assert (np.diff(x) > 0).all()


def test_a_zoom_drops_what_is_left_of_it():
    chart = two_lenses().chart(0).beyond(3)
    assert [float(curve.x[0]) for curve in chart.curves] == [3, 3]
    assert all(len(c.x) == len(c.y) == len(c.low) == len(c.high) for c in chart.curves)


def test_the_lens_reads_every_model_at_a_layer():
    said = two_lenses().details(0, 2)
    assert said[0] == ("layer", "2")
    assert [label for label, value in said if label and value is None] == ["● MoE", "◆ Engram"]
    curve = lens_curve("MoE", 3.0)
    assert ("KL", f"{curve.kl[1]:.3f}") in said
    assert ("  95 %", f"{curve.kl_low[1]:.3f}–{curve.kl_high[1]:.3f}") in said
    assert ("top-1", f"{curve.top1[1]:.3f}") in said


def test_only_curves_that_may_be_compared_share_a_plot():
    shown = two_lenses(where="entities")
    assert list(shown.curves) == ["engram"]
    assert "1 more of other samples or another direction" in shown.warnings
    assert list(two_lenses(direction="layer||final").curves) == ["engram"]
    assert "KL(layer || final)" in two_lenses(direction="layer||final").readings[0]


def test_a_silenced_memory_is_in_the_name():
    details = two_lenses(memory=False).details(0, 1)
    labels = [label for label, value in details if label and value is None]
    assert labels == ["● MoE", "◆ Engram, memory off"]


def test_the_layer_of_the_largest_difference():
    assert two_lenses().best(0) == 1
    assert LensPlot(Several("a", {"a": lens_curve("A", 1.0)})).best(0) is None


def test_the_lens_table_gives_every_number_back():
    lines = [line.split("\t") for line in two_lenses().table().splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    moe = [float(row["kl"]) for row in rows if row["model"] == "moe"]
    np.testing.assert_array_equal(moe, lens_curve("MoE", 3.0).kl)
    assert {row["entropy_low"] for row in rows} == {""}


def test_training_reads_the_last_loss_until_a_step():
    shown = TrainingPlot(Several("a", {"a": training_curve(2.0)}))
    curve = training_curve(2.0)
    said = dict(shown.details(0, 115.0))
    assert said["loss"] == f"{curve.loss[10]:.4f} at 110"
    assert said["valid."] == f"{curve.validation_loss[0]:.4f} at 100"
    assert "valid." not in dict(shown.details(0, 50.0))
    assert shown.best(0) == 300
    assert len(shown.table().splitlines()) == 1 + 30 + 3


def test_allocation_reads_a_point_and_its_distance_to_experts_alone():
    shown = AllocationPlot(Several("rho", {"rho": allocation()}))
    said = dict(shown.details(0, 0.6))
    assert said == {
        "rho": "0.6", "experts": "12", "loss": "2.1500", "s.d.": "0.0141",
        "to rho 1": "−0.1000", "best": "rho 0.8",
    }  # fmt: skip
    assert "s.d." not in dict(shown.details(0, 0.8))  # one seed is not there yet
    assert shown.warnings == ["1 of 10 trainings not there yet"]
    assert shown.chart(0).levels[0].value == pytest.approx(2.25)


def test_slots_stand_on_a_logarithmic_axis_with_the_loss_without_memory():
    sweep = SlotSweep(np.array([1e3, 1e5, 1e4]), np.array([2.3, 2.1, 2.2]), np.array([2.4]))
    shown = SlotsPlot(Several("a", {"a": sweep}))
    chart = shown.chart(0)
    assert chart.places == [3, 4, 5]
    assert chart.curves[0].y.tolist() == [2.3, 2.2, 2.1]
    assert (chart.levels[0].name, chart.levels[0].value) == ("no memory", 2.4)
    assert dict(shown.details(0, 4)) == {
        "slots": "10,000", "x 10": "−0.1000", "loss": "2.2000", "to none": "−0.2000",
        "best": "slots 100,000",
    }  # fmt: skip
    assert shown.best(0) == 5
    assert shown.table().splitlines()[1] == "1000.0\t2.3"


def test_robustness_says_at_a_layer_what_every_way_says():
    found = made_robustness()
    shown = RobustnessPlot(found)
    chart = shown.chart(0)
    assert [curve.name for curve in chart.curves] == list(found.ways)
    np.testing.assert_array_equal(chart.curves[1].y, found.alignment[1])
    np.testing.assert_array_equal(chart.curves[0].low, found.alignment_low[0])
    assert chart.curves[1].low is None
    nearest = shown.chart(1).curves
    assert np.isnan(nearest[4].y).all()  # Procrustes determines no layer
    assert nearest[2].y[2] == found.depth[2, 2] == pytest.approx(5, abs=0.02)
    lines = shown.details(0, 3.0)
    assert lines[:3] == [("layer", "3"), ("ways", "4 deeper"), ("", "1 nothing")]
    of_way = lines.index(("▲ CKA, z-scored", None))
    assert lines[of_way + 1] == ("nearest", "5")
    assert ("nearest", "not determined") in lines[lines.index(("○ Procrustes", None)) :]
    assert shown.summary(1, 3.0) == ["layer 3", "nearest layer", "4.0", "4.0 to 5.0 over 4 ways"]
    assert shown.summary(0, 3.0)[1:3] == ["soft alignment", f"{found.alignment[0, 2]:.1f}"]
    assert shown.value(1, 3.0) == found.depth[0, 2]
    spread = np.ptp(found.alignment, axis=0)
    assert shown.best(0) == found.x_layers[int(np.argmax(spread))]
    assert shown.figure_input(1) == (found, {"curve": "depth"})
    assert len(shown.table().splitlines()) == 1 + 5 * 9
    assert shown.warnings == list(found.warnings)


def test_a_map_stands_beside_its_baselines():
    found = made_baseline()
    shown = BaselinePlot(found)
    chart = shown.chart(0)
    assert [curve.name for curve in chart.curves] == list(found.titles)
    np.testing.assert_array_equal(chart.curves[1].y, found.best[1])
    np.testing.assert_array_equal(chart.curves[1].low, found.best_low[1])
    means = shown.chart(1).curves
    np.testing.assert_allclose(means[2].y, found.similarity[2].mean(axis=0))
    assert means[2].low is None
    same = shown.chart(2).curves[0].y
    np.testing.assert_array_equal(same, np.diag(found.similarity[0][:3]))
    lines = shown.details(0, 1.0)
    at = lines.index((f"{mark_of(1)} untrained", None))
    assert lines[at + 1] == ("highest", f"{found.best[1, 1]:.3f}")
    assert ("above", f"{found.above[1]:.3f}") in lines[at:]
    assert ("corr.", f"{found.correlation[1]:.2f}") in lines[at:]
    assert shown.summary(0, 1.0)[2:4] == [
        f"{mark_of(place)} {found.best[place, 1]:.3f}" for place in range(2)
    ]
    above = found.best[0] - found.best[1:].max(axis=0)
    assert shown.best(0) == found.x_layers[int(np.argmax(above))]
    assert shown.value(0, 2.0) == found.best[0, 2]
    assert shown.value_name(0, 2.0) == "CKA, highest, at layer 2"
    assert len(shown.table().splitlines()) == 1 + found.similarity[0].size
