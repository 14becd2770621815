"""How often the exact estimators read the samples: by arithmetic, and on a pretended GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pretended import PretendedGpu

from engramcka import cka_map
from engramcka.similarity import layers as layers_module
from engramcka.similarity import routes
from engramcka.similarity.reading import (
    PANEL_BYTES,
    PANEL_SHARE,
    PASSES,
    feature_readings,
    fits,
    gram_readings,
    held_layers,
    panel_blocks,
)

GIB = 2**30
N, VALUES = 65_536, 60 * 2560  # samples, and values of one in 30 + 30 layers of width 2,560
FLOAT32, PARTS = 4, 14  # bytes of a centred value, and of the three parts that it is split in
BLOCK = 1024


@pytest.mark.parametrize("stored", [2, 4])
def test_a_gpu_of_80_gib_reads_the_paper_s_layers_once(stored: int) -> None:
    """The goal for `debiased` was at most 3; panels of 256 MiB took 128.5 beside the passes."""
    assert fits(N, stored * VALUES, 79 * GIB)
    before = panel_blocks(PANEL_BYTES, 256, FLOAT32 * VALUES) * 256
    assert gram_readings(N, before) == PASSES + 128.5


@pytest.mark.parametrize(
    ("gib", "held", "readings"), [(24, FLOAT32, 13.5), (24, PARTS, 37.5), (32, FLOAT32, 11.9)]
)
def test_smaller_gpus_read_panels(gib: int, held: int, readings: float) -> None:
    """Three readings would take that all stays there: five passes alone are more."""
    assert not fits(N, 2 * VALUES, gib * GIB)
    panel = BLOCK * panel_blocks(PANEL_SHARE * gib * GIB, BLOCK, held * VALUES)
    assert gram_readings(N, panel) == pytest.approx(readings, abs=0.1)


def test_layers_of_the_feature_route_are_held_together() -> None:
    """A million samples: what is held decides how often x is read."""
    layer = 1_000_000 * 2560 * FLOAT32
    assert held_layers(0.25 * 80 * GIB, layer) == 1
    assert held_layers(0.25 * 80 * GIB, layer // 4) == 7
    assert feature_readings(30, 30, 1) == PASSES + 1 + 16
    assert feature_readings(30, 30, 7) == PASSES + 1 + 3.5


class Counted:
    """An array in a file, which counts the samples that are read."""

    def __init__(self, values: Any) -> None:
        self._values, self.samples = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, rows: slice) -> Any:
        self.samples += len(range(*rows.indices(len(self._values))))
        return self._values[rows]


SAMPLES, WIDTH, LAYERS = 512, 6, 4
LOOKED_AT = 128 + 6  # samples that say a layer's scale, and the farthest 1 %


def count(total_bytes: int, **options: Any) -> tuple[float, int]:
    """How often a sample is read, all layers together, and how often the host waits."""
    random = np.random.default_rng(0)
    base = random.standard_normal((SAMPLES, WIDTH))
    sides = [
        [
            Counted((base + random.standard_normal((SAMPLES, WIDTH))).astype(np.float32))
            for _ in range(LAYERS)
        ]
        for _ in range(2)
    ]
    expected = cka_map(*[[array[:] for array in side] for side in sides], **options)
    for array in sides[0] + sides[1]:
        array.samples = 0
    with PretendedGpu(total_bytes) as gpu:
        found = cka_map(*sides, device="cuda", **options)
    np.testing.assert_allclose(found.similarity, expected.similarity, atol=1e-6)
    assert found.route == expected.route
    samples = sum(array.samples for array in sides[0] + sides[1])
    return samples / (2 * LAYERS * SAMPLES), gpu.waits


STORED = SAMPLES * WIDTH * 2 * LAYERS * 4


@pytest.fixture(params=["gram", "feature"])
def route(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(routes, "gram_operations", lambda _: 0 if request.param == "gram" else 2)
    monkeypatch.setattr(routes, "feature_operations", lambda _: 1)
    monkeypatch.setattr(layers_module, "free_bytes", lambda *_: 0)  # nothing fits into the host
    name: str = request.param
    return name


def test_what_fits_is_read_once(route: str) -> None:
    readings, waits = count(2 * STORED, estimator="debiased")
    assert readings == 1
    assert waits <= 30  # none of them for a block, a row of tiles or a pair of layers


def test_what_does_not_fit_is_read_as_often_as_was_said(route: str) -> None:
    total_bytes = int(1.9 * STORED)
    found, _ = count(total_bytes, estimator="debiased", precision="float32")
    if route == "gram":
        block = SAMPLES // 32
        held = WIDTH * 2 * LAYERS * FLOAT32
        said = gram_readings(SAMPLES, block * panel_blocks(PANEL_SHARE * total_bytes, block, held))
    else:
        layer = SAMPLES * WIDTH * FLOAT32
        said = feature_readings(LAYERS, LAYERS, held_layers(0.25 * total_bytes, layer))
    assert said <= found <= said + LOOKED_AT / SAMPLES
