from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from small_runs import settle

from engramcka.tui.widgets.key_bar import LAST, Key, KeyBar, fitting_keys

KEYS = st.lists(
    st.builds(Key, st.just("a"), st.text("a層", max_size=3), st.text("bc ", max_size=9),
              st.sampled_from(["other", "more", *LAST])),
    max_size=9,
    unique_by=lambda key: key.action if key.action in LAST else id(key),
)  # fmt: skip


@given(KEYS, st.integers(30, 90))
def test_keys_fit_whole_and_the_last_are_always_there(keys, width):
    kept = fitting_keys(keys, width)
    assert sum(key.width for key in kept) - 1 <= width
    assert {key.action for key in keys if key.action in LAST} <= {key.action for key in kept}
    left = iter(keys)
    assert all(any(one is key for one in left) for key in kept)  # in their order
    if sum(key.width for key in keys) - 1 <= width:
        assert kept == keys


async def test_a_click_presses_the_key_and_the_line_follows_the_focus(run, make_app):
    app = make_app(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        bar = app.browser.query_one(KeyBar)
        text = bar.strip(0).text
        assert text.rstrip().endswith("? Help q Quit")
        assert app.browser.map.heatmap.curve_shown
        await pilot.click(bar, offset=(text.index("Alignment"), 0))
        await pilot.pause()
        assert not app.browser.map.heatmap.curve_shown
        await pilot.press("slash")
        await pilot.pause()
        assert "Open the first esc Back" in bar.strip(0).text
