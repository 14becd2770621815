"""A matrix of models in the app: every promise of docs/browse.md by its keys."""

from dataclasses import replace

import numpy as np
import pytest
from made_matrix import NAMES, made_matrix
from small_runs import full_map, screen_text, settle, toasts
from test_tui_kinds import said, title

from engramcka.stores import write_cka
from engramcka.stores.results import write_result
from engramcka.tui import browse
from engramcka.tui.charts.matrix import matrix_lines
from engramcka.tui.widgets.run_tree import RunTree, stops

PAIRS = [f"{x}-vs-{y}.of-cka" for i, y in enumerate(NAMES) for x in NAMES[i + 1 :]]


@pytest.fixture
def matrix(run):
    """The run with a matrix, and the maps of its pairs, each of another number of samples."""
    for folder in ("later", "engram-vs-moe"):
        (run / "results.zarr" / "cka" / folder).rename(run.parent / folder)
    for number, name in enumerate(PAIRS):
        value = replace(full_map(), part_of="matrix/cka", n_samples=100 + number)
        write_cka(run / "results.zarr", name, value, {})
    write_result(run / "results.zarr", "cka", made_matrix(), {})
    return run


@pytest.mark.parametrize("size", [(140, 45), (100, 30), (80, 24), (60, 20), (40, 12)])
async def test_the_matrix_comes_first_and_enter_opens_the_map_of_a_pair(matrix, make_app, size):
    app = make_app(matrix)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        browser = app.browser
        assert browser.entry.title == "matrix/cka"
        view = browser.view()
        # Rows from the top down in the order of the tree: MoE, MoE seed 1, Engram, Engram seed 1.
        assert (view.cursor, view.models) == ((3, 1), (0, 2))
        text = "\n".join(screen_text(app))
        if size[0] >= 100:
            assert said(view)[:2] == ["1 MoE", "2 MoE, seed 1"]
            assert "alike    0.808" in said(view)
            assert "tied with 0 of 5 other pairs" in " ".join(" ".join(said(view)).split())
            assert " 0.50 3 Engram" in said(view)
        else:
            assert "0.808  1 MoE – 2 MoE, seed 1" in text
        await pilot.press("right", "down")
        assert view.models == (2, 1)
        await pilot.press("enter")
        await settle(pilot)
        assert browser.entry.title == "cka/moe-1-vs-engram-0.of-cka"
        assert browser.view().map.n_samples == 100 + PAIRS.index("moe-1-vs-engram-0.of-cka")
        assert title(app).startswith("cka/moe-1-vs-engram-0.of-cka") or size[0] < 80
        await pilot.press("escape")
        await settle(pilot)
        assert browser.entry.title == "matrix/cka"
        assert browser.view().models == (2, 1)


async def test_the_cursor_goes_over_pairs_and_a_model_has_no_map_with_itself(matrix, make_app):
    app = make_app(matrix)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        view = app.browser.view()
        await pilot.press("m")  # the one that MoE, seed 1 is most alike to
        assert view.models == (0, 2)
        await pilot.press("end", "m")
        assert view.models == (1, 3)
        await pilot.press("g", "home")
        assert view.models == (0, 0)
        assert "the same model" in " ".join(said(view))
        await pilot.press("enter")
        await settle(pilot)
        assert app.browser.entry.title == "matrix/cka"
        assert "There is no map of these two in the run." in " ".join(toasts(app)[-1].split())


async def test_values_colours_zoom_and_what_is_copied(matrix, make_app):
    app = make_app(matrix)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        view = app.browser.view()
        assert ".81" in "\n".join(screen_text(app))
        await pilot.press("v")
        assert view.heatmap.cell_style.mode == "half"
        await pilot.press("c", "z")
        assert (view.heatmap.cell_style.palette, view.heatmap.zoom) == ("viridis", 1)
        assert view.figure_input()[1] == {"palette": "viridis"}
        await pilot.press("y")
        assert float(app.clipboard) == made_matrix().similarity[0, 2]
        await pilot.press("Y")
        rows = [line.split("\t") for line in app.clipboard.splitlines()]
        assert rows[0][:5] == ["model", "other", "similarity", "low", "high"]
        assert [row[:2] for row in rows[1:]] == [
            ["MoE", "Engram"], ["MoE", "MoE, seed 1"], ["MoE", "Engram, seed 1"],
        ]  # fmt: skip
        await pilot.press("ctrl+y")
        assert len(app.clipboard.splitlines()) == 7
        assert "Alignment" not in "\n".join(screen_text(app)[-1:])


async def test_pairs_stand_in_a_closed_branch_and_n_passes_over_them(matrix, make_app):
    app = make_app(matrix)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        assert [entry.title for entry in stops(app.browser.runs[0])] == [
            "matrix/cka", "sweep/insertion-layer", "log",
        ]  # fmt: skip
        tree = app.browser.query_one(RunTree)
        (kind,) = [node for node in tree.root.children[0].children if str(node.label) == "cka"]
        (pairs,) = kind.children
        assert (str(pairs.label), pairs.is_expanded) == ("pairs of cka", False)
        labels = [str(node.label) for node in pairs.children]
        assert sorted(labels) == sorted(name.removesuffix(".of-cka") for name in PAIRS)
        await pilot.press("right", "enter")
        await settle(pilot)
        assert pairs.is_expanded  # where the cursor is
        await pilot.press("n")
        await settle(pilot)
        assert app.browser.entry.title == "sweep/insertion-layer"
        await pilot.press("p")
        await settle(pilot)
        assert app.browser.entry.title == "matrix/cka"


async def test_a_map_of_a_table_of_its_own_leads_back_too(run, make_app):
    known = made_matrix()
    write_result(run / "results.zarr", "cka", replace(known, maps=("cka/later",) * 6), {})
    app = make_app(run / "results.zarr" / "matrix" / "cka")
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert app.browser.entry.title == "cka/later"
        await pilot.press("escape")
        await settle(pilot)
        assert app.browser.entry.title == "matrix/cka"


def test_once_prints_the_matrix_of_a_run_and_no_pair(matrix, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    browse([matrix], once=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "paper  matrix/cka  4 models  6 pairs"
    assert lines[2].split() == ["1", "2", "3", "4"]
    assert lines[3].split() == ["1", "MoE", "1.00", "0.81", "0.50", "0.49"]
    assert lines[8] == "0.816  3 Engram – 4 Engram, seed 1  0.816 to 0.816"


@pytest.mark.parametrize("width", [20, 40, 80])
def test_lines_fit_the_width_or_say_so(width):
    names = [f"{'ab'[one % 2]}-{one}" for one in range(9)]
    lines = matrix_lines(made_matrix(names, {name: 5 * f"{name} " for name in names}), width)
    table = [line for line in lines[: lines.index("")] if line[:1] == " "]
    assert all(len(line) <= width for line in table)
    assert ("the matrix does not fit this width: 9 models" in lines) == (width < 50)


def test_a_pair_without_a_number_is_a_dash(run, capsys):
    known = made_matrix()
    similarity = known.similarity.copy()
    similarity[0, 1] = similarity[1, 0] = np.nan
    write_result(run / "results.zarr", "cka", replace(known, similarity=similarity), {})
    browse([run / "results.zarr" / "matrix" / "cka"], once=True)
    printed = capsys.readouterr().out
    assert "–" in printed
    assert "1 pair without a number" in printed
