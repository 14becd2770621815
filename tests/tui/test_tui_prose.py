"""What the sentences of docs/browse.md say of maps and that no other file tries: by keys."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_runs import STEPS, diagonal_map, full_map, screen_text, settle, until
from test_tui_kinds import said
from test_tui_promises import at
from textual.widgets import Input

from engramcka.results import CkaMap
from engramcka.stores import write_cka
from engramcka.stores.results import open_root
from engramcka.tui.catalog import Entry
from engramcka.tui.screens.dialogs import AboutScreen
from engramcka.tui.screens.export import ExportScreen
from engramcka.tui.terminal import Capabilities


def store(name: str, cka: CkaMap) -> Path:
    """A run with this one map."""
    run = Path(name)
    run.mkdir()
    open_root(run / "results.zarr")
    write_cka(run / "results.zarr", "m", cka, {})
    return run


def field_lines(heatmap) -> list[str]:
    """The lines of the cells, without axes and bars."""
    left, top = heatmap.origin
    width, used = heatmap.geometry.used_width, heatmap.geometry.used_lines
    lines = ["".join(s.text for s in heatmap.strip(y)) for y in range(heatmap.size.height)]
    return [line[left : left + width] for line in lines[top : top + used]]


def words(app) -> str:
    """What is on the screen, in one line without the frames."""
    return " ".join(" ".join(screen_text(app)).replace("│", " ").split())


async def test_the_panel_reads_all_that_the_map_has(apart, make_app):
    """Similarity, interval, null and p, alignment and shift with theirs, the maximum's layer, both
    layers' diagnostics, the profiles with their marks, the warnings."""
    values = full_map().similarity.copy()
    values[0, 3], values[0, 5] = -0.25, np.nan
    noise = np.random.default_rng(0).normal(0, 0.01, (8, *values.shape))
    cka = replace(full_map(), similarity=values, jackknife=values + noise - noise.mean(axis=0))
    app = make_app(store("told", cka))
    async with app.run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        await pilot.press("right", "right")
        await pilot.pause()
        panel = said(app.browser.map)
        low, high = cka.soft_alignment_interval(5)
        alignment = f"{cka.soft_alignment(5)[2]:.1f}±{(high[2] - low[2]) / 2:.1f}"
        shift = cka.depth_shift()
        half = (shift.shift_high - shift.shift_low) / 2
        assert half > 0.005  # else it would read ±0.00
        value = values[0, 2]
        for line in (
            "MoE", "  row    1", "Engram", "  column 3", f"CKA      {value:.3f}",
            f"95 %     {value - 0.01:.3f}–{value + 0.02:.3f}".replace("0.", "."),
            "null     .003 p .200", "rank     12.5 / 12.5", "top dim  25% / 25%",
        ):  # fmt: skip
            assert line in panel, line
        (aligned,) = (line for line in panel if line.startswith("a_5"))
        assert aligned.split()[1:] == [alignment, "max", "3"]
        (nearest,) = (line for line in panel if line.startswith("nearest"))
        places = 1 if shift.unit == "layers" else 2
        number = f"{round(shift.shift, places) + 0.0:+.{places}f}±{half:.{places}f}".replace(
            "-", "−"
        )
        assert nearest.split()[1:] == [number.replace("-", "−"), f"{shift.n_determined}/12"]
        (across,) = (line for line in panel if line.startswith("row"))
        assert {"−", "?"} <= set(across)
        (down,) = (line for line in panel if line.startswith("column"))
        assert not {"−", "?"} & set(down)
        text = " ".join(" ".join(panel).split())
        assert "MoE layer 3: 71 % of the variance is in one dimension" in text


async def test_a_number_that_has_no_room_beside_its_label_stands_below_it(apart, make_app):
    """Of more than a hundred layers; nothing of it is cut."""
    values = diagonal_map(120, 120).similarity
    noise = np.random.default_rng(0).normal(0, 0.01, (8, 120, 120))
    app = make_app(store("deep", CkaMap(values, jackknife=values + noise - noise.mean(axis=0))))
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("end")
        await pilot.pause()
        panel = said(app.browser.map)
        aligned = panel[panel.index("a_5") + 1]
        assert re.fullmatch(r"  11\d\.\d±\d\.\d +max 120", aligned), aligned


