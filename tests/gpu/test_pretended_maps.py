"""Maps on a pretended GPU: the CPU's numbers, and how often a batch makes the host wait.

docs/scaling.md states the counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pretended import PretendedGpu
from pretended_cuda import GPU

from engramcka import cka_map, pinned
from engramcka.similarity import device_batches, device_layers
from engramcka.similarity.split_products import is_good

N = 600
DOCUMENTS = np.random.default_rng(1).integers(0, 30, N)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"precision": "float32"},
    {"batches": "in-order"},
    {"groups": DOCUMENTS},
    {"groups": DOCUMENTS, "pairs": "all"},
    {"estimator": "debiased"},
    {"estimator": "debiased", "groups": DOCUMENTS},
    {"estimator": "biased"},
    {"kernel": "rbf"},
    {"kernel": "rbf", "groups": DOCUMENTS},
    {"standardize": "zscore"},
    {"standardize": "drop-massive", "normalize": "rms"},
    {"massive": "drop", "nonfinite": "drop"},
    {"permutations": 5},
]
NUMBERS = ("similarity", "jackknife", "ci_low", "ci_high", "null")
STORED = N * 2 * (24 + 24 + 16 + 24) * 4  # bytes of all layers
LITTLE = int(1.9 * STORED)  # of a GPU that does not hold them in half of its memory
IN_BLOCKS = [{}, {"groups": DOCUMENTS}, {"standardize": "zscore"}, {"permutations": 5},
             {"estimator": "debiased", "precision": "float32"}]  # fmt: skip


def models(n: int = N, widths: tuple[int, ...] = (24, 24, 16, 24)) -> tuple[list[Any], list[Any]]:
    """Of some shared features; one dimension and one sample of theirs are massive."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(n, 24, generator=generator)
    sides: list[list[Any]] = [[], []]
    for number, width in enumerate(2 * widths):
        noise = torch.randn(n, width, generator=generator)
        layer = base[:, :width] + (0.3 + 0.2 * number) * noise
        layer[:, 3] *= 50
        layer[n // 2] *= 40
        sides[number >= len(widths)].append(layer)
    return sides[0], sides[1]


def same_numbers(found: Any, expected: Any) -> None:
    for name in NUMBERS:
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_allclose(one, other, atol=1e-6, err_msg=name)
    for one, other in (
        (found.y_diagnostics, expected.y_diagnostics),
        (found.x_diagnostics, expected.x_diagnostics),
    ):
        for name in ("top_dimension_share", "top_component_share", "effective_rank",
                     "massive_samples", "top_samples_share"):  # fmt: skip
            values = getattr(one, name), getattr(other, name)
            np.testing.assert_allclose(*values, rtol=1e-4, err_msg=name)
    assert found.warnings == expected.warnings


@pytest.mark.parametrize(
    ("total_bytes", "options"),
    [(80 << 30, options) for options in OPTIONS] + [(LITTLE, options) for options in IN_BLOCKS],
    ids=lambda value: "-".join(value) or "plain" if isinstance(value, dict) else str(value),
)
def test_a_map_has_the_cpu_s_numbers(total_bytes: int, options: dict[str, Any]) -> None:
    y, x = models()
    if options.get("nonfinite") == "drop":
        y[1][17, 3] = torch.nan
    expected = cka_map(y, x, batch_size=100, **options)
    with PretendedGpu(total_bytes) as gpu:
        found = cka_map(y, x, batch_size=100, device="cuda", **options)
    assert gpu.kernels > 100
    same_numbers(found, expected)


@pytest.mark.parametrize("total_bytes", [80 << 30, LITTLE], ids=["resident", "in blocks"])
def test_layers_of_several_dtypes(total_bytes: int) -> None:
    y, x = models()
    y = [y[0].half(), y[1].bfloat16(), y[2].half(), y[3]]
    for kind in (torch.float32, torch.float64):
        x = [layer.to(kind) for layer in x]
        expected = cka_map(y, x, batch_size=100)
        with PretendedGpu(total_bytes):
            found = cka_map(y, x, batch_size=100, device="cuda")
        same_numbers(found, expected)


def test_layers_in_several_parts_and_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_batches, "STRIP", 32)
    monkeypatch.setattr(device_batches, "MOST_BYTES", 3 * 103 * 24 * 4)  # three layers
    y, x = models()
    for precision in ("highest", "float32"):
        expected = cka_map(y, x, batch_size=100, precision=precision)
        with PretendedGpu():
            found = cka_map(y, x, batch_size=100, precision=precision, device="cuda")
        same_numbers(found, expected)


def test_pinned_memory_is_used_again_once_its_copy_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device_layers, "PIECE_BYTES", 2 * 100 * 24 * 4)  # two layers
    monkeypatch.setattr(device_layers, "_THREADED_BYTES", 0)
    y, x = models()
    expected = cka_map(y, x, batch_size=100)
    with PretendedGpu(LITTLE) as gpu:
        found = cka_map(y, x, batch_size=100, device="cuda")
        pieces = [one for one in gpu.pinned.values() if one.dtype == torch.uint8]
    same_numbers(found, expected)
    assert len(pieces) <= 4 * pinned.SLOTS  # of each model; larger ones than the first were


def per_batch(batch_size: int, **options: Any) -> dict[str, float]:
    """What a batch of 30 + 30 layers costs, by the difference between 6 batches and 3."""
    generator = torch.Generator().manual_seed(0)
    n = 6 * batch_size
    sides = [
        [torch.randn(n, 24, generator=generator).bfloat16() for _ in range(30)] for _ in range(2)
    ]
    found = []
    total_bytes = options.pop("total_bytes", 80 << 30)
    with PretendedGpu(total_bytes) as gpu:
        assert is_good(GPU)  # which waits, once
        for count in (n // 2, n):
            gpu.reset()
            cka_map(
                *[[layer[:count] for layer in side] for side in sides],
                batch_size=batch_size, device="cuda", **options,
            )  # fmt: skip
            assert not [way for way in gpu.copied if "pageable" in way and "gpu" in way]
            found.append({"waits": gpu.waits, "kernels": gpu.kernels, **gpu.copied})
    return {name: (found[1][name] - small) / 3 for name, small in found[0].items()}


@pytest.mark.parametrize("total_bytes", [80 << 30, 8 << 20], ids=["resident", "in blocks"])
@pytest.mark.parametrize("batch_size", [100, 1024])
def test_a_batch_waits_once_and_starts_60_kernels(batch_size: int, total_bytes: int) -> None:
    found = per_batch(batch_size, batches="in-order", total_bytes=total_bytes)
    assert found["waits"] <= 1, found
    assert found["kernels"] <= 60, found
    values = 60 * batch_size * 24 * 2  # each layer once, in its own dtype
    numbers = 2 * batch_size * 8  # of the samples, where they are picked there
    assert values <= found["to gpu"] <= values + numbers
