"""A map by another measure than CKA, as it is shown and by its keys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from small_runs import full_map, screen_text, settle, toasts, until

from engramcka.results import SimilarityMap
from engramcka.stores.results import write_result


def map_of(measure: str) -> SimilarityMap:
    """Where the cell that the cursor is on first is 0.812."""
    known = full_map()
    sides = [
        replace(side, effective_rank=np.full(12, np.nan))
        for side in (known.y_diagnostics, known.x_diagnostics)
    ]
    values = known.similarity.copy()
    values[0, 0] = 0.812
    return SimilarityMap(
        values, measure=measure, y_label="MoE", x_label="Engram", neighbours=10,
        y_diagnostics=sides[0], x_diagnostics=sides[1],
    )  # fmt: skip


async def test_a_long_name_stands_in_the_header_and_not_cut_in_the_panel(run, make_app):
    write_result(run / "results.zarr", "near", map_of("mutual-knn"), {})
    write_result(run / "results.zarr", "ranks", map_of("rsa"), {})
    app = make_app(run / "results.zarr" / "map" / "near")
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        shown = "\n".join(screen_text(app))
        assert "Mutual k-NN" in shown
        assert "value    0.812" in shown
        assert "nan" not in shown  # the measure has no effective rank
        assert "top dim  25% / 25%" in shown
        await pilot.press("enter")
        await until(pilot, lambda: bool(toasts(app)))
        assert "Only of CKA is a cell a sum over samples." in toasts(app)[0]
        await pilot.press("n")
        await settle(pilot)
        assert "RSA      0.812" in "\n".join(screen_text(app))