async def test_layers_have_the_numbers_that_are_stored_and_the_first_row_is_below(apart, make_app):
    layers = (0, 3, 7, 20)
    cka = replace(full_map(4), y_layers=layers, x_layers=(2, 4, 6, 30))
    app = make_app(store("odd", cka))
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap
        left = heatmap.region.x + heatmap.origin[0]
        numbers = [line[left - 4 : left - 1].strip(" ▸│") for line in screen_text(app)]
        assert [int(n) for n in numbers if n.isdecimal()] == [20, 7, 3, 0]
        bottom = heatmap.region.y + heatmap.origin[1] + heatmap.geometry.used_lines
        below = screen_text(app)[bottom : bottom + 2]
        assert ["2", "4", "6", "30"] in [
            line[left : left + heatmap.geometry.used_width + 2].replace("▴", " ").split()
            for line in below
        ], below
        await pilot.press("up", "up", "end")
        await pilot.pause()
        assert {"  row    7", "  column 30"} <= set(said(app.browser.map))
        await pilot.press("y")
        assert float(app.clipboard) == cka.similarity[2, 3]


async def test_without_colours_values_beyond_the_scale_are_marked(apart, make_app):
    values = np.linspace(0.0, 1.0, 100).reshape(10, 10)
    app = make_app(store("beyond", CkaMap(values)), capabilities=Capabilities("none"))
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        assert not {"<", ">"} & set("".join(field_lines(app.browser.map.heatmap)))
        await pilot.press("R", "ctrl+u", *"0.25 0.75", "enter")
        await until(pilot, lambda: app.screen is app.browser)
        await pilot.pause()
        lines = field_lines(app.browser.map.heatmap)
        assert set(lines[-1]) - {"[", "]"} == {"<"}  # row 1, below
        assert set(lines[0]) == {">"}
        below = int((values < 0.25 - 0.25 / 255).sum())
        assert f"{below} < 0.25" in words(app)
        assert f"0.75 > {int((values > 0.75 + 0.25 / 255).sum())}" in words(app)


@pytest.mark.parametrize(
    ("size", "keys", "bars", "explained"),
    [
        ((156, 38), "", True, False),
        ((155, 38), "", False, False),
        ((156, 37), "", False, False),
        ((118, 38), "B", True, False),
        ((117, 38), "B", False, False),
        ((179, 50), "", True, False),
        ((180, 50), "", True, True),
    ],
)
async def test_from_which_size_on_there_are_bars_and_words(
    run, make_app, size, keys, bars, explained
):
    """`B` hides the runs."""
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press(*keys)
        await pilot.pause()
        heatmap = app.browser.map.heatmap
        lines, top = screen_text(app), heatmap.region.y + heatmap.origin[1]
        left = heatmap.region.x + heatmap.origin[0]
        above = "".join(
            line[left : left + heatmap.geometry.used_width] for line in lines[max(1, top - 4) : top]
        )
        assert ("█" in above) == bars
        if bars:
            numbers = [line[left - 4 : left - 1].strip(" ▸│") for line in lines]
            assert [int(n) for n in numbers if n.isdecimal()] == list(range(12, 0, -1))
        assert ("Estimated over 2,048 samples" in words(app)) == explained


@pytest.mark.parametrize("size", [(80, 24), (60, 20), (40, 12)])
async def test_on_small_terminals_a_line_below_the_map_reads_the_cell(run, make_app, size):
    """And the result's name stands above."""
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("right", "right", "up")
        await pilot.pause()
        assert not app.browser.map.query_one(".panel").display
        heatmap, shown = app.browser.map.heatmap, screen_text(app)
        bottom = heatmap.region.y + heatmap.origin[1] + heatmap.geometry.used_lines
        (line,) = (y for y, text in enumerate(shown) if "row  2 col  3  0.818" in text)
        assert line >= bottom
        top = heatmap.region.y
        assert any("engram-vs-moe" in text for text in shown[: top + 1])


@pytest.mark.parametrize("size", [(100, 30), (80, 24), (60, 20)])
async def test_i_says_in_words_what_the_page_promises(apart, make_app, size):
    """Samples and documents, estimator, what the intervals leave out, what it rests on, why the
    warning matters."""
    cka = replace(full_map(), n_documents=310, n_batches=8, batches="random",
                  pairs="across-documents", interval_over="documents")  # fmt: skip
    app = make_app(store("words", cka))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, AboutScreen))
        await until(pilot, lambda: "Layer 1 of MoE" in words(app))
        frames = []
        for _ in range(20):  # the page is longer than a small screen
            box = app.screen.query_one("#about").region
            lines = screen_text(app)[box.y : box.bottom]
            text = " ".join(line[box.x : box.right] for line in lines)
            frames.append(" ".join(re.sub("[│▀-▟]", " ", text).split()))
            await pilot.press("down", "down")
            await pilot.pause()
        for part in (
            "2,048 samples (tokens) of 310 documents", "without bias in each batch",
            "leave out whole documents in turn", "The farthest 1 % of the samples hold 3%",
            "first direction holds 50% of its variance", "often the same one in all layers",
        ):  # fmt: skip
            assert any(part in frame for frame in frames), part


