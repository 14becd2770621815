"""Several runs: their order, their names in comparisons, a broken one among them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from real_terminal import FIRST_CELLS, terminal
from small_runs import diagonal_map, full_map, screen_text, settle, toasts, until
from textual.widgets import Static

from engramcka.results import CkaMap
from engramcka.stores import write_cka
from engramcka.stores.results import open_root
from engramcka.tui.catalog import find_runs
from engramcka.tui.session import Session

SIZES = [(100, 30), (80, 24), (60, 20)]


def test_runs_stand_in_natural_order():
    for name in ("run10", "run2", "run1", "b", "run2b"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "config.toml").touch()
    labels = [ref.label for ref in find_runs([Path("runs")])]
    assert labels == ["b", "run1", "run2", "run2b", "run10"]


@pytest.mark.parametrize("size", SIZES)
async def test_maps_of_two_runs_are_compared_by_run_and_name(template, make_app, size):
    for name in ("one", "two"):
        shutil.copytree(template, Path("runs", name))
    lower = replace(full_map(), similarity=full_map().similarity - 0.125)
    write_cka(Path("runs/two/results.zarr"), "engram-vs-moe", lower, {})
    app = make_app(Path("runs"))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("d", *"two", "space", *"engram", "enter")
        await settle(pilot)
        names = [str(app.browser.query_one(f"#{part}-name", Static).content)
                 for part in ("first", "second")]  # fmt: skip
        assert names == ["A one engram-vs-moe", "B two engram-vs-moe"]
        (_, beside) = app.browser.subject().parts[::-1]
        assert beside.stem == "cka-one-engram-vs-moe-and-two-engram-vs-moe"
        await pilot.press("y")
        assert np.subtract(*map(float, app.clipboard.split("\t"))) == pytest.approx(0.125)


@pytest.mark.parametrize("size", SIZES)
async def test_a_broken_first_result_is_passed_over(template, make_app, size):
    for name in ("run1", "run2"):
        shutil.copytree(template, Path("runs", name))
    for name in ("engram-vs-moe", "later"):
        (Path("runs/run1/results.zarr/cka") / name / "zarr.json").write_text("{")
    app = make_app(Path("runs"))
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.browser.shown is not None)
        assert app.browser.entry.title == "sweep/insertion-layer"  # the first that can be read
        assert any("engram-vs-moe" in toast for toast in toasts(app))
        await pilot.press("N")
        await until(pilot, lambda: app.browser.entry.title == "cka/later")
        await pilot.pause(0.2)
        assert app.browser.entry.title == "cka/later"  # chosen: its sentence stays


async def test_a_broken_result_that_was_asked_for_is_not_passed_over(run, make_app):
    (run / "results.zarr/cka/engram-vs-moe/zarr.json").write_text("{")
    left = Session(str((run / "results.zarr").absolute()), "cka", "engram-vs-moe")
    app = make_app(run, session=left)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.browser.shown is not None)
        assert app.browser.entry.title == "cka/engram-vs-moe"


async def test_a_run_that_cannot_be_written_to_is_exported_to_the_current_folder(run, make_app):
    (run / "figures").touch()  # no folder can be made there, not even by root
    app = make_app(run)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        await pilot.press("e")
        written = Path("cka-engram-vs-moe.png").absolute()
        await until(pilot, written.exists)
        await until(pilot, lambda: any("Wrote" in toast for toast in toasts(app)))
        assert any(written.name in toast for toast in toasts(app))


@pytest.fixture
def thirty():
    root = Path("thirty")
    root.mkdir()
    open_root(root / "results.zarr")
    write_cka(root / "results.zarr", "m", CkaMap(diagonal_map(30, 30).similarity), {})
    return root


@pytest.mark.parametrize("size", SIZES)
async def test_every_row_can_be_clicked_and_read_by_hovering(thirty, make_app, size):
    app = make_app(thirty)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap
        clicked = set()
        x = heatmap.origin[0] + heatmap.geometry.x_of(4)
        for line in range(heatmap.geometry.used_lines):
            for _ in range(2):
                await pilot.click(heatmap, offset=(x, heatmap.origin[1] + line))
                await pilot.pause()
                row, column = app.browser.map.cursor
                assert column == 4
                clicked.add(row)
        first = heatmap.geometry.first_row
        assert clicked >= set(range(first, first + heatmap.geometry.shown_rows))
        if size[1] >= 20:
            await pilot.hover(heatmap, offset=(x, heatmap.origin[1] + 2))
            await pilot.pause()
            row, column = heatmap.pointed
            value = heatmap.matrix.values[row, column]
            text = f"row {row + 1} column {column + 1}: {value:.3f}"
            assert text in "\n".join(screen_text(app))


def test_the_wheel_zooms(thirty):
    with terminal(thirty) as shown:
        shown.read_to(FIRST_CELLS)
        shown.type(b"\x1b[<64;50;12M")
        shown.read_to("zoom +1")
        shown.type(b"q")
        assert shown.end() == 0
