from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_runs import diagonal_map, full_map, small_sweep

from engramcka.results import CkaMap
from engramcka.tui import readout
from engramcka.tui.charts.sweep import SweepPlot


def test_a_cell_says_what_is_stored():
    cka = full_map()
    aligned = cka.soft_alignment()
    said = dict(readout.cell(cka, 4, 5, readout.alignment(cka, 5)))
    value = cka.similarity[4, 5]
    assert said["CKA"] == f"{value:.3f}"
    assert said["95 %"] == f"{value - 0.01:.3f}–{value + 0.02:.3f}".replace("0.", ".")
    assert said["null"] == ".003 p .200"
    assert said["a_5"].split() == [f"{aligned[5]:.1f}", "max", "6"]


def test_nothing_is_said_that_the_map_has_not():
    cka = CkaMap([[0.5, np.nan], [0.25, np.nan]])
    aligned = readout.alignment(cka, 5)
    assert [label for label, _ in readout.cell(cka, 0, 0, aligned)] == ["CKA", "a_5"]
    said = dict(readout.cell(cka, 0, 1, aligned))
    assert said == {"CKA": "no value", "a_5": "–"}
    assert readout.diagnostics(cka, 0, 0) == []


def test_alignment_and_shift_carry_their_intervals():
    rng = np.random.default_rng(0)
    values = full_map().similarity
    jackknife = values + rng.normal(0, 0.01, (8, *values.shape))
    cka = CkaMap(values, jackknife=jackknife)
    aligned = readout.alignment(cka, 3)
    low, high = cka.soft_alignment_interval(3)
    said = dict(readout.cell(cka, 0, 6, aligned))["a_3"]
    assert said.split()[0] == f"{cka.soft_alignment(3)[6]:.1f}±{(high[6] - low[6]) / 2:.1f}"
    shift = cka.depth_shift()
    half = (shift.shift_high - shift.shift_low) / 2
    counts = f"{shift.n_determined}/12"
    assert readout.shift(aligned.shift) == f"+0.0±{half:.1f} {counts}"
    assert readout.shift(CkaMap(values).depth_shift()) == "+0.0 12/12"
    assert readout.shift(CkaMap(np.ones((4, 4))).depth_shift()) == "not det. 0/4"
    assert readout.shift(diagonal_map(30, 7).depth_shift()) == "−0.06 7/7"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.9137, ".914"), (-0.0004, ".000"), (1.0, "1.000"), (-0.25, "−.250"), (float("nan"), "–")],
)
def test_short_decimals(value, shown):
    assert readout.short_decimals(value) == shown


def test_intervals_below_zero_do_not_look_like_subtractions():
    cka = CkaMap([[0.0]], ci_low=[[-0.01]], ci_high=[[0.02]])
    assert readout.interval(cka, 0, 0) == "−.010 to .020"


def test_diagnostics_name_both_sides():
    assert readout.diagnostics(full_map(), 0, 0) == [
        ("rank", "12.5 / 12.5"),
        ("top dim", "25% / 25%"),
    ]


def test_a_point_says_spread_and_distance_to_the_baseline():
    said = dict(SweepPlot(small_sweep()).details(0, 2))
    assert said["layer"] == "2"
    assert said["loss"] == "1.9900"
    assert said["s.d."] == "0.0141"
    assert said["to base"] == "−0.5200"
    assert said["best"] == "layer 2"
    assert "s.d." not in dict(SweepPlot(small_sweep()).details(0, 6))


def test_a_point_says_the_interval_of_its_distance_where_there_is_one():
    ends = np.full(4, -0.5), np.full(4, 0.25)
    sweep = replace(small_sweep(), difference_low=ends[0], difference_high=ends[1])
    assert dict(SweepPlot(sweep).details(0, 2))["95 %"] == "−0.500 to +0.250"
    assert "95 %" not in dict(SweepPlot(small_sweep()).details(0, 2))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-0.25, "−0.250"), (0.25, "+0.250"), (-0.0004, "+0.000"), (float("nan"), "–")],
)
def test_a_difference_has_a_sign_and_no_negative_zero(value, shown):
    assert readout.signed(value, 3) == shown


def test_tables_read_back_to_the_same_numbers():
    cka = full_map()
    rows = [line.split("\t") for line in readout.table(cka).splitlines()]
    assert rows[0][1:] == [str(layer) for layer in cka.x_layers]
    np.testing.assert_array_equal(np.array([row[1:] for row in rows[1:]], float), cka.similarity)
    numbers = readout.row_table(cka, 3).splitlines()[1].split("\t")
    assert numbers[0] == "4"
    np.testing.assert_array_equal(np.array(numbers[1:], float), cka.similarity[3])
    sweep = small_sweep()
    lines = SweepPlot(sweep).table().splitlines()
    assert [float(v) for v in lines[2].split("\t")[1:]] == [1.98, 2.0]
    assert lines[-1] == "without gating\t2.02"


def test_a_sparkline_keeps_peaks_and_marks_nothing_as_nothing():
    values = np.array([0.0, 0.1, 1.0, 0.0, np.nan, 0.5])
    assert readout.spark_levels(values, 6) == [0, 1, 8, 0, readout.MISSING, 4]
    assert readout.spark_levels(values, 3) == [1, 8, 4]
    assert readout.spark_levels(np.array([-0.3, -0.05, 1.4]), 10) == [readout.NEGATIVE, 0, 8]
