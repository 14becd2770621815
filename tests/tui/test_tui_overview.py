"""Maps larger than the screen: means of blocks, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_runs import diagonal_map, screen_text, settle

from engramcka.results import CkaMap
from engramcka.stores import write_cka
from engramcka.stores.results import open_root
from engramcka.tui.screens.dialogs import parse_range
from engramcka.tui.widgets.cells import BELOW, NAN, key_colours
from engramcka.tui.widgets.geometry import block_curve, block_means, factor_that_fits
from engramcka.tui.widgets.panel import DetailsPanel


@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
               elements=st.floats(-1, 1) | st.just(float("nan"))),
    st.integers(1, 5),
)  # fmt: skip
def test_block_means_are_means_of_the_blocks(values, factor):
    found = block_means(values, factor)
    for y in range(found.shape[0]):
        for x in range(found.shape[1]):
            part = values[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
            expected = part.mean()  # NaN where a cell of the block is missing
            np.testing.assert_allclose(found[y, x], expected, atol=1e-12)


def test_a_curve_stays_at_its_height():
    heights = block_curve([0.0, 1.0, 4.0, 5.0], 2)
    assert heights == [0.0, 2.0]  # rows 0 and 1 are block 0, rows 4 and 5 block 2


def test_the_factor_is_the_smallest_that_fits():
    class Shown:
        def __init__(self, rows, columns):
            self.whole = rows <= 44 and columns <= 20

    assert factor_that_fits(200, 200, Shown) == 10
    assert factor_that_fits(44, 20, Shown) == 1


@pytest.mark.parametrize(("count", "size"), [(80, (100, 30)), (200, (100, 30)), (200, (40, 12))])
async def test_a_large_map_whole_and_in_part(apart, make_app, count, size):
    run = Path("large")
    run.mkdir()
    open_root(run / "results.zarr")
    cka = diagonal_map(count, count)
    write_cka(run / "results.zarr", "large", cka, {})
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap

        def text():
            return "\n".join(
                "".join(segment.text for segment in heatmap.strip(y))
                for y in range(heatmap.size.height)
            )

        assert not heatmap.geometry.whole
        if size == (100, 30):
            assert f"of {count} x {count}" in text()
        await pilot.press("Z")
        await pilot.pause()
        assert heatmap.geometry.whole
        assert f"means of {heatmap.factor} x {heatmap.factor}" in text()
        blocks = block_means(cka.similarity, heatmap.factor)
        np.testing.assert_array_equal(heatmap.shown.values, blocks)
        await pilot.press("L", "L", "right", "K", "up")
        await pilot.pause()
        assert app.browser.map.cursor == (6, 11)
        value = cka.similarity[6, 11]
        line = app.browser.map.query_one(".line" if size[0] == 40 else DetailsPanel)
        said = "".join(s.text for y in range(line.size.height) for s in line.strip(y))
        assert f"{value:.3f}" in said
        at = heatmap.origin[0] + heatmap.geometry.x_of(2)
        line = heatmap.origin[1] + heatmap.geometry.middle_line(1)
        await pilot.click(heatmap, offset=(at, line))
        assert app.browser.map.cursor[1] == 2 * heatmap.factor + heatmap.factor // 2
        await pilot.press("z")
        await pilot.pause()
        assert heatmap.factor == 1
        assert "means" not in text()


async def test_zooming_out_of_a_map_that_fits_does_nothing(run, make_app):
    app = make_app(run)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("Z", "Z", "z")
        assert app.browser.map.heatmap.zoom == 1


async def test_the_range_is_asked_for(run, make_app):
    app = make_app(run)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("R", "ctrl+u", *"0.9 0.2", "enter")
        assert app.screen is not app.browser  # refused, with a sentence
        await pilot.press("ctrl+u", *"0.25 0.75", "enter")
        await pilot.pause()
        style = app.browser.map.heatmap.cell_style
        assert (style.low, style.high) == (0.25, 0.75)
        await pilot.press("R", "escape")
        assert app.screen is app.browser


@pytest.mark.parametrize("text", ["", "1", "a b", "1 1", "nan 1", "0 inf", "1 2 3"])
def test_what_is_no_range_is_a_sentence(text):
    assert isinstance(parse_range(text), str)


@pytest.mark.parametrize("size", [(100, 30), (80, 24), (60, 20)])
async def test_missing_rows_stay_visible_at_every_zoom(tmp_path, make_app, size):
    values = diagonal_map(200, 120).similarity.copy()
    values[50:60] = np.nan
    root = Path("wide")
    root.mkdir()
    open_root(root / "results.zarr")
    write_cka(root / "results.zarr", "gap", CkaMap(values), {})
    app = make_app(root)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap
        grey = key_colours("magma", "#000000")[NAN]
        await pilot.press("Z")
        await pilot.pause()
        blocks = range(50 // heatmap.factor, 59 // heatmap.factor + 1)
        assert heatmap.geometry.whole
        for y in range(heatmap.shown.values.shape[0]):
            line = heatmap.origin[1] + heatmap.geometry.middle_line(y)
            styles = [s.style for s in heatmap.strip(line) if s.style]
            seen = any(grey in (style.color, style.bgcolor) for style in styles)
            assert seen or y not in blocks, y
        await pilot.press("z", *["K"] * 10)
        await pilot.pause()
        styles = [s.style for y in range(heatmap.size.height) for s in heatmap.strip(y) if s.style]
        assert any(grey in (style.color, style.bgcolor) for style in styles)


@pytest.mark.parametrize("size", [(100, 30), (80, 24), (60, 20)])
async def test_values_beyond_the_scale_are_marked_and_counted(tmp_path, make_app, size):
    values = np.linspace(-0.5, 0.45, 100).reshape(10, 10)
    root = Path("below")
    root.mkdir()
    open_root(root / "results.zarr")
    write_cka(root / "results.zarr", "half", CkaMap(values), {})
    app = make_app(root)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap
        below = int((values < -0.5 / 255).sum())
        assert any(f"{below} <" in line for line in screen_text(app))
        colours = key_colours("magma", "#000000")
        styles = [s.style for y in range(heatmap.size.height) for s in heatmap.strip(y) if s.style]
        assert any(colours[BELOW] in (style.color, style.bgcolor) for style in styles)
        await pilot.press("r")  # the scale is that of the values
        await pilot.pause()
        shown = "\n".join(screen_text(app))
        assert f"{below} <" not in shown
        assert "−0.5" in shown
        assert "0.45" in shown
        await pilot.press("R", *["backspace"] * 12, *"-0.5", "space", *"0.0042", "enter")
        await pilot.pause()
        shown = "\n".join(screen_text(app))
        assert f"> {int((values > 0.0042 + 0.5042 * 0.5 / 255).sum())}" in shown
