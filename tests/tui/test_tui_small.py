"""Small terminals: nothing is done that is not seen, and no number is cut off."""

from __future__ import annotations

import re

import pytest
from small_runs import full_map, screen_text, settle, until

from engramcka.stores import write_cka
from engramcka.tui.widgets.panel import whole


@pytest.mark.parametrize("size", [(20, 5), (39, 30), (100, 11)])
async def test_keys_do_nothing_where_nothing_is_shown(run, make_app, size):
    """But those that leave; at a larger size all of them again."""
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.browser.found is not None)
        await until(pilot, lambda: "needs 40 x 12" in " ".join(" ".join(screen_text(app)).split()))
        await pilot.press("e", "n", "T", "right", "E", "question_mark")
        assert app.screen is app.browser
        assert app.browser.entry.name == "engram-vs-moe"
        assert app.browser.map.cursor == (0, 0)
        assert app.theme == "dark"
        assert not (run / "figures").exists()
        await pilot.resize_terminal(100, 30)
        await settle(pilot)
        await pilot.press("right", "n")
        await settle(pilot)
        assert app.browser.entry.name == "later"
        await pilot.resize_terminal(*size)
        await until(pilot, lambda: app.browser.is_too_small)
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)


def test_of_groups_those_that_fit_are_whole():
    groups = [[("row ", "label"), ("0.5  ", "value")], [("null .0035", "label")], [(" ok", "mark")]]
    assert whole(groups, 12) == [*groups[0], *groups[2]]
    assert whole(groups, 8) == groups[0]
    assert whole(groups, 100) == [part for group in groups for part in group]


@pytest.mark.parametrize("keys", [(), ("d", "d")])
@pytest.mark.parametrize("width", range(40, 100, 12))
async def test_no_number_below_the_map_is_cut_off(run, make_app, width, keys):
    write_cka(run / "results.zarr", "later", full_map(shift=0.3), {})
    app = make_app(run)
    async with app.run_test(size=(width, 20)) as pilot:
        await settle(pilot)
        for key in keys:
            await pilot.press(key)
            await settle(pilot)
        await pilot.press("right", "up")
        await pilot.pause()
        view = app.browser.compare if keys else app.browser.map
        line = view.query_one("#pair-line" if keys else ".line")
        shown = screen_text(app)[line.region.y][line.region.x : line.region.right]
        row, column = view.cursor
        first = app.browser.map.map
        if "null" in shown:
            value = float(re.search(r"null (\S+)", shown)[1])
            assert value == pytest.approx(float(first.null[:, row, column].mean()), abs=5e-4)
        for interval in re.findall(r"(\S+)(?:–| to )(\S+)", shown):
            assert all(re.fullmatch(r"−?\.\d{3}|−?\d\.\d{3}", end) for end in interval)
        assert float(re.search(r"(\d\.\d{3}) ", shown)[1]) == pytest.approx(
            float(first.similarity[row, column]), abs=5e-4
        )
