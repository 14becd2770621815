"""Maps of several models in one figure: where each stands, what is named, what is said once."""

import numpy as np
import pytest
from drawn import made_map

from engramcka.errors import ConfigError
from engramcka.figures import map_grid, map_grid_caption, to_latex


def of(y, x, layers=(6, 6), **fields):
    return made_map(*layers, y_label=y, x_label=x, **fields)


PAIRS = [of("A", "B"), of("A", "C", (6, 12)), of("A", "D"), of("B", "C", (6, 12)), of("B", "D")]
LAST = of("C", "D", (12, 6), warnings=("few samples",))


def panels(figure):
    """(row, column) of every panel with its title and the labels of its axes."""
    found = {}
    for ax in figure.axes:
        place = ax.get_subplotspec()
        if ax.axison and place is not None and ax.collections and ax.get_title():
            named = ax.get_title(), ax.get_ylabel(), ax.get_xlabel()
            found[place.rowspan.start, place.colspan.start] = named
    return found


def test_each_row_is_of_one_model_and_each_column_of_another():
    figure = map_grid([*PAIRS, LAST], "plain", interval=False)
    assert panels(figure) == {
        (0, 0): ("(a)", "A layer", "B layer"),
        (0, 1): ("(b)", "", ""),
        (0, 2): ("(c)", "", ""),
        (1, 1): ("(d)", "B layer", "C layer"),
        (1, 2): ("(e)", "", ""),
        (2, 2): ("(f)", "C layer", "D layer"),
    }
    sizes = {place.get_title(): place.get_window_extent().size for place in figure.axes}
    assert sizes["(b)"] == pytest.approx(2 * sizes["(a)"] * [1, 0.5], rel=0.02)
    assert sizes["(f)"] == pytest.approx(2 * sizes["(a)"] * [0.5, 1], rel=0.02)


def test_maps_that_make_no_grid_stand_one_after_the_other():
    twice = [of("A", "B"), of("A", "B", where="kind = 'person'"), of("A", "C"), of("A", "D")]
    found = panels(map_grid(twice))
    titles = [title for title, _, _ in found.values()]
    assert [title[:6] for title in titles] == ["(a) pl", "(b) ki", "(c)", "(d)"]
    assert list(found) == [(0, 0), (0, 1), (0, 2), (1, 0)]
    row = panels(map_grid([of("A", "B"), of("A", "C"), of("A", "D")]))
    assert [label for _, label, _ in row.values()] == ["A layer", "", ""]
    with pytest.raises(ConfigError, match="at least one map"):
        map_grid([])


def test_a_caption_says_once_what_holds_for_all():
    caption = map_grid_caption([*PAIRS[::-1], LAST])
    models = "CKA of the hidden states after each layer of {} (rows) and {} (columns)."
    assert caption.startswith(f"(a) {models.format('B', 'D')} (b) {models.format('B', 'C')} (c)")
    assert f"{models.format('C', 'D')} Note: few samples." in caption
    assert caption.count("Dotted: equal layers.") == caption.count("kernel") == 1


def test_a_table_of_maps_names_models_and_the_unit_of_each():
    table = to_latex([PAIRS[0], PAIRS[1]])
    lines = [line.split(" & ") for line in table.splitlines() if line.endswith(r"\\")]
    assert [line[:2] for line in lines] == [["Rows", "Columns"], ["A", "B"], ["A", "C"]]
    shifts = [PAIRS[0].depth_shift(), PAIRS[1].depth_shift()]
    for line, shift in zip(lines[1:], shifts, strict=True):
        assert line[2].split(" ", 1)[1] == shift.unit
        number = line[2].split(" ", 1)[0]
        assert number == ("--" if np.isnan(shift.shift) else f"{shift.shift:.2f}")
    assert {shift.unit for shift in shifts} == {"layers", "relative depth"}
    way = to_latex([of("A", "B"), of("A", "B", where="kind = 'person'")])
    assert "Made with" in way
    assert "A & B & kind = 'person' & " in way