async def test_all_keys_of_a_map_work_in_a_series_and_mean_the_map_on_screen(full, make_app):
    app = make_app(full, session=at(full, "series/over-training"))
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        view = app.browser.view()
        await pilot.press("right_square_bracket", "right", "up", "up")
        await until(pilot, lambda: view.map.step == STEPS[1])
        value = full_map(shift=0.4 - STEPS[1] / 2500).similarity
        await pilot.press("y")
        assert float(app.clipboard) == value[2, 1]
        await pilot.press("m")
        assert view.cursor == (1, 1)
        await pilot.press("full_stop")
        assert view.k == 6
        await pilot.press("v")
        await pilot.pause()
        assert any(f"{value[1, 1]:.2f}"[1:] in line for line in field_lines(view.heatmap))
        await pilot.press("v", "a", "c", "r", "z")
        style = view.heatmap.cell_style
        assert (style.palette, style.low, style.high) == ("viridis", value.min(), value.max())
        assert not view.heatmap.curve_shown
        assert view.heatmap.zoom == 1
        await pilot.press("i")
        await until(pilot, lambda: f"CKA {value[1, 1]:.3f}" in words(app))
        await pilot.press("escape", "e")
        await until(pilot, (full / "figures" / f"cka-over-training-{STEPS[1]}.png").exists)


async def test_two_maps_are_drawn_side_by_side_or_subtracted(run, make_app):
    """The one on the screen first; `right` in the dialog chooses the other."""
    app = make_app(run)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("d")
        await settle(pilot)
        names = []
        for keys in (("e",), ("d", "e")):
            before = set((run / "figures").glob("*"))
            await pilot.press(*keys)
            await until(pilot, lambda before=before: set((run / "figures").glob("*.png")) > before)
            (made,) = set((run / "figures").glob("*.png")) - before
            names.append(made.name)
        assert names == [
            "cka-engram-vs-moe-and-later.png", "cka-engram-vs-moe-minus-later.png",
        ]  # fmt: skip
        await pilot.press("E")
        await until(pilot, lambda: isinstance(app.screen, ExportScreen))
        await pilot.press("right", "enter")  # from subtracted to side by side
        await until(pilot, (run / "figures" / "cka-engram-vs-moe-and-later-2.png").exists)


async def test_what_follows_d_is_typed_there(run, make_app):
    """Keys that come in one burst with it."""
    from test_tui_keys import burst

    write_cka(run / "results.zarr", "third", diagonal_map(), {})
    app = make_app(run)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        burst(app, "d", *"third")
        await until(pilot, lambda: bool(app.screen.query(Input)))
        await until(pilot, lambda: app.screen.query_one(Input).value == "third")
        burst(app, "enter")
        await until(pilot, lambda: app.browser.second is not None)
        assert app.browser.second == Entry(app.browser.entry.ref, "cka", "third")
    assert not (run / "figures").exists()


@pytest.mark.parametrize(
    ("known", "themes"),
    [
        (Capabilities(), ["dark", "light", "high contrast", "dark"]),
        (Capabilities("16"), ["ansi-dark", "ansi-light", "ansi-dark"]),
    ],
)
async def test_themes_come_in_the_order_of_the_page(run, make_app, known, themes):
    app = make_app(run, capabilities=known)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        seen = [app.theme]
        for _ in themes[1:]:
            await pilot.press("T")
            await pilot.pause()
            seen.append(app.theme)
        assert seen == themes


async def test_16_colours_are_shades_or_digits(run, make_app):
    app = make_app(run, capabilities=Capabilities("16"))
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        heatmap = app.browser.map.heatmap
        text = "".join(field_lines(heatmap))
        assert "▀" not in text
        assert {"█", "▓", "▒", "░"} <= set(text)
        await pilot.press("v")
        await pilot.pause()
        assert any(".90" in line for line in field_lines(heatmap))
