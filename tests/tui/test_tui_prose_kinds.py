"""What docs/browse.md says of every kind of result but maps and that no other file tries."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from made_robustness import made_robustness
from small_runs import (
    STEPS,
    ablation,
    full_map,
    gates,
    lens_curve,
    screen_text,
    settle,
    small_sweep,
    training_curve,
    until,
)
from test_tui_kinds import open_at, said
from test_tui_promises import PAGE

from engramcka.results.kinds import KINDS
from engramcka.stores import write_sweep
from engramcka.stores.results import write_result
from engramcka.tui import browse
from engramcka.tui.readout import short_decimals, signed

SIZE = (100, 30)


def drawn(view) -> list[str]:
    """The lines of a chart."""
    return [
        "".join(s.text for s in view.plot.strip(y)).rstrip() for y in range(view.plot.size.height)
    ]


async def press(pilot, *keys):
    await pilot.press(*keys)
    await pilot.pause()


def test_every_kind_has_a_word_on_the_page():
    """A section, or for maps by other measures a sentence."""
    headings = {
        "cka": "A map", "map": "A map", "lens": "LogitLens curves", "gates": "Gates",
        "memory": "The memory's worth", "allocation": "Allocation", "slots": "Slots",
        "training": "Training", "sweep": "A sweep", "robustness": "Robustness",
        "baseline": "Baselines",
        "matrix": "A matrix of models",
    }  # fmt: skip
    sections = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(headings) == set(KINDS)
    assert set(headings.values()) <= set(sections)


@pytest.mark.parametrize(("fields", "count"), [({"where": "entities"}, 1), ({}, 0)])
async def test_the_panel_says_how_many_curves_are_left_out(full, make_app, fields, count):
    """And the ends of the intervals of every model that is in the plot."""
    write_result(full / "results.zarr", "moe", lens_curve("MoE", 3.0, **fields), {})
    app = open_at(full, make_app, "lens/engram")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        view = app.browser.view()
        left_out = "1 more of other samples or another direction"
        assert (left_out in " ".join(" ".join(said(view)).split())) == bool(count)
        assert ("◆ MoE" in "\n".join(drawn(view))) == (not count)
        ends = [line for line in said(view) if line.startswith("  95 %")]
        curves = [lens_curve("", slope) for slope in ((2.0,) if count else (2.0, 3.0))]
        assert [line.split()[-1] for line in ends] == [
            f"{curve.kl_low[0]:.3f}–{curve.kl_high[0]:.3f}" for curve in curves
        ]


async def test_shift_and_an_arrow_move_by_a_tenth_of_the_axis(full, make_app):
    for name in ("moe", "engram"):
        write_result(full / "results.zarr", name, lens_curve(name, 2.0, layers=50), {})
    app = open_at(full, make_app, "lens/engram")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        view = app.browser.view()
        for key, x in (("shift+right", 6), ("shift+right", 11), ("shift+left", 6)):
            await press(pilot, key)
            assert view.plot.x == x
            assert f"layer    {x}" in said(view)


async def test_r_and_shift_r_go_through_the_three_readings(full, make_app):
    app = open_at(full, make_app, "lens/engram")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        view = app.browser.view()
        for key, words in (
            ("r", "entropy"), ("r", "top-1"), ("r", "KL("), ("R", "top-1"), ("R", "entropy"),
        ):  # fmt: skip
            await press(pilot, key)
            assert words in view.plot.chart.caption, key


async def test_the_panel_reads_the_gates_of_every_module_and_stream(full, make_app):
    app = open_at(full, make_app, "gates/engram")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        view, alpha = app.browser.view(), gates().texts[0].alpha
        await press(pilot, "right", "right", "right", "right")
        lines = said(view)
        for module, layer in enumerate(gates().layers):
            at = lines.index(f"layer {layer}")
            assert lines[at + 1 : at + 3] == [
                f"  {stream + 1}      {alpha[4, module, stream]:.3f}" for stream in (0, 1)
            ]


async def test_means_by_type_have_intervals_of_a_stream_and_none_of_their_mean(full, make_app):
    """With the orders' shares and the collisions of the module."""
    app = open_at(full, make_app, "gates/engram")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        view = app.browser.view()
        await press(pilot, "t", "down", "down")
        assert said(view)[:2] == ["type     person", "gate     0.700"]
        assert not any(line.startswith("95 %") for line in said(view))
        await press(pilot, "s")
        assert "95 %     .870–.920" in said(view)
        shown = "\n".join(screen_text(app))
        for text in ("2-gram", "3-gram", "60.0%", "40.0%", "1.0%", "10.0%"):
            assert text in shown, text


