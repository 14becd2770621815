"""Small runs with known numbers, and waiting for the app."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from time import monotonic

import numpy as np
from made_baseline import made_baseline
from made_matrix import made_matrix
from made_robustness import made_robustness
from rich.cells import cell_len
from textual.pilot import Pilot
from textual.widgets import ContentSwitcher, Static

from engramcka.results import (
    AllocationSweep,
    CkaMap,
    GateMap,
    GateText,
    LayerDiagnostics,
    LensCurve,
    LossSweep,
    MemoryAblation,
    SlotSweep,
    TrainingCurve,
)
from engramcka.stores import write_cka, write_sweep
from engramcka.stores.results import open_root, write_result
from engramcka.tui.app import BrowseApp
from engramcka.tui.loading import Broken
from engramcka.tui.widgets.run_tree import RunTree


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
        np.full(size, 96.0), np.zeros(size), np.full(size, 0.03),
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
    {"time": "2026-03-01T10:00:00.000+00:00", "event": "run", "pid": 7, "tasks": 2},
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


def lens_curve(label: str, slope: float, layers: int = 8, **fields: object) -> LensCurve:
    """A divergence that falls evenly to zero, with intervals; entropy and agreement without."""
    left = 1 - np.arange(layers) / (layers - 1)
    kl = slope * left
    return LensCurve(
        tuple(range(1, layers + 1)), kl, kl - 0.2 * left, kl + 0.2 * left, entropy=kl + 1,
        top1=1 - left, label=label, n_tokens=2048, **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def training_curve(end: float) -> TrainingCurve:
    """Thirty losses falling from 5 to ``end``, three validation losses."""
    step = np.arange(10.0, 310.0, 10.0)
    loss = end + (5 - end) * np.exp(-(step - 10) / 80)
    return TrainingCurve(step, loss, step[9::10], loss[9::10] + 0.25)


def allocation() -> AllocationSweep:
    """A U over five shares, two seeds, one training missing."""
    loss = np.array([[2.30, 2.34], [2.20, 2.24], [2.14, 2.16], [2.10, np.nan], [2.24, 2.26]])
    return AllocationSweep(
        np.array([0.2, 0.4, 0.6, 0.8, 1.0]), loss, (0, 1), (4, 8, 12, 16, 20), label="Engram"
    )


TOKENS = ("Only", " Alexander", " the", " Great", " could", " tame", " Buc", "eph", "alus", ".",
          "\n", "Yes", ".")  # fmt: skip


def gates() -> GateMap:
    """Two modules of two streams; every gate of the text known in advance."""
    alpha = np.linspace(0, 1, len(TOKENS))[:, None, None] * np.array([[1.0, 0.5], [0.25, 0.75]])
    types = ("all", "outside", "person")
    means = np.array(
        [[[0.4, 0.2], [0.1, 0.3]], [[0.2, 0.1], [0.05, 0.15]], [[0.9, 0.5], [0.2, 0.7]]]
    )
    return GateMap(
        (2, 6), types, means, means - 0.03, means + 0.02, (1000, 700, 100), (2, 3),
        np.array([[0.6, 0.4], [0.3, 0.7]]), np.array([[0.01, 0.1], [0.02, 0.2]]),
        texts=(GateText(TOKENS, alpha), GateText(("short", " one"), alpha[:2])), label="Engram",
    )  # fmt: skip


def ablation() -> MemoryAblation:
    """A memory that is worth most inside entities."""
    on, off = np.array([2.0, 2.5, 1.9]), np.array([2.25, 3.5, 1.875])
    return MemoryAblation(
        ("all", "inside an entity", "outside"), on, off, off - on - 0.05, off - on + 0.05,
        (1000, 200, 800), "Engram",
    )  # fmt: skip


STEPS = (100, 200, 1000)
LIVE = 0.05  # seconds between two looks at the disk, for tests of what changes there


def write_series(results: Path, steps: tuple[int, ...] = STEPS, size: int = 12) -> None:
    """Maps that grow alike over training; their names do not sort by step."""
    for step in steps:
        value = replace(full_map(size, shift=0.4 - step / 2500), series="over-training", step=step)
        write_cka(results, f"over-training-{step}", value, {})


def slots() -> SlotSweep:
    """Three sizes of memory and two seeds, one training not there yet."""
    loss = np.array([[2.10, 2.12], [2.05, np.nan], [2.01, 2.02]])
    return SlotSweep(
        np.array([1e4, 1e5, 1e6]), loss, np.array([2.15, 2.17]), (0, 1), (5, 6, 9), "Engram"
    )


def make_full_run(path: Path) -> Path:
    """A run with a result of every kind."""
    results = make_run(path) / "results.zarr"
    write_series(results)
    for name, curve in (("moe", lens_curve("MoE", 3.0)), ("engram", lens_curve("Engram", 2.0))):
        write_result(results, name, curve, {})
    for name, end in (("moe", 2.5), ("engram", 2.25)):
        write_result(results, name, training_curve(end), {})
    write_result(results, "u", allocation(), {})
    write_result(results, "tables", slots(), {})
    write_result(results, "engram", gates(), {})
    write_result(results, "engram", ablation(), {})
    write_result(results, "engram-vs-moe", made_robustness(), {})
    write_result(results, "engram-vs-moe", made_baseline(), {})
    known = made_matrix()
    maps = ("cka/engram-vs-moe", *known.maps[1:])  # those of the other pairs are not there
    write_result(results, "cka", replace(known, maps=maps), {})
    return path


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Wait for something that a worker brings about."""
    ends = monotonic() + 60
    while monotonic() < ends:
        if condition():
            await pilot.pause()
            return
        await pilot.pause(0.01)
    raise AssertionError("it did not happen within a minute")


async def settle(pilot: Pilot[None]) -> None:
    """Wait until what the user wants to see has been read and is on the screen."""
    await pilot.pause(0)
    app = pilot.app
    assert isinstance(app, BrowseApp)
    browser = app.browser

    def shown() -> bool:
        found = browser.found
        if browser.entry is None:
            return isinstance(browser.focused, RunTree)
        if found is None or found.entry != browser.entry:
            return False
        if browser.second is not None:
            return browser.compare.pair is not None
        view = "message" if isinstance(found, Broken) else browser.view_of(found.entry.kind).id
        focused = browser.focused is not None or view == "message"
        return focused and browser.query_one(ContentSwitcher).current == view

    await until(pilot, shown)


_TEXT = re.compile(r'<text [^>]*x="([^"]*)" y="([^"]*)" textLength[^>]*>([^<]*)</text>')


def screen_text(app: BrowseApp) -> list[str]:
    """The lines of the screen, out of the picture that Textual makes of it."""
    columns, lines = app.size
    cells = [[" "] * columns for _ in range(lines)]
    for x, y, text in _TEXT.findall(app.export_screenshot(simplify=True)):
        line, at = round((float(y) - 20) / 24.4), round(float(x) / 12.2)  # units of a picture
        for character in unescape(text).replace("\xa0", " ").rstrip("\n"):
            width = cell_len(character)
            if width:
                cells[line][at : at + width] = [character, *[""] * (width - 1)]
            else:
                cells[line][max(0, at - 1)] += character
            at += width
    return ["".join(line) for line in cells]


def toasts(app: BrowseApp) -> list[str]:
    """What the app says at the edge of the screen."""
    return [str(toast.render()) for toast in app.screen.query("Toast").results(Static)]
