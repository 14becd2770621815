"""How screens look: nothing cut off or run together where there is room, every text readable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_robustness import made_robustness
from rich.color import Color as RichColor
from small_runs import full_map, screen_text, settle, small_sweep, until, write_log
from textual.color import Color
from textual.widgets import OptionList

from engramcka import palettes
from engramcka.stores import write_cka
from engramcka.tui.app import THEMES
from engramcka.tui.catalog import Entry
from engramcka.tui.charts.robustness import RobustnessPlot
from engramcka.tui.charts.sweep import SweepPlot
from engramcka.tui.screens.dialogs import AboutScreen
from engramcka.tui.terminal import cut, ending
from engramcka.tui.widgets.cells import ink_on, key_colours
from engramcka.tui.widgets.chart_drawing import STYLES, Chart, Curve, draw_chart, mark_of
from engramcka.tui.widgets.panel import DetailsPanel
from engramcka.tui.widgets.run_tree import RunTree

AA = 4.5  # least contrast of text (WCAG 2.2, success criterion 1.4.3)
SIZES = [(100, 30), (80, 24), (60, 20)]
WAYS = ("cka.estimator-biased", "cka.estimator-debiased", "cka.standardize-drop-massive")


def drawn(chart, width, height):
    return ["".join(text for text, _ in line) for line in draw_chart(chart, width, height)]


@pytest.fixture
def ways(run):
    """The run, with maps that are ways of one pair."""
    for way in WAYS:
        value = replace(full_map(), part_of="robustness/engram-vs-moe")
        write_cka(run / "results.zarr", f"engram-vs-moe.by-{way}", value, {})
    return run


def contrast(one: Color, other: Color) -> float:
    """Contrast ratio of WCAG 2, from 1 to 21."""
    low, high = sorted(luminance(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: Color) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized
    ]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("palette", palettes.PALETTES)
def test_numbers_and_tokens_are_readable_on_every_colour_of_a_map(palette):
    for colour in key_colours(palette, "default"):
        ground = Color(*colour.get_truecolor())
        assert contrast(Color.parse(ink_on(colour)), ground) >= AA
    assert ink_on(RichColor.from_rgb(0xEB, 0x57, 0x60)) == "#000000"  # 6.0 to 1, white 3.5


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_labels_are_readable_in_every_theme(theme):
    ink = Color.parse(theme.foreground)
    for ground in (Color.parse(theme.background), Color.parse(theme.panel)):
        assert contrast(ground.blend(ink, 0.6), ground) >= AA  # $foreground 60%, as labels are


def test_a_name_whose_end_says_what_it_is_keeps_its_end():
    assert ending("cka.estimator-biased", 17) == "…estimator-biased"
    assert ending("rsa", 3) == "rsa"
    assert ending("数数数x", 4) == "…数x"


def test_no_number_is_cut_off():
    assert cut("1.2 s  n = 2,048", 14) == "1.2 s  n = …"
    assert cut("1.2 s  n = 2,048 tokens", 18) == "1.2 s  n = 2,048 …"
    assert cut("1.2 s  n = 2,048 tokens", 17) == "1.2 s  n = 2,048…"
    assert cut("map-2 in 3.5 s", 5) == "map-…"  # a name, not a number
    assert cut("12345", 4) == "123…"


@pytest.mark.parametrize("size", [(200, 50), (100, 30), (80, 24)])
async def test_ways_stand_below_their_pair_and_are_told_apart(ways, make_app, size):
    app = make_app(ways)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        tree = app.browser.query_one(RunTree)
        lines = [line.split("│")[1].strip(" ▁▂▃▄▅▆▇█") for line in screen_text(app) if "│" in line]
        above = lines.index("▾ engram-vs-moe by")
        shown = lines[above + 1 : above + 1 + len(WAYS)]
        assert len(set(shown)) == len(WAYS)
        for name, way in zip(shown, WAYS, strict=True):
            assert way.endswith(name.lstrip("…"))
            assert len(name) >= min(len(way), 14)
        app.browser.choose(Entry(app.browser.runs[0].ref, "cka", f"engram-vs-moe.by-{WAYS[1]}"))
        await settle(pilot)
        await until(pilot, lambda: str(tree.cursor_node.label) == WAYS[1])


@pytest.mark.parametrize("size", SIZES)
async def test_names_to_compare_with_take_a_line_each(ways, make_app, size):
    app = make_app(ways)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("d")
        await until(pilot, lambda: bool(app.screen.query(OptionList)))
        await until(pilot, lambda: any("drop-massive" in line for line in screen_text(app)))
        for end in ("debiased", "drop-massive"):
            lines = [line for line in screen_text(app) if "paper  cka/" in line]
            assert sum(f"{end} " in line for line in lines) == 1


async def test_what_enter_opens_is_marked_while_a_name_is_typed(ways, make_app):
    app = make_app(ways)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("slash", *"debiased")
        tree = app.browser.query_one(RunTree)
        await until(pilot, lambda: tree.pattern == "debiased")
        await until(pilot, lambda: tree.cursor_node.data == tree.first_match())


@pytest.mark.parametrize("size", SIZES)
async def test_a_line_of_the_log_takes_one_line(run, make_app, size):
    long = "a warning that is longer than any terminal is wide " * 6
    said = [
        {"time": f"2026-03-01T10:00:{n:02}+00:00", "event": "done", "stage": "cka",
         "name": f"map-{n}", "done": 9, "total": 9, "unit": "parts", "seconds": 1.0, "info": long}
        for n in range(40)
    ]  # fmt: skip
    write_log(run, tuple(said))
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("n", "n", "n")
        await settle(pilot)
        view = app.browser.view_of("log")
        assert view.scroll_y == view.max_scroll_y > 0
        await pilot.resize_terminal(size[0] + 3, size[1] - 2)
        await pilot.pause()
        await until(pilot, lambda: view.scroll_y == view.max_scroll_y)
        await pilot.press("g")
        await pilot.resize_terminal(*size)
        await until(pilot, lambda: app.size == size)
        await pilot.pause()
        assert view.scroll_y == 0
        await pilot.press("G")
        await pilot.pause()
        lines = [line for line in screen_text(app) if "cka map-" in line]
        assert len(lines) >= size[1] - 9  # of size[1], without borders, header, keys, a gap
        assert not any(line.strip(" │▾▸") == "…" for line in screen_text(app))


@pytest.mark.parametrize("size", [(200, 50), (100, 30)])
async def test_the_page_in_words_ends_with_its_last_sentence(run, make_app, size):
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, AboutScreen))
        box = app.screen.query_one("#about").region
        last = screen_text(app)[box.bottom - 2][box.x + 1 : box.right - 1]
        assert last.strip(" ▁▂▃▄▅▆▇█")


async def test_one_warning_is_one(run, make_app):
    app = make_app(run)
    async with app.run_test(size=(150, 18)) as pilot:
        await settle(pilot)
        said = "\n".join(screen_text(app))
        assert "1 warning" in said
        assert "1 warnings" not in said


async def test_a_value_that_needs_the_room_begins_right_after_its_label(run, make_app):
    app = make_app(run)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        panel = app.browser.map.query_one(DetailsPanel)
        texts = ["".join(text for text, _ in panel.pair(*pair)) for pair in (
            ("class", "all"), ("class", "inside an entity"), ("95 %", "−0.189 to −0.132"),
            ("to whole", "x" * 40),
        )]  # fmt: skip
        assert {len(text) for text in texts} == {panel.size.width}
        assert texts[0].rstrip() == "class    all"
        assert texts[1].split(maxsplit=1) == ["class", "inside an entity"]
        assert texts[2].rstrip().endswith(" −0.189 to −0.132")
        assert texts[3].startswith("to whole x")


def curves(count):
    x = np.array([1.0, 2.0, 3.0])
    return tuple(Curve(f"way {n} of many", x, x + n) for n in range(count))


def test_a_long_caption_takes_two_lines_where_there_is_room():
    chart = Chart(curves(1), "rho, share left to experts; loss in nats/token")
    assert drawn(chart, 80, 24)[-1].strip() == chart.caption
    assert [line.strip() for line in drawn(chart, 44, 24)[-2:]] == [
        "rho, share left to experts;",
        "loss in nats/token",
    ]
    assert "…" in drawn(chart, 44, 12)[-1]


def test_a_legend_says_how_many_names_it_leaves_out():
    text = drawn(Chart(curves(14), "x"), 50, 24)
    named = sum(line.count("of many") for line in text[:3])
    assert f"and {14 - named} more" in text[2]
    assert "more" not in "\n".join(drawn(Chart(curves(4), "x"), 50, 24))


def test_curves_of_one_colour_have_different_marks():
    looks = {(style % STYLES, mark_of(style)) for style in range(3 * STYLES)}
    assert len(looks) == 3 * STYLES
    text = "\n".join(drawn(Chart(curves(7), "x"), 200, 30))
    assert "● way 0" in text
    assert "◆ way 6" in text


def test_names_of_ablations_are_whole_where_there_is_room():
    name = "without token compression"
    sweep = replace(small_sweep(), variants={name: 2.3})
    chart = replace(SweepPlot(sweep).chart(0), near=False)
    assert any(f"{name} ×" in line for line in drawn(chart, 44, 24))


def test_many_ways_are_first_told_in_a_line_each():
    found = made_robustness()
    lines = RobustnessPlot(found).details(0, 3.0)
    first = lines.index(("", None)) + 1
    assert lines[first : first + 3] == [
        (f" {found.alignment[way, 2]:.1f} {mark_of(way)} {found.ways[way]}", None)
        for way in range(3)
    ]
    nearest = RobustnessPlot(found).details(1, 3.0)
    assert ("   – ○ Procrustes", None) in nearest