async def test_the_memory_of_every_model_with_losses_interval_and_what_is_kept(full, make_app):
    worse = replace(ablation(), loss_off=ablation().loss_off + 0.5, label="Other",
                    difference_low=ablation().difference_low + 0.5,
                    difference_high=ablation().difference_high + 0.5)  # fmt: skip
    write_result(full / "results.zarr", "other", worse, {})
    app = open_at(full, make_app, "memory/engram")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        shown = "\n".join(screen_text(app))
        assert "Engram" in shown
        assert "Other" in shown
        view = app.browser.view()
        await press(pilot, "down")
        for one, losses in ((ablation(), ("2.5000", "3.5000")), (worse, ("2.5000", "4.0000"))):
            lines = said(view)
            low, high = one.difference_low[1], one.difference_high[1]
            for line in (
                "  inside an entity", f"with     {losses[0]}", f"without  {losses[1]}",
                f"apart    {signed(float(losses[1]) - float(losses[0]))}",
                f"95 %     {short_decimals(low)} to {short_decimals(high)}",
                f"kept     {np.exp(-(float(losses[1]) - float(losses[0]))):.1%}",
            ):  # fmt: skip
                assert line in lines, (line, lines)
            await press(pilot, "down", "down", "down")


async def test_slots_have_a_dashed_line_and_what_ten_times_the_slots_change(full, make_app):
    app = open_at(full, make_app, "slots/tables")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        view = app.browser.view()
        assert "log10" in view.plot.chart.caption
        dashed = [line for line in drawn(view) if "╌╌╌" in line]
        assert len(dashed) == 1
        slope = np.polyfit([4, 5, 6], [2.10, 2.05, 2.01], 1)[0]  # of the seed that has all points
        assert f"x 10     {signed(slope)}" in said(view)
        assert "to none  −0.0500" in said(view)


async def test_the_dashed_line_of_an_allocation_is_at_experts_alone(full, make_app):
    app = open_at(full, make_app, "allocation/u")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        view = app.browser.view()
        assert sum("╌╌╌" in line for line in drawn(view)) == 1
        (level,) = view.plot.chart.levels
        assert level.value == pytest.approx(2.25)
        await press(pilot, "end")
        assert "rho      1" in said(view)


async def test_a_training_has_lines_and_marks_and_goes_from_entry_to_entry(full, make_app):
    app = open_at(full, make_app, "training/moe")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        view, curve = app.browser.view(), training_curve(2.5)
        field = "\n".join(drawn(view)[1:])
        assert any(0x2800 < ord(c) < 0x2900 for c in field)  # lines, of dots
        assert {"●", "◆"} <= set(field)  # validation losses of both models
        await press(pilot, "right")
        assert view.plot.x == curve.step[1]
        await press(pilot, *["right"] * 8, "z")
        assert view.plot.chart.places[0] == curve.step[9]
        await press(pilot, "z")
        assert view.plot.chart.places[0] == curve.step[0]


def sweep_with_intervals():
    """Ends of the intervals of every layer and of an ablation."""
    sweep = small_sweep()
    return replace(
        sweep, difference_low=sweep.difference - 0.03, difference_high=sweep.difference + 0.02,
        variants={"without gating": 2.02, "no memory": 2.06}, whole="layer 2",
        variant_differences={"without gating": (0.03, 0.0125, 0.0475)},
    )  # fmt: skip


async def test_the_baseline_of_a_sweep_is_an_arrow_until_z_takes_it_in(run, make_app):
    app = make_app(run / "results.zarr" / "sweep" / "insertion-layer")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        view = app.browser.view()
        for keys, arrow in (((), True), (("z",), False), (("z",), True)):
            await press(pilot, *keys)
            field = "\n".join(drawn(view))
            assert ("↑ MoE 2.51" in field) == arrow
            assert ("╌╌╌" in field) != arrow


async def test_a_point_has_a_deviation_or_the_interval_of_its_difference(run, make_app):
    app = make_app(run / "results.zarr" / "sweep" / "insertion-layer")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await press(pilot, "m")
        lines = said(app.browser.view())
        assert "s.d.     0.0141" in lines
        assert not any(line.startswith("95 %") for line in lines)
    write_sweep(run / "results.zarr", "insertion-layer", sweep_with_intervals(), {})
    app = make_app(run / "results.zarr" / "sweep" / "insertion-layer")
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        await press(pilot, "m")
        lines = said(app.browser.view())
        assert "to base  −0.5200" in lines
        assert lines[lines.index("95 %") + 1] == "  −0.550 to −0.500"


