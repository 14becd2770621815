"""Small runs with known numbers, and waiting for the app."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from textual.pilot import Pilot

from engramcka.results import CkaMap, LayerDiagnostics, LossSweep
from engramcka.stores import write_cka, write_sweep
from engramcka.stores.results import open_root
from engramcka.tui.app import BrowseApp


def diagonal_map(rows: int = 12, columns: int = 12, **fields: object) -> CkaMap:
    """High on the diagonal, falling off evenly; every value known in advance."""
    y, x = np.indices((rows, columns))
    similarity = 1.0 - np.abs(y / max(rows - 1, 1) - x / max(columns - 1, 1))
    return CkaMap(similarity, **fields)  # type: ignore[arg-type]


def full_map(size: int = 12, shift: float = 0.0) -> CkaMap:
    """A map with everything that a map can have."""
    values = diagonal_map(size, size).similarity * 0.9 - shift
    diagnostics = LayerDiagnostics(
        np.full(size, 0.25), np.full(size, 0.5), np.full(size, 12.5), np.zeros(size),
        np.full(size, 96.0),
    )  # fmt: skip
    return CkaMap(
        values,
        y_label="MoE",
        x_label="Engram",
        ci_low=values - 0.01,
        ci_high=values + 0.02,
        null=np.full((4, size, size), 0.003),
        y_diagnostics=diagnostics,
        x_diagnostics=diagnostics,
        estimator="minibatch",
        batch_size=256,
        n_samples=2048,
        warnings=("MoE layer 3: 71 % of the variance is in one dimension",),
    )


def small_sweep() -> LossSweep:
    """Four layers, two seeds, a baseline far away, an ablation."""
    return LossSweep(
        layers=(1, 2, 4, 6),
        loss=np.array([[2.01, 2.03], [1.98, 2.00], [2.05, 2.07], [2.10, np.nan]]),
        baseline=np.array([2.5, 2.52]),
        seeds=(0, 1),
        label="Engram",
        baseline_label="MoE",
        reference={"layers 2 and 6": 1.97},
        variants={"without gating": 2.02},
    )


EVENTS = (
    {"time": "2026-03-01T10:00:00.000+00:00", "event": "run", "pid": 7, "pieces": 2},
    {"time": "2026-03-01T10:00:01.000+00:00", "event": "start", "stage": "train", "name": "moe",
     "total": 100, "unit": "steps"},
    {"time": "2026-03-01T10:00:41.000+00:00", "event": "done", "stage": "train", "name": "moe",
     "done": 100, "total": 100, "unit": "steps", "seconds": 40.2, "info": "loss 5.53"},
    {"time": "2026-03-01T10:00:42.000+00:00", "event": "progress", "stage": "cka", "name": "a",
     "done": 36, "total": 144, "unit": "cells", "info": ""},
)  # fmt: skip


def write_log(run: Path, events: tuple[dict[str, object], ...] = EVENTS) -> None:
    """A log of these events, last touched long ago."""
    log = run / "log.jsonl"
    log.write_text("".join(json.dumps(event) + "\n" for event in events))
    os.utime(log, (1_000_000, 1_000_000))


def make_run(path: Path) -> Path:
    """A run with two maps, a sweep and a log."""
    path.mkdir(parents=True)
    results = path / "results.zarr"
    open_root(results)
    write_cka(results, "engram-vs-moe", full_map(), {})
    write_cka(results, "later", full_map(shift=0.25), {})
    write_sweep(results, "insertion-layer", small_sweep(), {})
    write_log(path)
    return path


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Wait for something that a worker brings about."""
    for _ in range(400):
        if condition():
            await pilot.pause()
            return
        await pilot.pause(0.02)
    raise AssertionError("it did not happen within 8 seconds")


async def settle(pilot: Pilot[None]) -> None:
    """Wait until what the user wants to see has been read and is on the screen."""
    app = pilot.app
    assert isinstance(app, BrowseApp)
    browser = app.browser

    def shown() -> bool:
        found = browser.found
        if browser.entry is None:
            return bool(browser.runs) or True
        ready = found is not None and found.entry == browser.entry
        return ready and found is not None and found.signature is not None

    await until(pilot, shown)
    if browser.second is not None:
        await until(pilot, lambda: browser.compare.pair is not None)
    await pilot.pause(0.05)
