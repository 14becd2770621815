"""The preview of a figure in the export dialog, and what the dialog writes."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_runs import make_full_run, settle, until

from engramcka.tui import exporting
from engramcka.tui.exporting import Export
from engramcka.tui.screens.export import Choice, ExportScreen
from engramcka.tui.terminal import Capabilities
from engramcka.tui.widgets.preview import Preview, half_blocks, resized, shaded


def some_pixels(height=40, width=60, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(1, 50))
def test_a_smaller_picture_is_of_means(height, width, rows, columns):
    pixels = some_pixels(height, width)
    small = resized(pixels, columns, rows)
    assert small.shape == (min(rows, height), min(columns, width), 3)
    count = small.shape[0], small.shape[1]
    top, bottom = 0 * height // count[0], 1 * height // count[0]
    left, right = (count[1] - 1) * width // count[1], width
    expected = pixels[top:bottom, left:right].reshape(-1, 3).mean(axis=0)
    assert np.abs(small[0, -1] - expected).max() <= 0.5


def test_half_blocks_show_two_rows_a_line():
    pixels = some_pixels(5, 4)
    strips = half_blocks(pixels)
    shown = [
        (style.color.get_truecolor(), style.bgcolor.get_truecolor())
        for strip in strips
        for text, style, _ in strip
        for _ in text
    ]
    assert [tuple(upper) for upper, _ in shown[:4]] == [tuple(p) for p in pixels[0].tolist()]
    assert [tuple(lower) for _, lower in shown[:4]] == [tuple(p) for p in pixels[1].tolist()]
    assert [tuple(upper) for upper, _ in shown[8:]] == [tuple(p) for p in pixels[4].tolist()]


@pytest.mark.parametrize("ground", [0, 255])
def test_without_colours_ink_is_what_is_not_the_ground(ground):
    pixels = np.full((2, 3, 3), ground, np.uint8)
    pixels[1, 1] = 255 - ground
    assert [strip.text for strip in shaded(pixels, " .#")] == ["   ", " # "]


async def preview_of(pilot):
    app = pilot.app
    await until(pilot, lambda: isinstance(app.screen, ExportScreen))
    found = app.screen.query_one(Preview)
    await until(pilot, lambda: found.pixels is not None)
    await pilot.pause()
    return found


async def test_the_dialog_shows_the_figure_that_is_written(run, make_app):
    app = make_app(run)
    async with app.run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        await pilot.press("E")
        light = await preview_of(pilot)
        assert light.pixels.mean() > 128
        lines = [light.render_line(y) for y in range(light.size.height)]
        assert {strip.cell_length for strip in lines} == {light.size.width}
        colours = {s.style.color for strip in lines for s in strip if "▀" in s.text}
        assert len(colours) > 50
        await pilot.press("up", "up", "right")  # the ground, before the folder
        await until(pilot, lambda: light.pixels is not None and light.pixels.mean() < 128)
        await pilot.press("enter")
        written = run / "figures" / "cka-engram-vs-moe.png"
        await until(pilot, written.exists)
    assert np.asarray(Image.open(written).convert("L")).mean() < 128


@pytest.mark.parametrize("known", [Capabilities("16"), Capabilities("none", ascii=True)])
async def test_without_half_blocks_the_figure_is_in_shades(run, make_app, known):
    app = make_app(run, capabilities=known)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("E")
        shown = await preview_of(pilot)
        text = "".join(shown.render_line(y).text for y in range(shown.size.height))
        assert len(set(text)) > 3
        assert text.isascii() or not known.ascii


async def test_an_answer_that_is_chosen_is_on_the_screen_however_narrow(run, make_app):
    app = make_app(run)
    async with app.run_test(size=(40, 12)) as pilot:
        await settle(pilot)
        await pilot.press("E", "down", *["right"] * 5)
        await pilot.pause()
        venue = app.screen.query_one("#venue", Choice)
        assert venue.answer == "nature"
        assert "[nature]" in venue.render_line(0).text
        x = venue.render_line(0).text.index(" acl ")
        await pilot.click(venue, offset=(x + 1, 0))
        assert venue.answer == "acl"


async def test_a_figure_that_cannot_be_drawn_is_a_sentence(run, make_app, monkeypatch):
    def fail(*_):
        raise ValueError("no [red]figure\x1b[2J")

    monkeypatch.setattr(exporting, "preview", fail)
    app = make_app(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("E")
        await until(pilot, lambda: "no [red]figure" in app.screen.query_one(Preview).sentence)
        shown = app.screen.query_one(Preview)
        text = "".join(shown.render_line(y).text for y in range(shown.size.height))
        assert "no [red]figure [2J" in text


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory):
    return make_full_run(tmp_path_factory.mktemp("kinds") / "full")


TEXTS = ("this text text-engram-1", "all texts text-engram")


@pytest.mark.parametrize(
    ("result", "keys", "expected"),
    [
        (
            "series/over-training",
            (),
            ("this map cka-over-training-100", "all maps series-over-training"),
        ),
        ("gates/engram", (), (*TEXTS, "types gates-engram")),
        ("gates/engram", ("t",), ("types gates-engram", *TEXTS)),
        ("memory/engram", (), ("figure memory-engram",)),
    ],
)
async def test_what_can_be_drawn_is_what_is_on_the_screen_and_more(
    every_kind, make_app, result, keys, expected
):
    app = make_app(every_kind / "results.zarr" / result)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press(*keys)
        subject = app.browser.subject()
        assert [f"{part.name} {part.stem}" for part in subject.parts] == [*expected]
        for part in subject.parts:
            with Image.open(BytesIO(exporting.preview(subject, Export(part.name)))) as image:
                assert min(image.size) > 60


async def test_a_series_is_written_as_a_moving_picture(full, make_app):
    from engramcka import figures

    assert exporting.MOVIES == figures.MOVIES
    app = make_app(full / "results.zarr" / "series" / "over-training")
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("E", "down", "right", "right", "right", "enter")
        written = full / "figures" / "series-over-training.gif"
        await until(pilot, written.exists)
    with Image.open(written) as image:
        assert image.n_frames == 3
