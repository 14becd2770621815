"""Real key presses: what a user does, and what is then on the screen."""

from __future__ import annotations

import re
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from small_runs import (
    EVENTS,
    LIVE,
    diagonal_map,
    full_map,
    make_run,
    screen_text,
    settle,
    small_sweep,
    toasts,
    until,
    write_log,
)
from textual.widgets import ContentSwitcher, Input, OptionList, Static

from engramcka.stores import write_cka, write_sweep
from engramcka.stores.results import open_root
from engramcka.tui.loading import Broken
from engramcka.tui.session import Session
from engramcka.tui.terminal import Capabilities
from engramcka.tui.widgets.panel import DetailsPanel, TextLines
from engramcka.tui.widgets.run_tree import RunTree

SIZE = (100, 30)
ALL_ASCII = Capabilities("none", ascii=True)


def lines_of(widget):
    return ["".join(segment.text for segment in widget.strip(y)) for y in range(widget.size.height)]


def panel(app):
    return [line.rstrip() for line in lines_of(app.browser.map.query_one(DetailsPanel))]


async def test_it_opens_on_the_first_map_with_the_cursor_on_the_first_cell(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        assert app.browser.map.cursor == (0, 0)
        assert app.browser.focused is app.browser.map
        said = panel(app)
        cka = full_map()
        assert f"CKA      {cka.similarity[0, 0]:.3f}" in said
        assert any(line.startswith("95 %     .890–.920") for line in said)
        assert "2048" in screen_text(app)[0]


@pytest.mark.parametrize(
    ("keys", "cell"),
    [
        ("right right up", (1, 2)),
        ("l l k j", (0, 2)),
        ("left down", (0, 0)),
        ("L K", (5, 5)),
        ("shift+right pageup", (5, 5)),
        ("end g", (11, 11)),
        ("dollar_sign g 0 G", (0, 0)),
        ("L L L L", (0, 11)),
        ("right right right m", (3, 3)),
    ],
)
async def test_the_cursor_moves_by_the_keys_that_people_know(run, make_app, keys, cell):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press(*keys.split())
        await pilot.pause()
        assert app.browser.map.cursor == cell
        value = full_map().similarity[cell]
        assert f"CKA      {value:.3f}" in panel(app)


async def test_a_click_puts_the_cursor_on_the_cell_under_it(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap
        geometry = heatmap.geometry
        await pilot.press("right", "right", "right", "up", "up", "up", "up")
        x = heatmap.origin[0] + geometry.x_of(8)
        y = heatmap.origin[1] + geometry.middle_line(6)
        await pilot.click(heatmap, offset=(x, y))
        assert app.browser.map.cursor[1] == 8
        assert app.browser.map.cursor[0] in (6, 7)
        await pilot.click(heatmap, offset=(0, 0))
        assert app.browser.map.cursor[1] == 8


async def test_a_move_redraws_only_what_it_changes(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap
        before = lines_of(heatmap)
        whole = {y: heatmap.strip(y) for y in range(heatmap.size.height)}
        await pilot.press("right")
        kept = [y for y in whole if heatmap.strip(y) is whole[y]]
        g, top = heatmap.geometry, heatmap.origin[1]
        changed = {top + y for y in (*g.lines_of(0), g.used_lines)}
        assert set(kept) == set(whole) - changed
        heatmap.change()
        assert lines_of(heatmap) != before


async def test_what_is_redrawn_in_parts_equals_what_is_drawn_at_once(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press(*["l", "l", "k", "k", "k", "l", "h", "j", "k", "k", "L", "K"])
        await pilot.pause()
        parts = app.export_screenshot()
        app.browser.map.heatmap.change()
        app.screen.refresh(layout=True)
        await pilot.pause()
        assert app.export_screenshot() == parts


async def test_alignment_palette_values_range_and_zoom(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap
        await pilot.press("a")
        assert not heatmap.curve_shown
        names = []
        for _ in range(4):
            await pilot.press("c")
            names.append((heatmap.cell_style.palette, heatmap.cell_style.mode))
        assert names == [
            ("viridis", "half"), ("cividis", "half"), ("cividis", "shade"), ("magma", "half"),
        ]  # fmt: skip
        await pilot.press("v")
        assert any(".90" in line for line in lines_of(heatmap))
        await pilot.press("v", "r")
        finite = full_map().similarity
        assert (heatmap.cell_style.low, heatmap.cell_style.high) == (finite.min(), finite.max())
        await pilot.press("r")
        assert (heatmap.cell_style.low, heatmap.cell_style.high) == (0.0, 1.0)
        size = heatmap.geometry.cell_height
        await pilot.press("z", "z", "Z")
        assert heatmap.geometry.cell_height == size + 1


async def test_the_alignment_averages_over_as_many_rows_as_asked(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("comma", "comma")
        expected = full_map().soft_alignment(3)[0]
        assert any(line.startswith(f"a_3      {expected:.1f}") for line in panel(app))
        await pilot.press(*["comma"] * 9)
        assert app.browser.map.k == 1


async def test_results_one_after_the_other_and_back(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        seen = []
        for key in "nnnnp":
            await pilot.press(key)
            await settle(pilot)
            seen.append(app.browser.entry.title)
        assert seen == ["cka/later", "sweep/insertion-layer", "log", "cka/engram-vs-moe", "log"]
        assert app.browser.query_one(ContentSwitcher).current == "log"


async def test_the_tree_shows_what_its_cursor_is_on_and_enter_goes_there(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("tab", "j")
        await settle(pilot)
        assert app.browser.entry.name == "later"
        assert isinstance(app.browser.focused, RunTree)
        await pilot.press("enter")
        await pilot.pause()
        assert app.browser.focused is app.browser.map


async def test_find_narrows_the_tree_and_enter_opens_the_first(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("slash", *"LAY sw", "enter")
        await settle(pilot)
        assert app.browser.entry.title == "sweep/insertion-layer"
        assert not app.browser.query_one("#find", Input).display
        await pilot.press("slash", *"zzz", "escape")
        await pilot.pause()
        assert app.browser.query_one(RunTree).pattern == ""


async def test_the_sweeps_cursor_reads_points(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("n", "n")
        await settle(pilot)
        await pilot.press("right", "right")
        await pilot.pause()
        said = [line.rstrip() for line in lines_of(app.browser.view().query_one(DetailsPanel))]
        assert "layer    4" in said
        assert "loss     2.0600" in said
        await pilot.press("m")
        assert app.browser.view().plot.cursor == 1
        await pilot.press("z")
        assert any("╌" in line for line in lines_of(app.browser.view().plot))


async def test_two_maps_share_the_cursor_and_subtract(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("right", "up", "d")
        await settle(pilot)
        await pilot.press("right")
        await pilot.pause()
        compare = app.browser.compare
        assert compare.heatmap("first").cursor == compare.heatmap("second").cursor == (1, 2)
        line = lines_of(compare.query_one("#pair-line", TextLines))[0]
        value = full_map().similarity[1, 2]
        assert f"A {value:.3f}" in line
        assert f"B {value - 0.25:.3f}" in line
        assert "+0.250" in line
        await pilot.press("d")
        assert compare.query_one("#apart-side").display
        style = compare.heatmap("apart").cell_style
        assert (style.palette, style.low, style.high) == ("diverging", -0.3, 0.3)
        await pilot.press("escape")
        await pilot.pause()
        assert app.browser.map.cursor == (1, 2)
        assert app.browser.query_one(ContentSwitcher).current == "map"


async def test_maps_of_other_layers_are_shown_but_not_subtracted(run, make_app):
    write_cka(run / "results.zarr", "small", diagonal_map(6, 6), {})
    app = make_app(run)
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await settle(pilot)
        await pilot.press("d", *"small", "enter")
        await settle(pilot)
        await pilot.press("d")
        await pilot.pause()
        assert not app.browser.compare.subtracted
        assert any("same layers" in toast for toast in toasts(app))
        await pilot.press("end", "g")
        await pilot.pause()
        line = lines_of(app.browser.compare.query_one("#pair-line", TextLines))[0]
        assert "B –" in line


async def test_the_choice_of_a_second_map_can_be_left(run, make_app):
    write_cka(run / "results.zarr", "small", diagonal_map(6, 6), {})
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("d", "down", "down", "up")
        assert app.screen.query_one(OptionList).highlighted == 1
        await pilot.press("escape")
        assert app.browser.second is None


async def test_copy_sends_the_exact_number_row_and_table(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("right", "y")
        assert float(app.clipboard) == full_map().similarity[0, 1]
        await pilot.press("Y")
        assert app.clipboard.splitlines()[1].startswith("1\t")
        await pilot.press("ctrl+y")
        assert len(app.clipboard.splitlines()) == 13
        await pilot.press("n", "n")
        await settle(pilot)
        await pilot.press("y")
        assert float(app.clipboard) == small_sweep().mean[0]


async def test_export_writes_a_figure_and_never_over_another(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await settle(pilot)
        await pilot.press("e")
        first = run / "figures" / "cka-engram-vs-moe.png"
        await until(pilot, first.exists)
        assert first.read_bytes()[:4] == b"\x89PNG"
        content = first.read_bytes()
        await until(pilot, lambda: any(str(first) in toast for toast in toasts(app)))
        await pilot.press("E", "right", "down", "right", "enter")
        second = run / "figures" / "cka-engram-vs-moe.pdf"
        await until(pilot, second.exists)
        await pilot.press("e")
        await until(pilot, (run / "figures" / "cka-engram-vs-moe-2.png").exists)
        assert first.read_bytes() == content


async def test_an_export_that_cannot_be_written_is_a_sentence(run, make_app):
    (run / "figures").write_text("in the way")
    app = make_app(run.absolute())
    gone = Path("gone").absolute()
    gone.mkdir()
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await settle(pilot)
        with chdir(gone):
            gone.rmdir()  # nor is there a current folder
            await pilot.press("e")
            await until(pilot, lambda: any("cannot be written" in toast for toast in toasts(app)))
        assert app.screen.query_one("Toast").has_class("-error")


async def test_a_changed_map_is_read_again_with_the_cursor_kept(run, make_app):
    app = make_app(run, pause=LIVE)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("right", "right", "up")
        write_cka(run / "results.zarr", "engram-vs-moe", full_map(shift=0.5), {})
        value = full_map(shift=0.5).similarity[1, 2]
        await until(pilot, lambda: f"CKA      {value:.3f}" in panel(app))
        assert app.browser.map.cursor == (1, 2)
        assert app.browser.focused is app.browser.map


async def test_a_store_that_grows_while_open(make_app):
    run = Path("growing")
    run.mkdir()
    open_root(run / "results.zarr")
    app = make_app(run, pause=LIVE)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        assert any("no result yet" in line for line in screen_text(app))
        write_cka(run / "results.zarr", "a", full_map(), {})
        await until(pilot, lambda: app.browser.found is not None)
        assert app.browser.entry.title == "cka/a"
        write_sweep(run / "results.zarr", "s", small_sweep(), {})
        write_log(run)
        await until(pilot, lambda: len(app.browser.runs[0].entries) == 3)
        await pilot.pause()
        assert app.browser.entry.title == "cka/a"
        assert any("[silent]" in line for line in screen_text(app))


async def test_a_log_is_followed(run, make_app):
    app = make_app(
        run, session=Session(str((run / "results.zarr").absolute()), "log", ""), pause=LIVE
    )
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        assert any("36/144 cells" in line for line in screen_text(app))
        done = {**EVENTS[3], "event": "done", "done": 144, "seconds": 9.0}
        write_log(run, (*EVENTS, done))
        await until(pilot, lambda: any("144/144 cells" in line for line in screen_text(app)))


@pytest.mark.parametrize("damage", ["metadata", "chunk", "missing", "half", "newer"])
async def test_a_broken_store_is_a_sentence_and_the_rest_goes_on(run, make_app, damage):
    group = run / "results.zarr" / "cka" / "engram-vs-moe"
    if damage == "metadata":
        (group / "zarr.json").write_text("{")
    elif damage == "chunk":
        (group / "similarity" / "c" / "0" / "0").write_bytes(b"short")
    elif damage == "missing":
        shutil.rmtree(group / "similarity")
    elif damage == "half":
        (group / "zarr.json").unlink()
    else:
        text = (group / "zarr.json").read_text()
        (group / "zarr.json").write_text(
            re.sub(r'"engramcka_version": \d', '"engramcka_version": 9', text)
        )
    left = Session(str((run / "results.zarr").absolute()), "cka", "engram-vs-moe")
    app = make_app(run, session=left)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        found = app.browser.found
        assert isinstance(found, Broken)
        assert "engram-vs-moe" in found.sentence
        assert "\n" not in found.sentence
        assert "Traceback" not in "\n".join(screen_text(app))
        await pilot.press("n")
        await settle(pilot)
        assert app.browser.query_one(ContentSwitcher).current == "map"


async def test_a_run_that_vanishes_leaves_a_sentence(run, make_app):
    app = make_app(run, pause=LIVE)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        run.rename("elsewhere")
        await until(pilot, lambda: isinstance(app.browser.found, Broken))
        await pilot.pause(0.1)
        assert app.is_running


HOSTILE = "\x1b[31m\x1b]0;title\x07[red]x[/red] [bold]\u202edlrow " + "y" * 300


async def test_hostile_names_reach_the_screen_as_plain_text(make_app):
    run = Path("[red]run\x1b[2J")
    run.mkdir()
    results = run / "results.zarr"
    open_root(results)
    names = ["[bold]map", "a\x1b[31mb", "\u05e9\u05dc\u05d5\u05dd", "n" * 200]
    for name in names:
        hostile = diagonal_map(5, 5, y_label=HOSTILE, x_label=HOSTILE, warnings=(HOSTILE,))
        write_cka(results, name, hostile, {})
    write_log(run, ({"event": "start", "stage": HOSTILE, "name": HOSTILE, "info": HOSTILE},))
    for capabilities in (None, ALL_ASCII):
        app = make_app(run, capabilities=capabilities)
        async with app.run_test(size=SIZE) as pilot:
            await settle(pilot)
            for _ in range(len(names) + 1):
                text = "\n".join(screen_text(app))
                assert not {"\x1b", "\x07", "\u202e"} & set(text)
                await pilot.press("n")
                await settle(pilot)
            await pilot.press("d")
            await pilot.press("question_mark")
            await pilot.pause()
        assert "[red]run[2J" in text.replace(" ", "")
        assert "[bold]map" in text


@pytest.mark.parametrize("size", [(100, 30), (80, 24), (40, 12)])
async def test_ascii_terminals_get_ascii_only(run, make_app, size):
    app = make_app(run, capabilities=ALL_ASCII)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for keys in ("right", "v", "n", "n", "n", "question_mark"):
            await pilot.press(keys)
            await settle(pilot)
            assert "\n".join(screen_text(app)).isascii()


async def test_resizing_to_almost_nothing_and_back(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("right", "up")
        before = screen_text(app)
        for size in ((20, 5), (1, 1), (40, 12), (39, 12), (40, 11), (160, 50), SIZE):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            if size in ((20, 5), (39, 12), (40, 11)):
                text = " ".join(line.strip() for line in screen_text(app))
                assert "40 x 12" in text
        await pilot.pause(0.1)
        assert screen_text(app) == before
        assert app.browser.map.cursor == (1, 1)


async def test_the_smallest_size_keeps_map_and_readout(run, make_app):
    app = make_app(run)
    async with app.run_test(size=(40, 12)) as pilot:
        await settle(pilot)
        await pilot.press("g", "end")
        await pilot.pause()
        text = screen_text(app)
        assert text[-1].startswith("row 12 col 12  0.900")
        await pilot.press("B")
        await pilot.pause()
        assert any("insertion-layer" in line for line in screen_text(app))


async def test_maps_larger_than_the_screen_pan_with_the_cursor(make_app):
    run = Path("large")
    run.mkdir()
    open_root(run / "results.zarr")
    write_cka(run / "results.zarr", "large", diagonal_map(80, 120), {})
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap
        assert not heatmap.geometry.whole
        await pilot.press("g", "end")
        await pilot.pause()
        g = heatmap.geometry
        assert g.first_row + g.shown_rows == 80
        assert g.first_column + g.shown_columns == 120
        text = "\n".join(lines_of(heatmap))
        assert "80▸" in text
        assert "↓" in text
        assert "←" in text


async def test_where_the_user_left_off(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("n", "c", "T")
        await settle(pilot)
        await pilot.press("right", "up", "q")
    left = app.last_session
    assert (left.kind, left.name, left.palette, left.theme) == ("cka", "later", "viridis", "light")
    again = make_app(run, session=left)
    async with again.run_test(size=SIZE) as pilot:
        await settle(pilot)
        assert again.browser.entry.name == "later"
        assert again.browser.map.cursor == (1, 1)
        assert again.browser.map.heatmap.cell_style.palette == "viridis"
        assert again.theme == "light"


async def test_every_theme_and_the_palette_of_commands(run, make_app):
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        for _ in range(3):
            await pilot.press("T")
            await pilot.pause()
            ground = app.browser.map.heatmap.rich_style.bgcolor
            strip = app.browser.map.heatmap.strip(0)
            assert {segment.style.bgcolor for segment in strip} == {ground}
        await pilot.press("colon")
        await pilot.pause(0.2)
        await pilot.press(*"values")
        await pilot.pause(0.4)
        await pilot.press("enter")
        await until(pilot, lambda: app.browser.map.heatmap.cell_style.mode == "digits")


async def test_a_thousand_runs_are_listed_at_once(make_app):
    folder = Path("many")
    make_run(folder / "run-0000")
    for index in range(1, 1000):
        run = folder / f"run-{index:04d}"
        (run / "results.zarr" / "cka" / "map").mkdir(parents=True)
        (run / "config.toml").touch()
    app = make_app(folder)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        tree = app.browser.query_one(RunTree)
        assert len(tree.root.children) == 1000
        await pilot.press("slash", *"0777", "enter")
        await settle(pilot)
        assert app.browser.entry.ref.label == "run-0777"


async def test_help_names_every_key_that_is_bound(run, make_app):
    from engramcka.tui.screens.dialogs import KEYS

    named = " ".join(f"{keys} {what}" for _, section in KEYS for keys, what in section)
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        shown = set()
        for _ in range(3):  # two maps and a sweep
            shown |= {k for k, active in app.screen.active_bindings.items() if active.binding.show}
            await pilot.press("n")
            await settle(pilot)
        names = {"question_mark": "?", "slash": "/", "plus": "+", "equals_sign": "+", "f1": "?"}
        missing = {names.get(key, key) for key in shown} - set(named.replace("(", " ").split())
        assert missing <= {"?"}
        await pilot.press("question_mark")
        await pilot.pause()
        assert app.screen.query_one("#help-keys", Static)
        await pilot.press("escape")
        assert app.screen is app.browser


async def test_nan_cells_are_said_to_have_no_value(make_app):
    run = Path("holes")
    run.mkdir()
    open_root(run / "results.zarr")
    values = diagonal_map(4, 4).similarity.copy()
    values[0] = np.nan
    write_cka(run / "results.zarr", "m", type(diagonal_map())(values), {})
    app = make_app(run)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        assert "CKA      no value" in panel(app)
