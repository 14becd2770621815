"""What is copied is what is under the cursor, and the toast says which cell, layer or row it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_runs import full_map, make_run, settle, toasts, until

from engramcka.stores import write_cka

SIZES = [(100, 30), (80, 24), (60, 20)]
A = full_map().similarity
B = full_map().similarity.T[::-1] * 0.5 + 0.125  # another number in every cell


@pytest.fixture
def two(run):
    """A run whose second map differs from the first in every cell, and in no simple way."""
    write_cka(run / "results.zarr", "later", replace(full_map(), similarity=B), {})
    return run


async def press(pilot, *keys):
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


async def said(pilot, words):
    """What the app says at the edge of the screen comes to be there."""
    await until(pilot, lambda: any(words in toast for toast in toasts(pilot.app)))


@pytest.mark.parametrize("size", SIZES)
async def test_a_comparison_copies_both_values_then_their_difference(two, make_app, size):
    app = make_app(two)
    async with app.run_test(size=size, notifications=True) as pilot:
        await settle(pilot)
        await press(pilot, "d", "right", "right", "up", "y")
        assert [float(text) for text in app.clipboard.split("\t")] == [A[1, 2], B[1, 2]]
        values = f"{float(A[1, 2])!r}  {float(B[1, 2])!r}"
        await said(pilot, f"Copied A and B row 2 column 3: {values}")
        await press(pilot, "d", "right", "y")
        difference = float(A[1, 3] - B[1, 3])
        assert float(app.clipboard) == difference
        await said(pilot, f"Copied A−B row 2 column 4: {difference!r}")
        await press(pilot, "Y")
        numbers, values = app.clipboard.splitlines()
        assert numbers.split("\t")[1:] == [str(n) for n in range(1, 13)]
        assert np.array_equal([float(v) for v in values.split("\t")[1:]], A[1] - B[1])
        await press(pilot, "ctrl+y")
        rows = [line.split("\t")[1:] for line in app.clipboard.splitlines()[1:]]
        assert np.array_equal(np.array(rows, dtype=float), A - B)
        await press(pilot, "escape", "y")
        assert float(app.clipboard) == A[1, 3]
        await said(pilot, "Copied row 2 column 4")


async def test_rows_and_tables_of_both_maps(two, make_app):
    app = make_app(two)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        await press(pilot, "d", "up", "Y")
        first, second = app.clipboard.rstrip().split("\n\n")
        for text, values in ((first, A), (second, B)):
            assert [float(v) for v in text.splitlines()[1].split("\t")[1:]] == list(values[1])
        assert "A and B row 2" in toasts(app)[-1]
        await press(pilot, "ctrl+y")
        tables = app.clipboard.rstrip().split("\n\n")
        for text, values in zip(tables, (A, B), strict=True):
            rows = [line.split("\t")[1:] for line in text.splitlines()[1:]]
            assert np.array_equal(np.array(rows, dtype=float), values)


async def test_a_layer_that_the_second_map_has_not_is_not_copied_from_another(run, make_app):
    odd = replace(full_map(6), y_layers=(1, 3, 5, 7, 9, 11), x_layers=(1, 3, 5, 7, 9, 11))
    write_cka(run / "results.zarr", "later", odd, {})
    app = make_app(run)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        await press(pilot, "d", "up", "up", "right", "right", "y")
        both = [float(text) for text in app.clipboard.split("\t")]
        assert both == [A[2, 2], odd.similarity[1, 1]]  # layer 3 of both
        await press(pilot, "right", "y")
        assert float(app.clipboard) == A[2, 3]
        assert "B has no such layers" in toasts(app)[-1]


async def test_a_second_comparison_begins_where_the_cursor_is(two, make_app):
    make_run(two.parent / "other")
    app = make_app(two, two.parent / "other")
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await press(pilot, "d", "enter", "up", "up", "n", "home", "right", "G", "d", "enter")
        assert app.browser.compare.cursor == (0, 1)


@pytest.mark.parametrize(
    ("result", "keys", "name"),
    [
        ("lens/engram", ("right", "right"), "KL of Engram at layer 3"),
        ("training/moe", ("right",), "loss of moe at step 20"),
        ("sweep/insertion-layer", ("right",), "mean loss at layer 2"),
        ("sweep/insertion-layer", ("end",), "loss without gating"),
        ("allocation/u", ("m",), "mean loss at rho 0.8"),
        ("slots/tables", (), "mean loss at slots"),
        ("robustness/engram-vs-moe", ("right",), "soft alignment by CKA at layer 2"),
        ("matrix/cka", (), "similarity of MoE and MoE, seed 1"),
        ("gates/engram", ("right",), "gate of token 2 Alexander"),
        ("gates/engram", ("t", "down"), "outside"),
        ("memory/engram", ("down",), "inside an entity"),
    ],
)
async def test_the_toast_says_what_was_copied(full, make_app, result, keys, name):
    app = make_app(full / "results.zarr" / result)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        await press(pilot, *keys, "y")
        (toast,) = toasts(app)
        assert f"Copied {name}" in toast
        assert repr(float(app.clipboard)) in toast
