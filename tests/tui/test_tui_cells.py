from __future__ import annotations

import numpy as np
import pytest
from rich.color import Color

from engramcka import palettes
from engramcka.tui.widgets.cells import (
    ABOVE,
    BELOW,
    CURSOR,
    CURVE,
    NAN,
    CellStyle,
    Field,
    curve_heights,
    digits,
    key_colours,
    levels,
    shade,
)
from engramcka.tui.widgets.geometry import Geometry


def field(values, style=None, curve=None, width=2, height=2, ground="#000000"):
    values = np.asarray(values, dtype=float)
    style = style or CellStyle()
    rows, columns = values.shape
    g = Geometry(rows, columns, columns * width, 40, style.sub, width, height)
    return Field(g, style, levels(values, style.low, style.high), values, curve, ground)


def text(segments):
    return "".join(segment.text for segment in segments)


def colours(segments):
    """(upper, lower) colour of every character."""
    found = []
    for content, style, _ in segments:
        for character in content:
            upper = style.bgcolor if character == " " else style.color
            found.append((upper.triplet.hex, style.bgcolor.triplet.hex))
    return found


def hex_of(level, palette="magma"):
    return "#" + "".join(f"{channel:02x}" for channel in palettes.table(palette)[level])


def test_levels_are_the_palettes_own_indices():
    values = np.array([-0.001, 0.0, 0.5, 1.0, 1.001, np.nan])
    expected = palettes.colours(values[:-1])
    found = levels(values, 0.0, 1.0)
    assert found[-1] == NAN
    np.testing.assert_array_equal(palettes.table("magma")[found[:-1]], expected)


def test_values_beyond_the_scale_have_levels_of_their_own():
    found = levels(np.array([-0.2, -0.003, 0.0, 1.0, 1.003, 1.7]), 0.0, 1.0)
    assert found.tolist() == [BELOW, BELOW, 0, 255, ABOVE, ABOVE]
    assert [shade(level, 2, " .#") for level in (BELOW, ABOVE)] == ["<<", ">>"]
    for palette in (*palettes.PALETTES, "diverging"):
        keys = key_colours(palette, "#000000")
        for key in (BELOW, ABOVE):
            apart = [np.abs(np.subtract(keys[key].triplet, other.triplet)).sum()
                     for at, other in enumerate(keys) if at != key]  # fmt: skip
            assert min(apart) > 40, (palette, key)


def test_half_blocks_show_two_rows_a_line_in_their_own_colours():
    drawn = field([[0.0, 1.0], [1.0, 0.0]], width=1, height=1).line(0, None)
    low, high = hex_of(0), hex_of(255)
    assert colours(drawn) == [(high, low), (low, high)]


def test_nan_has_a_colour_that_the_palette_has_not():
    for palette in (*palettes.PALETTES, "diverging"):
        table = {Color.from_rgb(*rgb).triplet for rgb in palettes.table(palette).tolist()}
        marks = key_colours(palette, "#000000")[NAN : CURVE + 1]
        assert len({mark.triplet for mark in marks}) == 3
        assert not table & {mark.triplet for mark in marks}


def test_the_cursor_fills_a_small_cell_and_rings_a_large_one():
    mark = key_colours("magma", "#000000")[CURSOR].triplet.hex
    small = colours(field(np.ones((2, 2)), width=1, height=1).line(0, (1, 1)))
    assert small == [(hex_of(255), hex_of(255)), (mark, hex_of(255))]
    large = field(np.ones((1, 1)), width=6, height=6)
    rows = [colours(large.line(y, (0, 0))) for y in range(3)]
    assert [upper for upper, _ in rows[0]] == [mark] * 6
    assert [lower for _, lower in rows[0]] == [mark] + [hex_of(255)] * 4 + [mark]
    assert rows[1][2] == (hex_of(255), hex_of(255))
    assert [lower for _, lower in rows[2]] == [mark] * 6


def test_the_curve_passes_at_its_height():
    mark = key_colours("magma", "#000000")[CURVE].triplet.hex
    drawn = field(np.zeros((4, 2)), curve=[3.0, float("nan")], width=1, height=2)
    lines = [colours(drawn.line(y, None)) for y in range(4)]
    assert mark in lines[0][0]
    assert all(mark not in cell for line in lines[1:] for cell in line)
    assert mark not in lines[0][1]


def test_shades_and_digits_need_no_colour():
    style = CellStyle(mode="shade", coloured=False)
    assert text(field([[0.0, 1.0]], style, height=1).line(0, None)) == "  ██"
    assert text(field([[0.0, 1.0]], style, height=1).line(0, (0, 1))) == "  []"
    style = CellStyle(mode="digits", coloured=False)
    assert text(field([[0.913, np.nan]], style, width=4, height=1).line(0, None)) == ".91   – "


@pytest.mark.parametrize(
    ("value", "width", "signed", "shown"),
    [
        (0.914, 4, False, ".91 "),
        (1.0, 4, False, "1.0 "),
        (0.999, 4, False, "1.0 "),
        (-0.004, 4, False, ".00 "),
        (-0.02, 5, False, "−.02 "),
        (0.12, 5, True, "+.12 "),
        (float("nan"), 4, False, "  – "),
    ],
)
def test_digits(value, width, signed, shown):
    assert digits(value, width, signed) == shown


def test_shades_rise_with_the_value():
    shades = [shade(level, 1, palettes.ASCII_SHADES) for level in range(256)]
    assert [palettes.ASCII_SHADES.index(s) for s in shades] == sorted(
        palettes.ASCII_SHADES.index(s) for s in shades
    )
    assert shade(NAN, 2, palettes.SHADES) == "??"


def test_curve_heights_follow_the_layers_numbers():
    assert curve_heights((2, 4, 8), np.array([2.0, 3.0, 6.0, np.nan]))[:3] == [0.0, 0.5, 1.5]
    assert np.isnan(curve_heights((2, 4), np.array([np.nan]))[0])
