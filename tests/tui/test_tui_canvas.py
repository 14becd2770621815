"""A canvas sends the cells that changed: all of them, and few others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.segment import Segment
from rich.style import Style
from small_runs import settle
from textual.geometry import Region
from textual.strip import Strip

from engramcka.tui.widgets.canvas import CanvasPart, differing

STYLES = st.sampled_from([None, Style(color="red"), Style(bgcolor="#010203")])
LINES = st.lists(st.tuples(st.text("ab ▀", min_size=1, max_size=9), STYLES), max_size=6).map(
    lambda parts: Strip([Segment(text, style) for text, style in parts]).adjust_cell_length(30)
)


def cells_of(strip):
    return [(character, style) for text, style, _ in strip for character in text]


@given(LINES, LINES)
def test_every_cell_that_differs_is_named_and_few_others(before, after):
    old, new = cells_of(before), cells_of(after)
    named = {x for first, last in differing(before, after) for x in range(first, last + 1)}
    wrong = {x for x in range(30) if old[x] != new[x]}
    assert wrong <= named
    assert all({*range(x - 6, x + 7)} & wrong for x in named)


def test_lines_with_wide_characters_are_sent_whole():
    before, after = Strip([Segment("層 1 ")]), Strip([Segment("層 2 ")])
    assert differing(before, after) == [(0, 4)]
    assert differing(before, before) == []


async def test_a_move_sends_its_own_cells_only(run, make_app, monkeypatch):
    app = make_app(run)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap
        await pilot.press("up", "up", "right", "right", "right")
        before = [heatmap.strip(y) for y in range(heatmap.size.height)]
        sent: list[Region] = []
        monkeypatch.setattr(heatmap, "refresh", lambda *regions: sent.extend(regions))
        heatmap.move(3, 4)
        after = [heatmap.strip(y) for y in range(heatmap.size.height)]
        wrong = {
            (x, y)
            for y, pair in enumerate(zip(before, after, strict=True))
            for x, (old, new) in enumerate(zip(*map(cells_of, pair), strict=True))
            if old != new
        }
        assert wrong
        assert all(any(region.contains(*cell) for region in sent) for cell in wrong)
        assert sum(region.area for region in sent) < 4 * len(wrong)
        parts = [part.region for part in heatmap.query(CanvasPart)]
        assert {(region.y, region.height) for region in parts} == {
            (heatmap.region.y, heatmap.size.height)
        }
