"""Every kind of result in the app: what keys do, and what is then on the screen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from small_runs import (
    LIVE,
    STEPS,
    TOKENS,
    ablation,
    allocation,
    full_map,
    gates,
    lens_curve,
    screen_text,
    settle,
    toasts,
    training_curve,
    until,
    write_series,
)
from textual.widgets import ContentSwitcher

from engramcka.results import GateText
from engramcka.stores.results import write_result
from engramcka.tui import browse
from engramcka.tui.catalog import Entry, facts, find_runs, members, series_of
from engramcka.tui.loading import Broken, Loaded, load
from engramcka.tui.terminal import Capabilities
from engramcka.tui.widgets.panel import DetailsPanel, TextLines
from engramcka.tui.widgets.run_tree import RunTree, stops

SIZE = (100, 30)


def title(app):
    return str(app.browser.query_one("#content").border_title)


def said(view):
    panel = view.query_one(DetailsPanel)
    return [
        "".join(segment.text for segment in panel.strip(y)).rstrip()
        for y in range(panel.size.height)
    ]


def open_at(full, make_app, title, **fields):
    return make_app(full / "results.zarr" / title, **fields)


def test_a_path_of_one_result_opens_the_run_at_it(full):
    (place,) = find_runs([full / "results.zarr" / "gates" / "engram"])
    assert place.chosen == "gates/engram"
    assert place.results.samefile(full / "results.zarr")


async def test_the_lens_shows_all_models_and_reads_the_layer_under_the_cursor(full, make_app):
    app = open_at(full, make_app, "lens/engram")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        view = app.browser.view()
        await pilot.press("right", "l")
        await pilot.pause()
        assert "● Engram" in "\n".join(screen_text(app))
        assert "◆ MoE" in "\n".join(screen_text(app))
        assert "layer    3" in said(view)
        assert f"KL       {lens_curve('', 2.0).kl[2]:.3f}" in said(view)
        await pilot.press("y")
        assert float(app.clipboard) == lens_curve("", 2.0).kl[2]
        await pilot.press("r")
        await pilot.pause()
        assert "entropy of the" in "\n".join(screen_text(app))
        await pilot.press("end", "z", "home", "m")
        await pilot.pause()
        assert view.plot.x == 8  # drawn from there on
        await pilot.press("z", "m")
        assert view.plot.x == 1
        await pilot.click(view.plot, offset=(view.plot.size.width - 2, 5))
        assert view.plot.x == 8


async def test_a_lens_that_is_written_while_open_joins_the_plot(full, make_app):
    app = open_at(full, make_app, "lens/engram", pause=LIVE)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        assert app.browser.focused is app.browser.view(), app.browser.focused
        await pilot.press("right")
        assert app.browser.view().plot.x == 2, app.browser.focused
        write_result(full / "results.zarr", "third", lens_curve("Third", 1.0), {})
        await until(pilot, lambda: "▲ Third" in "\n".join(screen_text(app)))
        assert app.browser.view().plot.x == 2
        shutil.rmtree(full / "results.zarr" / "lens" / "moe" / "kl")
        await until(pilot, lambda: "moe/kl" in " ".join(app.browser.view().plotted.warnings))
        assert "Traceback" not in "\n".join(screen_text(app))


async def test_training_and_allocation(full, make_app):
    app = open_at(full, make_app, "training/moe")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("m")
        await pilot.pause()
        curve = training_curve(2.25)
        assert f"valid.   {curve.validation_loss[-1]:.4f}" in said(app.browser.view())
        app.browser.choose(Entry(app.browser.entry.ref, "allocation", "u"), focus=True)
        await settle(pilot)
        await pilot.press("m")
        await pilot.pause()
        assert "rho      0.8" in said(app.browser.view())
        assert "experts  16" in said(app.browser.view())
        await pilot.press("ctrl+y")
        assert len(app.clipboard.splitlines()) == 1 + len(allocation().rho)


async def test_a_zoom_ends_with_the_result_that_it_was_of(full, make_app):
    other = replace(training_curve(2.0), step=training_curve(2.0).step + 1)
    shutil.copytree(full, full.parent / "other")
    for name in ("moe", "engram"):
        shutil.rmtree(full.parent / "other" / "results.zarr" / "training" / name)
        write_result(full.parent / "other" / "results.zarr", name, other, {})
    app = make_app(full / "results.zarr" / "training" / "moe", full.parent / "other")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("right", "right", "z")
        view = app.browser.view()
        assert view.start == 30
        app.browser.choose(Entry(app.browser.runs[1].ref, "training", "moe"), focus=True)
        await settle(pilot)
        await pilot.press("home")
        assert (view.start, view.plot.x) == (None, 11)


async def test_gates_token_by_token_and_by_type(full, make_app):
    app = open_at(full, make_app, "gates/engram")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        view, alpha = app.browser.view(), gates().texts[0].alpha
        await pilot.press("right", "right", "right")
        await pilot.pause()
        assert f"gate     {alpha[3, 0].mean():.3f}" in said(view)
        assert said(view)[0] == " Great"
        await pilot.press("m", "s", "s")
        await pilot.pause()
        assert "layer 6  stream 2  text 1 of 2" in "\n".join(screen_text(app))
        assert f"gate     {alpha[3, 1, 1]:.3f}" in said(view)
        await pilot.press("down", "down")  # after the new line
        await pilot.pause()
        assert TOKENS[view.tokens.cursor] in ("Yes", ".")
        await pilot.press("y")
        assert float(app.clipboard) == alpha[view.tokens.cursor, 1, 1]
        await pilot.press("right_square_bracket")
        await pilot.pause()
        assert "text 2 of 2" in "\n".join(screen_text(app))
        await pilot.press("t", "down", "down")
        await pilot.pause()
        assert said(view)[:3] == ["type     person", "gate     0.700", "95 %     .670–.720"]
        await pilot.press("c", "t", "c", "right", "right", "right")
        assert view.tokens.palette != "magma"


async def test_gates_without_colours_stand_above_shades(full, make_app):
    app = open_at(full, make_app, "gates/engram", capabilities=Capabilities("none", ascii=True))
    async with app.run_test(size=(40, 12)) as pilot:
        await settle(pilot)
        text = "\n".join(screen_text(app))
        assert text.isascii()
        assert "Only Alexander" in text
        await pilot.press("down")
        await pilot.pause()
        assert "***#" in "\n".join(screen_text(app))


async def test_the_memorys_worth(full, make_app):
    app = open_at(full, make_app, "memory/engram")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("down")
        await pilot.pause()
        view = app.browser.view()
        assert "apart    +1.0000" in said(view)
        assert f"kept     {float(ablation().kept[1]):.1%}" in said(view)
        await pilot.press("y")
        assert float(app.clipboard) == 1.0


def test_a_series_is_found_in_the_metadata_and_ordered_by_step(full):
    (place,) = find_runs([full])
    found = members(Entry(place, "series", "over-training"))
    assert [series_of(entry) for entry in found] == [("over-training", step) for step in STEPS]
    assert series_of(Entry(place, "cka", "later")) is None
    (full / "results.zarr/cka/later/zarr.json").write_text("[1")
    assert series_of(Entry(place, "cka", "later")) is None


async def test_a_series_steps_plays_and_keeps_the_cursor(full, make_app, monkeypatch):
    monkeypatch.setattr("engramcka.tui.screens.series.SECONDS", 0.02)
    app = open_at(full, make_app, "cka/over-training-100")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("right", "up", "up")
        await pilot.press("right_square_bracket")  # from one map into its series
        await settle(pilot)
        view = app.browser.view()
        assert app.browser.entry.title == "series/over-training"
        assert "step 200 " in title(app)
        await pilot.press("up", "right", "right_square_bracket", "right_square_bracket")
        await pilot.pause()
        assert "step 1000 " in title(app)
        assert f"CKA      {full_map(shift=0.0).similarity[view.cursor]:.3f}" in said(view)
        seen = set()
        await pilot.press("space")
        await until(pilot, lambda: seen.add(view.at) or len(seen) == len(STEPS))
        await pilot.press("space")
        await pilot.pause()
        at = view.at
        await pilot.pause(0.1)
        assert view.at == at
        assert "▶" not in title(app)


async def test_the_end_of_a_growing_series_is_followed(full, make_app):
    app = open_at(full, make_app, "cka/over-training-1000", pause=LIVE)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("right_square_bracket")
        await settle(pilot)
        assert app.browser.view().at == 2
        write_series(full / "results.zarr", (2000,))
        await until(pilot, lambda: "step 2000 " in title(app))
        await pilot.press("left_square_bracket")
        await pilot.pause()
        assert "step 1000 " in title(app)
        write_series(full / "results.zarr", (3000,))
        await until(pilot, lambda: len(app.browser.view().maps) == 5)
        assert app.browser.view().maps[app.browser.view().name_shown].step == 1000


async def test_a_map_of_a_series_is_compared_and_exported_as_it_is_shown(full, make_app):
    app = open_at(full, make_app, "cka/over-training-200")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await pilot.press("right_square_bracket")
        await settle(pilot)
        assert app.browser.subject().parts[0].stem == "cka-over-training-1000"
        await pilot.press("d")
        await pilot.pause()
        others = [entry.name for entry in app.screen.shown]
        assert others[-2:] == ["over-training-100", "over-training-200"]  # 1000 is shown
        await pilot.press(*"later", "enter")
        await settle(pilot)
        line = app.browser.compare.query_one("#pair-line", TextLines)
        shown = "".join(segment.text for segment in line.strip(0))
        value = full_map(shift=0.0).similarity[0, 0]
        assert f"A {value:.3f}" in shown
        assert f"B {value - 0.25:.3f}" in shown
        await pilot.press("escape")
        await pilot.pause()
        assert app.browser.query_one(ContentSwitcher).current == "series"


async def test_n_goes_through_screens_and_the_tree_opens_a_series(full, make_app):
    app = make_app(full)
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        assert [entry.title for entry in stops(app.browser.runs[0])] == [
            "cka/engram-vs-moe", "cka/later", "series/over-training",
            "baseline/engram-vs-moe", "robustness/engram-vs-moe", "matrix/cka", "lens/engram",
            "gates/engram", "memory/engram", "sweep/insertion-layer", "allocation/u",
            "slots/tables", "training/engram", "log",
        ]  # fmt: skip
        app.browser.choose(Entry(app.browser.entry.ref, "lens", "moe"), focus=True)
        await settle(pilot)
        await pilot.press("n")
        await settle(pilot)
        assert app.browser.entry.title == "gates/engram"
        await pilot.press("p", "p", "p", "p", "p")
        await settle(pilot)
        await pilot.press("tab")
        tree = app.browser.query_one(RunTree)
        app.browser.choose(Entry(app.browser.entry.ref, "series", "over-training"))
        await pilot.pause()
        await pilot.press("enter")
        await pilot.pause()
        labels = [str(node.label) for node in tree.cursor_node.children]
        assert labels == [f"step {step}" for step in STEPS]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("lens/engram", ["● Engram  ◆ MoE", "layer 1  KL  ● 2.000  ◆ 3.000", "top-1"]),
        ("gates/engram", ["module at layer 6, stream 2", "0.700 .670–.720", " Alexander[.062]"]),
        ("memory/engram", ["inside an entity", "without 3.5000", "kept 36.8%"]),
        ("allocation/u", ["rho 0.6  experts 12  loss 2.1500", "1 of 10 trainings"]),
        ("slots/tables", ["slots 10,000", "loss 2.1100", "no memory"]),
        ("baseline/engram-vs-moe", ["2 baselines", "layer 0", "untrained"]),
        ("robustness/engram-vs-moe", ["5 ways", "layer 3", "over 4 ways", "RSA"]),
        (
            "matrix/cka",
            ["1 MoE ", "0.81", "0.488  2 MoE, seed 1 – 3 Engram  0.488 to 0.488", "6 pairs"],
        ),
        ("training/moe", ["step 10  ● 5.0000", "validation"]),
        ("cka/over-training-1000", ["12 x 12", "soft alignment"]),
        (
            "series/over-training",
            ["3 checkpoints", "step 200 ", "nearest depth +0.0 12/12", "step 1000", "soft"],
        ),
    ],
)
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_once_prints_every_kind(full, capsys, monkeypatch, result, words, locale):
    monkeypatch.setenv("LC_ALL", locale)
    monkeypatch.setenv("COLUMNS", "80")
    browse([full / "results.zarr" / result], once=True)
    printed = capsys.readouterr().out
    if locale == "C":
        assert printed.isascii()
    else:
        assert all(word in printed for word in words), printed


@pytest.mark.parametrize(("columns", "beside", "below"), [("80", 3, 0), ("24", 0, 3)])
def test_once_prints_the_interval_of_a_memory_ablation_once(
    full, capsys, monkeypatch, columns, beside, below
):
    monkeypatch.setenv("COLUMNS", columns)
    browse([full / "results.zarr" / "memory/engram"], once=True)
    printed = capsys.readouterr().out
    assert printed.count(")\n") == beside, printed
    assert printed.count("95 %") == printed.count("apart") == below


@pytest.mark.parametrize(
    "result", ["lens/engram", "gates/engram", "memory/engram", "cka/over-training-200"]
)
async def test_a_screen_shrinks_to_nothing_and_comes_back(full, make_app, result):
    app = open_at(full, make_app, result)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        before = "\n".join(screen_text(app))
        await pilot.resize_terminal(20, 5)
        await pilot.pause()
        assert "40 x 12" in " ".join("\n".join(screen_text(app)).split())
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "\n".join(screen_text(app)) == before)


async def test_a_lens_is_exported(full, make_app):
    app = open_at(full, make_app, "lens/moe")
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await settle(pilot)
        await pilot.press("e")
        written = full / "figures" / "lens-moe.png"
        await until(pilot, lambda: any("figures" in toast for toast in toasts(app)))
        assert (app.browser.entry.ref.figures / written.name).is_file()


HOSTILE = "\x1b[31m\x1b]0;title\x07[red]x[/red] \u202edlrow\u05e9 " + "y" * 300


def write_hostile(full):
    results = full / "results.zarr"
    for folder in ("cka", "lens", "gates", "memory", "sweep", "allocation", "training"):
        shutil.rmtree(results / folder)
    cka = replace(full_map(), y_label=HOSTILE, warnings=(HOSTILE,), series=HOSTILE[:60], step=1)
    mine = "[bold]\x1b[2J" + "n" * 60
    text = GateText((HOSTILE, "\x1b[31m", "\u202e", "\t", "\x00"), np.zeros((5, 2, 2)))
    values = (
        cka,
        lens_curve(HOSTILE, 1.0, warnings=(HOSTILE,)),
        replace(gates(), types=(HOSTILE, "a", "b"), texts=(text,), warnings=(HOSTILE,)),
        replace(ablation(), classes=(HOSTILE, "a", "b"), label=HOSTILE),
        replace(allocation(), label=HOSTILE, unit=HOSTILE),
        training_curve(2.0),
    )
    for value in values:
        write_result(results, mine, value, {})
    write_result(results, mine + "2", replace(cka, step=2), {})
    write_result(results, mine + "2", lens_curve(HOSTILE, 2.0), {})


@pytest.mark.parametrize("known", [Capabilities(), Capabilities("16"), Capabilities("none", True)])
async def test_hostile_names_in_every_kind_are_plain_text(full, make_app, known):
    write_hostile(full)
    app = make_app(full, capabilities=known)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for _ in stops(app.browser.runs[0]):
            assert isinstance(app.browser.found, Loaded), app.browser.found
            await pilot.press("right", "t", "down", "n")
            text = "\n".join(screen_text(app))
            assert not {"\x1b", "\x07", "\u202e", "\x00"} & set(text)
            assert text.isascii() or not known.ascii
            await settle(pilot)


def test_hostile_names_are_printed_as_plain_text(full, capsys):
    write_hostile(full)
    (place,) = find_runs([full])
    for entry in facts(place).entries:
        if entry.kind != "log":
            browse([entry.path], once=True)
            printed = capsys.readouterr().out
            assert not {"\x1b", "\x07", "\u202e", "\x00"} & set(printed), entry.kind


@pytest.mark.parametrize("kind", ["lens", "gates", "memory", "allocation", "training", "cka"])
@pytest.mark.parametrize("damage", ["metadata", "half", "array", "newer"])
def test_what_is_broken_is_a_sentence(full, kind, damage):
    (place,) = find_runs([full])
    entry = next(e for e in facts(place).entries if e.kind == kind)
    metadata = entry.path / "zarr.json"
    if damage == "metadata":
        metadata.write_text("{")
    elif damage == "half":
        metadata.unlink()
    elif damage == "array":
        shutil.rmtree(next(path for path in sorted(entry.path.iterdir()) if path.is_dir()))
    else:
        content = json.loads(metadata.read_text())
        content["attributes"]["engramcka_version"] = 99
        metadata.write_text(json.dumps(content))
    found = load(entry)
    assert isinstance(found, Broken) or damage == "array"  # an optional array may be away
    if isinstance(found, Broken):
        assert entry.name in found.sentence
        assert "\n" not in found.sentence


def test_a_series_with_a_broken_map_shows_the_rest_and_says_so(full):
    shutil.rmtree(full / "results.zarr" / "cka" / "over-training-200" / "similarity")
    (place,) = find_runs([full])
    found = load(Entry(place, "series", "over-training"))
    assert isinstance(found, Loaded)
    assert [value.step for value in found.value.values.values()] == [100, 1000]
    assert "over-training-200" in found.value.unread[0]