@pytest.mark.parametrize("size", [(100, 30), (80, 24), (60, 20)])
async def test_an_ablation_has_its_difference_from_the_whole_model(run, make_app, size):
    """With its 95 % interval; one whose difference is not known has none."""
    write_sweep(run / "results.zarr", "insertion-layer", sweep_with_intervals(), {})
    app = make_app(run / "results.zarr" / "sweep" / "insertion-layer")
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        view = app.browser.view()
        await press(pilot, "end")
        shown = "\n".join(screen_text(app))
        assert "without gating 2.0200" in shown or size[0] == 100
        if size[0] == 100:
            lines = said(view)
            at = lines.index("without gating")
            assert lines[at + 1 : at + 6] == [
                "loss     2.0200", "to base  −0.4900", "whole    layer 2", "to whole +0.0300",
                "95 %",
            ]  # fmt: skip
            assert lines[at + 6] == "  +0.013 to +0.048"
        await press(pilot, "left")
        shown = "\n".join(screen_text(app))
        assert "to whole" not in shown
        await press(pilot, "y")
        assert float(app.clipboard) == 2.06
        await press(pilot, "left")
        assert view.plot.x == 6  # the last layer: ablations stand right of it


@pytest.mark.parametrize("size", [(100, 50), (80, 24), (60, 20)])
async def test_every_way_of_a_robustness_at_the_cursors_layer(full, make_app, size):
    """r the nearest layers in place of the alignment, m where the ways are farthest apart, z what
    is right of the cursor."""
    found = made_robustness()
    app = open_at(full, make_app, "robustness/engram-vs-moe")
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        view = app.browser.view()
        await press(pilot, "right", "right")
        if size[0] == 100:
            lines = said(view)
            assert lines[:3] == ["layer    3", "ways     4 deeper", "         1 nothing"]
            at = lines.index("▲ CKA, z-scored")
            assert lines[at + 1 : at + 7] == [
                "nearest  5", "  95 %   4.6 to 5.4", "soft     5.0", "  95 %   5.0 to 5.0",
                "shift    +1.67", "  95 %   +1.53 to +1.80",
            ]  # fmt: skip
            at = lines.index("○ Procrustes")
            assert lines[at + 1 : at + 4] == [
                "nearest  not determined", "soft     3.0", "shift    not determined",
            ]  # fmt: skip
        else:
            line = "layer 3  soft alignment  4.0  3.0 to 5.0 over 5 ways"
            assert line in "\n".join(screen_text(app))
        assert view.plot.chart.caption.endswith("soft alignment (k = 5), layer of MoE")
        await press(pilot, "r")
        assert "nearest layer of MoE" in view.plot.chart.caption
        await press(pilot, "y")
        assert float(app.clipboard) == found.depth[0, 2]
        await press(pilot, "z")
        assert view.plot.chart.curves[0].x.tolist() == [3, 4, 5, 6, 7, 8, 9]
        await press(pilot, "z", "r", "m")
        assert view.plot.chart.curves[0].x.tolist() == list(range(1, 10))
        spread = np.ptp(found.alignment, axis=0)
        assert view.plot.x == found.x_layers[int(np.argmax(spread))]


async def test_the_tree_shows_a_series_as_one_entry(full, make_app):
    app = open_at(full, make_app, "cka/later")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        shown = "\n".join(screen_text(app))
        assert shown.count("over-training") == 1
        assert "step 100" not in shown
        await pilot.press("n", "tab", "enter")
        await until(pilot, lambda: "step 1000" in "\n".join(screen_text(app)))


def test_once_of_a_series_prints_a_line_a_checkpoint_then_the_last_map(full, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    browse([full / "results.zarr" / "series" / "over-training"], once=True)
    lines = capsys.readouterr().out.splitlines()
    steps = [n for n, line in enumerate(lines) if re.search(r"^ *step +\d+ ", line)]
    found = [int(re.search(r"step +(\d+)", lines[n])[1]) for n in steps]
    assert found[: len(STEPS)] == list(STEPS)
    row = next(n for n, line in enumerate(lines) if line.split()[:1] == ["1"])
    assert row > steps[len(STEPS) - 1]
    last = full_map(shift=0.4 - STEPS[-1] / 2500).similarity[0]
    assert lines[row].split()[1:] == [f"{value:.2f}"[1:] for value in last.clip(0)]
