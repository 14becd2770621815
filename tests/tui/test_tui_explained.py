"""`i`: a map in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_runs import full_map, screen_text, settle, until

from engramcka.tui.explained import about, made_of, why
from engramcka.tui.screens.dialogs import AboutScreen


def words(app) -> str:
    return " ".join(" ".join(screen_text(app)).replace("│", " ").split())


@pytest.mark.parametrize("size", [(100, 30), (80, 24), (60, 20), (40, 12)])
async def test_i_says_what_the_map_is_over_and_why_its_warning_matters(run, make_app, size):
    """The cell first, and at the end of the page the warnings; esc goes back to the map."""
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("right", "i")
        await until(pilot, lambda: isinstance(app.screen, AboutScreen))
        await until(pilot, lambda: "Layer 1 of MoE and layer 2 of Engram: CKA 0.818" in words(app))
        await pilot.press("end")
        await until(pilot, lambda: "cells" in words(app) or "same one in all layers" in words(app))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.browser)
        assert app.browser.map.has_focus


def test_the_estimate_in_words():
    cka = replace(
        full_map(), n_documents=310, n_batches=8, batches="random", pairs="across-documents",
        interval_over="documents", left_out="3 without a token",
    )  # fmt: skip
    said = made_of(cka)
    for part in (
        "2,048 samples (tokens) of 310 documents", "Left out: 3 without a token",
        "8 batches, drawn at random, of at most 256 samples", "without bias in each batch",
        "Only pairs of samples of different documents", "leave out whole documents in turn",
    ):  # fmt: skip
        assert part in said
    assert "not known" in made_of(replace(full_map(), estimator="unknown"))


def test_what_dominates_is_what_the_diagnostics_say():
    page = dict(about(full_map(), 2, 3))
    assert (
        "The farthest 1 % of the samples hold 3% of the row's own HSIC" in page["What dominates it"]
    )
    assert "The row's first direction holds 50% of its variance" in page["What dominates it"]
    assert (
        "does not say"
        in dict(about(replace(full_map(), y_diagnostics=None, x_diagnostics=None), 0, 0))[
            "What dominates it"
        ]
    )


def test_every_warning_that_the_engine_gives_says_why_it_matters():
    """The words by which reasons are found are words of the engine."""
    from pathlib import Path

    from engramcka.similarity import cka, diagnostics
    from engramcka.tui.explained import WHY

    source = " ".join(Path(module.__file__).read_text() for module in (cka, diagnostics))
    for known, reason in WHY:
        assert known in source.replace('"\n                f"', "").replace('"\n            f"', "")
        assert why(f"x {known} y") == reason
    assert why("something else") == ""
