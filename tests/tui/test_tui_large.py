"""Large terminals: the row and the column under the cursor along the map's edges, words in the
panel, a number at every row."""

from __future__ import annotations

import numpy as np
import pytest
from small_runs import full_map, screen_text, settle

from engramcka.stores import write_cka
from engramcka.tui.terminal import Capabilities
from engramcka.tui.widgets import profiles
from engramcka.tui.widgets.geometry import Geometry

LARGE = (200, 50)


def geometry(rows=4, columns=4, sub=2, height=1, width=2):
    return Geometry(rows, columns, columns * width, rows, sub, width, height)


def text_of(line):
    return "".join(text for text, _ in line)


def test_a_rows_bars_are_as_high_as_its_values():
    """From the top: a quarter of four lines is a line; between lines eighths."""
    values = np.array([0.0, 0.25, 0.5, 1.0])
    lines = profiles.row_lines(values, geometry(), 0.0, 1.0, column=2)
    assert [text_of(line) for line in lines] == [
        "      ██",
        "      ██",
        "    ████",
        "  ██████",
    ]
    assert lines[3] == [("  ██", False), ("██", True), ("██", False)]
    (*_, lowest) = profiles.row_lines(values[:2] / 8, geometry(columns=2), 0.0, 1.0, column=0)
    assert text_of(lowest) == "  ▁▁"


def test_values_that_have_no_bar_have_a_mark():
    values = np.array([np.nan, -0.5, 2.0, 0.0])
    lines = [text_of(line) for line in profiles.row_lines(values, geometry(), 0.0, 1.0, 0)]
    assert lines[-1] == "??<<██  "
    assert lines[0] == "    ██  "


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 1.0], "█" * 16),
        ([0.5, 1.0], "█" * 8 + "▀" * 8),
        ([1.0, 0.0], "▄" * 16),
        ([1 / 32, 0.0], "▖" + " " * 15),
        ([np.nan, np.nan], "?" + " " * 15),
        ([-1.0, -1.0], "<" + " " * 15),
    ],
)
def test_a_columns_bars_are_as_long_as_its_values(values, expected):
    """Two rows share a line: the first, below, has the lower half."""
    line = profiles.column_line(np.array(values), geometry(2), 0.0, 1.0, 5, 0)
    # Two rows of one sub-row each fill the lowest line that is used.
    assert text_of(line) == expected
    assert [mine for _, mine in line] == [False]


def test_the_cursors_line_is_marked():
    line = profiles.column_line(np.array([1.0, 0.5]), geometry(2), 0.0, 1.0, 1, 0)
    assert [mine for _, mine in line] == [True]


async def test_the_bars_follow_the_cursor(run, make_app):
    """Row and column of the cell under the cursor, in the colour bar's range."""
    app = make_app(run)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap

        def bars():
            left, top = heatmap.region.x + heatmap.origin[0], heatmap.region.y + heatmap.origin[1]
            lines, used = screen_text(app), heatmap.geometry
            row = [line[left : left + used.used_width] for line in lines[top - 4 : top]]
            right = left + used.used_width + 1
            beside = [line[right : right + 16] for line in lines[top : top + used.used_lines]]
            return row, beside

        for keys in ((), ("right", "right"), ("up", "r")):
            await pilot.press(*keys)
            row, column = heatmap.cursor
            values, style, g = app.browser.map.map.similarity, heatmap.cell_style, heatmap.geometry
            ends = style.low, style.high
            expected = [text_of(x) for x in profiles.row_lines(values[row], g, *ends, column)]
            shown, beside = bars()
            assert shown == expected
            for y in range(g.used_lines):
                found = profiles.column_line(values[:, column], g, *ends, row, y)
                assert beside[y] == text_of(found)
            everything = "\n".join(screen_text(app))
            assert f"row {row + 1}  " in everything
            assert f"column {column + 1}  " in everything


async def test_every_row_has_its_number_and_the_panel_says_why_warnings_matter(run, make_app):
    write_cka(run / "results.zarr", "large", full_map(30), {})
    app = make_app(run / "results.zarr" / "cka" / "large")
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap
        left = heatmap.region.x + heatmap.origin[0]
        numbers = [line[left - 4 : left - 1].strip(" ▸│") for line in screen_text(app)]
        assert [int(n) for n in numbers if n.isdecimal()] == list(range(30, 0, -1))
        shown = " ".join(" ".join(line[155:].strip(" │") for line in screen_text(app)).split())
        assert "Estimated over 2,048 samples (tokens)" in shown
        assert "71 % of the variance is in one dimension" in shown
        assert "often the same one in all layers" in shown


@pytest.mark.parametrize("size", [(100, 30), (80, 24), (40, 12), (200, 30)])
async def test_without_room_there_are_no_bars(run, make_app, size):
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert app.browser.map.heatmap.origin[1] <= 8
        heatmap = app.browser.map.heatmap
        top = heatmap.region.y + heatmap.origin[1]
        assert not any("▇" in line or "█" in line for line in screen_text(app)[1:top])


async def test_the_bars_are_ascii_where_the_terminal_is(run, make_app):
    app = make_app(run, capabilities=Capabilities("none", ascii=True))
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        shown = "\n".join(screen_text(app))
        assert shown.isascii()
        assert "#" * 14 in shown
        assert "column 1" in shown
