from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.style import Style

from engramcka.tui.widgets.axes import colour_bar, number, tick_indices, x_labels, x_mark, y_labels
from engramcka.tui.widgets.cells import CellStyle
from engramcka.tui.widgets.geometry import fit


@given(st.integers(1, 130), st.integers(1, 130), st.integers(1, 120), st.integers(4, 50))
def test_labels_stand_at_their_layers_and_never_touch(rows, columns, width, lines):
    g = fit(rows, columns, width, lines, sub=2)
    numbers = list(range(1, columns + 1))
    line = x_labels(numbers, g)
    found = [int(word) for word in line.split()]
    assert found == sorted(found)
    assert set(found) <= set(numbers)
    for line_number, label in y_labels(list(range(1, rows + 1)), g).items():
        assert line_number in g.lines_of(int(label) - 1)


def test_numbers_are_those_stored():
    g = fit(4, 4, 40, 8, sub=2)
    assert x_labels((0, 3, 6, 9), g).split() == ["0", "3", "6", "9"]
    assert set(y_labels((0, 3, 6, 9), g).values()) == {"0", "3", "6", "9"}


def test_round_numbers_where_there_is_no_room_for_all():
    assert [i + 1 for i in tick_indices(range(1, 31), 1, 3)] == [1, 5, 10, 15, 20, 25, 30]


def test_the_cursors_mark_is_under_its_column():
    g = fit(5, 5, 50, 20, sub=2)
    for column in range(5):
        assert g.column_at(x_mark(g, column)) == column


def test_the_colour_bar_says_its_ends_and_fits():
    for width in (6, 12, 40):
        bar = "".join(
            s.text for s in colour_bar(CellStyle(low=0.25, high=0.8), "#000000", width, Style())
        )
        assert len(bar) <= max(width, 6)
        if width > 20:
            assert bar.startswith("0.25 ")
            assert bar.endswith(" 0.8")


def test_an_end_of_the_colour_bar_is_right_and_never_zero_for_what_is_not():
    ends = {(0.0, 1.0): "0.0", (0.0042, 1.0): "0.0042", (-0.5, 0.95): "−0.5",
            (0.125, 1.0): "0.125",
            (1e-7, 1.0): "1.00e−07", (0.25, 0.5): "0.25",
            (0.1234567, 0.125): "0.123457"}  # fmt: skip
    assert {key: number(key[0], key[1] - key[0]) for key in ends} == ends
