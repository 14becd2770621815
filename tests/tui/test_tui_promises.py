"""What docs/browse.md says of keys and no other file tries: one key after another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from real_terminal import FIRST_CELLS, terminal
from small_runs import STEPS, screen_text, settle, until

from engramcka import palettes
from engramcka.tui.session import Session

SIZES = [(100, 30), (80, 24), (60, 20)]
PAGE = Path(__file__).parents[2] / "docs" / "browse.md"


def at(run, title: str) -> Session:
    """A start on one result."""
    return Session(str((run / "results.zarr").absolute()), *title.split("/"))


@pytest.mark.parametrize("size", SIZES)
async def test_five_layers_by_every_key_that_the_page_names(run, make_app, size):
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        view = app.browser.map
        for keys, places in (
            ("shift+right L w", [(0, 5), (0, 10), (0, 11)]),
            ("shift+left H b", [(0, 6), (0, 1), (0, 0)]),
            ("shift+up K pageup", [(5, 0), (10, 0), (11, 0)]),
            ("shift+down J pagedown", [(6, 0), (1, 0), (0, 0)]),
        ):
            for key, place in zip(keys.split(), places, strict=True):
                await pilot.press(key)
                await pilot.pause()
                assert view.cursor == place, key
        await pilot.press("ctrl+u")
        assert view.cursor == (5, 0)
        await pilot.press("ctrl+d")
        assert view.cursor == (0, 0)


@pytest.mark.parametrize("size", SIZES)
async def test_the_first_and_the_last_checkpoint(full, make_app, size):
    """`{` and `}`, `[` and `]`, these also from one of the maps."""
    app = make_app(full, session=at(full, "series/over-training"))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for key, step in (
            ("right_curly_bracket", STEPS[-1]),
            ("left_curly_bracket", STEPS[0]),
            ("right_square_bracket", STEPS[1]),
            ("left_square_bracket", STEPS[0]),
        ):
            await pilot.press(key)
            await until(pilot, lambda step=step: app.browser.view().map.step == step)
            assert f"step {step}" in "\n".join(screen_text(app))
    again = make_app(full, session=at(full, f"cka/over-training-{STEPS[0]}"))
    async with again.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: again.browser.entry.kind == "series")
        await settle(pilot)
        assert again.browser.view().map.step == STEPS[1]


@pytest.mark.parametrize("size", SIZES)
async def test_all_palettes_then_shades_then_the_first_again(run, make_app, size):
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap
        seen = []
        for _ in range(len(palettes.PALETTES) + 1):
            seen.append((heatmap.cell_style.palette, heatmap.cell_style.mode))
            await pilot.press("c")
            await pilot.pause()
        last = palettes.PALETTES[-1]
        assert seen == [*((name, "half") for name in palettes.PALETTES), (last, "shade")]
        assert (heatmap.cell_style.palette, heatmap.cell_style.mode) == seen[0]


@pytest.mark.parametrize("size", SIZES)
async def test_more_and_fewer_rows_in_the_alignment(run, make_app, size):
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for key, k in (("full_stop", 6), ("comma", 5), ("comma", 4)):
            await pilot.press(key)
            await pilot.pause()
            assert app.browser.map.k == k


@pytest.mark.parametrize("size", SIZES)
async def test_slots_are_read_point_by_point(full, make_app, size):
    """The dashed line is the model without memory."""
    app = make_app(full, session=at(full, "slots/tables"))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("home")
        await pilot.pause()
        assert re.search(r"slots +10,000", "\n".join(screen_text(app)))
        await pilot.press("right")
        await pilot.pause()
        assert re.search(r"slots +100,000", "\n".join(screen_text(app)))


def test_the_whole_screen_is_drawn_again_on_ctrl_l(run):
    """Where another program has written over it; and only then."""
    with terminal(run) as shown:
        shown.read_to(FIRST_CELLS)
        shown.read_all()
        cells = dict(shown.screen.cells)
        shown.screen.sent.clear()
        shown.type(b"\x0c")
        while len(shown.screen.sent) < 100 * 30:
            assert shown.read_all()
        assert shown.screen.cells == cells


def test_every_key_of_the_page_is_in_the_help():
    """The two lists of keys are one."""
    from engramcka.tui.screens.dialogs import KEYS

    helped = " ".join(f"{keys} {what}" for _, section in KEYS for keys, what in section)
    helped = helped.replace("(", " ").replace(")", " ").replace(";", " ").replace(",", " ")
    known = {*helped.split(), ",", "?"}
    for cell in re.findall(r"^\| (`[^|]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        for group in re.findall(r"`([^`]+)`", cell):
            for key in group.split():
                assert key in known, key
