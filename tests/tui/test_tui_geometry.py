from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engramcka.tui.widgets.geometry import Geometry, fit

sizes = st.integers(1, 130)
fields = st.tuples(st.integers(1, 200), st.integers(1, 60))


@given(sizes, sizes, fields, st.sampled_from((1, 2)), st.integers(0, 6), st.booleans())
def test_shown_cells_lie_inside_the_field(rows, columns, field, sub, zoom, digits):
    g = fit(rows, columns, *field, sub=sub, zoom=zoom, digits=digits)
    assert 1 <= g.shown_rows <= rows
    assert 1 <= g.shown_columns <= columns
    assert g.used_width <= field[0]
    assert g.used_lines <= field[1]
    assert g.shown_rows * g.cell_height <= max(g.lines * sub, g.cell_height)


@given(sizes, sizes, fields, st.sampled_from((1, 2)), st.data())
def test_lines_of_a_row_and_rows_of_a_line_agree(rows, columns, field, sub, data):
    g = fit(rows, columns, *field, sub=sub)
    row = data.draw(st.integers(0, rows - 1))
    column = data.draw(st.integers(0, columns - 1))
    g = g.reveal(row, column)
    found = {
        line for line in range(g.used_lines) for part in range(sub) if g.row_at(line, part) == row
    }
    assert found == set(g.lines_of(row))
    assert found
    assert g.middle_line(row) in found
    assert g.column_at(g.x_of(column)) == column


@given(sizes, sizes, fields, st.data())
def test_reveal_moves_no_more_than_needed(rows, columns, field, data):
    g = fit(rows, columns, *field, sub=2)
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    moved = g.reveal(row, column)
    assert moved.reveal(row, column) is moved
    if row < g.shown_rows and column < g.shown_columns:
        assert moved is g


def test_the_papers_map_fits_half_blocks_at_the_usual_size():
    g = fit(30, 30, 46, 22, sub=2)
    assert (g.cell_width, g.cell_height, g.used_lines, g.whole) == (1, 1, 15, True)


def test_row_one_is_at_the_bottom():
    g = Geometry(4, 4, 8, 2, sub=2, cell_width=2, cell_height=1)
    assert [g.row_at(0, 0), g.row_at(0, 1), g.row_at(1, 0), g.row_at(1, 1)] == [3, 2, 1, 0]
    assert [g.column_at(x) for x in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_outside_is_nothing():
    g = fit(3, 3, 40, 4, sub=2)
    assert g.column_at(-1) is None
    assert g.column_at(g.used_width) is None
    assert list(g.lines_of(7)) == []


@pytest.mark.parametrize("height", [0.0, 1.0, 2.0, 3.0])
def test_a_height_in_rows_is_a_sub_row_of_that_row(height):
    g = fit(4, 4, 40, 20, sub=2)
    line, part = divmod(g.sub_row_of(height), 2)
    assert g.row_at(line, part) == int(height)


def test_zoom_makes_cells_larger():
    near, far = (fit(30, 30, 60, 20, sub=2, zoom=zoom) for zoom in (3, 0))
    assert near.cell_height == far.cell_height + 3
    assert near.shown_rows < far.shown_rows
