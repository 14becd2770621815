from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import small_sweep

from engramcka.results import LossSweep
from engramcka.tui.widgets.grid import Grid
from engramcka.tui.widgets.sweep_drawing import draw_sweep, loss_range, round_values, sweep_frame


def plain(lines):
    return ["".join(text for text, _ in line) for line in lines]


def places(lines, mark):
    return [(x, y) for y, line in enumerate(plain(lines)) for x, c in enumerate(line) if c == mark]


def test_points_stand_over_their_layers_at_their_losses():
    sweep = small_sweep()
    lines = draw_sweep(sweep, 70, 24, None)
    frame = sweep_frame(sweep, 70, 24, close=False)
    assert frame is not None
    expected = {(frame.x(i), round(frame.y(float(m)))) for i, m in enumerate(sweep.mean)}
    assert set(places(lines, "•")) == expected
    heights = [round(frame.y(float(m))) for m in sweep.mean]
    assert heights[1] == max(heights)  # the lowest loss is lowest on the screen


def test_a_baseline_far_away_becomes_an_arrow_or_a_line():
    near = "\n".join(plain(draw_sweep(small_sweep(), 70, 24, close=True)))
    far = "\n".join(plain(draw_sweep(small_sweep(), 70, 24, close=False)))
    assert "↑ MoE 2.51" in near
    assert "╌" not in near
    assert "↑" not in far
    assert "╌" in far
    assert "MoE 2.51" in far


def test_missing_points_leave_a_gap():
    sweep = LossSweep((1, 2, 3), np.array([2.0, np.nan, 2.1]), np.array([]))
    lines = draw_sweep(sweep, 60, 20, None)
    assert len(places(lines, "•")) == 2
    assert not any(0x2800 < ord(c) < 0x2900 for line in plain(lines) for c in line)


def test_nothing_there_at_all_is_no_error():
    sweep = LossSweep((1, 2), np.array([np.nan, np.nan]), np.array([np.nan]))
    assert len(draw_sweep(sweep, 60, 20, 0)) == 20


def test_ablations_are_crosses_with_names_where_there_is_room():
    wide, narrow = (plain(draw_sweep(small_sweep(), width, 24)) for width in (90, 50))
    assert any("× 2.02 without gating" in line for line in wide)
    assert sum(line.count("×") for line in narrow) == 1


def test_hostile_names_are_drawn_as_text():
    sweep = LossSweep(
        (1, 2), np.array([2.0, 2.1]), np.array([2.05]), baseline_label="\x1b[31m[red]"
    )
    text = "\n".join(plain(draw_sweep(sweep, 60, 20)))
    assert "\x1b" not in text
    assert "[31m[red] 2.05" in text


@given(st.integers(1, 120), st.integers(1, 50), st.booleans(), st.booleans())
def test_every_size_is_filled_exactly(width, height, close, ascii_only):
    lines = plain(draw_sweep(small_sweep(), width, height, 1, close=close, ascii_only=ascii_only))
    assert len(lines) == height
    assert all(len(line) == width for line in lines)


@given(st.floats(0.1, 100), st.floats(1e-6, 50), st.integers(2, 12))
def test_ticks_are_inside_and_not_too_many(low, span, most):
    values = round_values(low, low + span, most)
    assert len(values) <= most + 1
    assert all(low - 1e-9 <= value <= low + span + span * 1e-6 for value in values)


def test_the_close_range_keeps_what_is_near():
    low, high = loss_range(small_sweep(), close=True)
    assert low < 1.97
    assert high < 2.5
    assert loss_range(small_sweep(), close=False)[1] > 2.51


@pytest.mark.parametrize(
    ("x", "y", "bits"), [(0, 0, 0x01), (1, 0, 0x08), (0, 3, 0x40), (1, 3, 0x80)]
)
def test_dots_are_the_bits_of_braille(x, y, bits):
    grid = Grid(1, 1)
    grid.dot(x, y, "curve")
    assert grid.lines() == [[(chr(0x2800 + bits), "curve")]]


def test_wide_characters_take_two_places():
    grid = Grid(4, 1)
    grid.text(0, 0, "層a", "axis")
    assert plain(grid.lines()) == ["層a "]
