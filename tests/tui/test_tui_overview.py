"""Maps larger than the screen: means of blocks, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_runs import diagonal_map, settle

from engramcka.stores import write_cka
from engramcka.stores.results import open_root
from engramcka.tui.screens.dialogs import parse_range
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
            part = part[np.isfinite(part)]
            expected = part.mean() if len(part) else np.nan
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
