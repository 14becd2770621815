"""The GPU's path on a pretended GPU: the CPU's numbers, and bounded waits and kernels a batch.

What a real one would show in time is shown here in counts, which do not depend on the machine.
docs/scaling.md states them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import tiny
from made_samples import numbered_samples
from pretended import PretendedGpu, on_gpu
from pretended_cuda import GPU

from engramcka.data import Document, Passages, train_tokenizer
from engramcka.extraction import extract
from engramcka.extraction.batching import CUT, PACKED, Plan
from engramcka.extraction.forward import ForwardPass
from engramcka.extraction.residual_stream import ResidualStream
from engramcka.extraction.rows import Chunk, ToHost
from engramcka.lens import LensReadout
from engramcka.models import build_model, require_stream
from engramcka.models.blocks import capture_points

COUNT = 120


def llama() -> Any:
    return tiny("llama", 300)


@pytest.fixture(scope="module")
def passages() -> Passages:
    random = np.random.default_rng(0)
    lengths = random.integers(4, 60, COUNT)
    last = (random.uniform(size=COUNT) * lengths).astype(np.int64)
    number = np.arange(COUNT)
    ids = tuple(random.integers(3, 280, length) for length in lengths.tolist())
    return Passages(ids, number, np.maximum(last - number % 2, 0), last, numbered_samples(COUNT))


def test_what_is_on_two_devices_is_refused() -> None:
    with PretendedGpu() as gpu:
        here = torch.ones(3).to(GPU)
        assert here.device == GPU
        with pytest.raises(RuntimeError, match="same device"):
            here + torch.ones(3)
        with pytest.raises(RuntimeError, match="same device as the indexed tensor"):
            torch.ones(3)[here.long()]
        with pytest.raises(TypeError, match="to numpy"):
            here.numpy()
        assert (here + 1).cpu().tolist() == [2, 2, 2]
        assert dict(gpu.copied) == {"to gpu, pageable": 12, "to host, pageable": 12}
        before = gpu.waits
        assert float(here.sum()) == 3
        pinned = torch.ones(3).pin_memory().to(GPU, non_blocking=True)
        assert gpu.waits == before + 1, gpu.places
        assert pinned[pinned > 0].shape == (3,)
        assert gpu.waits == before + 2


def run(model: Any, passages: Passages, path: Path) -> Any:
    return extract(
        model, passages, path, pad_id=0, attributes={}, inputs={}, on_rows=lambda done, total: None
    )


def test_extraction_gives_the_cpu_s_numbers(passages: Passages, tmp_path: Path) -> None:
    expected = run(llama(), passages, tmp_path / "cpu.zarr")
    with PretendedGpu() as gpu:
        found = run(on_gpu(llama()), passages, tmp_path / "gpu.zarr")
    for number, layer in expected.layers.items():
        apart = np.abs(found.layers[number][0:COUNT] - layer[0:COUNT]).max()
        assert apart < 1e-5, number
    assert gpu.attention["masked"]
    assert found.attributes["batches"] == "packed"


GRAFTED = "engram-tiny-hyper"
KERNELS = {
    "llama": 50,
    "qwen3_moe": 75,
    "deepseek_v3": 95,
    "engramcka_hyper_deepseek": 380,
    GRAFTED: 400,
}
"""Most that a batch of extraction may start, a block; docs/scaling.md states them."""

LENS_KERNELS = 50  # more, a block


def grafted() -> Any:
    """Hyper-connections, experts and Engram modules together."""
    words = "".join(chr(97 + number % 26) + " " * (number % 5 == 0) for number in range(3000))
    tokenizer = train_tokenizer([Document("a", words)], 300)
    return build_model(GRAFTED, None, tokenizer, seed=0).eval()


@pytest.mark.parametrize(("plan", "is_read"), [(PACKED, False), (PACKED, True), (CUT, False)])
@pytest.mark.parametrize("family", KERNELS)
def test_a_batch_of_extraction_waits_once_at_most(
    family: str, plan: Plan, is_read: bool, passages: Passages
) -> None:
    """For the rows of the batch before, or where transformers looks at positions; not for both."""
    model: Any = grafted() if family == GRAFTED else tiny(family, 300)
    with PretendedGpu() as gpu:
        model = on_gpu(model)
        points = require_stream(model, capture_points(model), passages.ids[0], is_chain=True)
        readout = LensReadout(model, passages.ids[0]) if is_read else None
        forward = ForwardPass(model, passages, ResidualStream(points), 0, readout)
        forward.budget = 512
        forward.choose_plan(points)
        assert forward.plan == (CUT if family == GRAFTED else PACKED)  # its n-grams look back
        forward.plan = CUT if family == GRAFTED else plan
        chunk, batches = Chunk(COUNT, sorted(points)), 0
        gpu.reset()
        for rows in forward.run(0, COUNT):
            chunk.add(rows)
            batches += 1
        hidden, read = chunk.gather()
    assert batches > 3
    assert gpu.waits <= batches + 1, gpu.places  # one more, for the last rows
    most = KERNELS[family] + is_read * LENS_KERNELS
    assert gpu.kernels <= most * len(points) * batches
    attention = "masked" if forward.plan == PACKED else "causal"
    assert gpu.attention == {attention: len(points) * batches}
    assert not [way for way in gpu.copied if "pageable" in way]
    assert set(hidden) == set(points)
    assert bool(read) == is_read


def test_pinned_memory_is_bounded_where_every_token_is_wanted() -> None:
    """Rows that fit one buffer come in one copy, others in pieces, and all of them as they are."""
    generator = torch.Generator().manual_seed(0)
    batches = [
        {layer: torch.randn(rows, 40, generator=generator) for layer in (1, 2, 5)}
        for rows in (3, 500, 4, 5, 700, 6, 2)
    ]
    with PretendedGpu() as gpu:
        to_host, found, before = ToHost(buffer_bytes=4096), [], None
        for number, batch in enumerate(batches):
            read = {"sums": batch[1].sum(1, keepdim=True), "first": batch[2][:, :2]}
            there = [
                {key: part.pin_memory().to(GPU) for key, part in parts.items()}
                for parts in (batch, read)
            ]
            gpu.reset()
            rows = to_host(torch.arange(len(batch[1])), *there)
            small = len(batch[1]) < 10
            assert (gpu.waits == 0) == small
            if small:
                assert gpu.copied["to host"] == 4 * len(batch[1]) * (3 * 40 + 3)
            found += [torch.equal(*pair) for pair in (before or {}).values()]
            before = {
                (number, key): (rows.hidden[key], expected) for key, expected in batch.items()
            } | {(number, key): (rows.readouts[key], read[key]) for key in read}
        assert all(found)
        assert len(found) == 5 * (len(batches) - 1)
        pinned = sum(part.nbytes for part in gpu.pinned.values() if part.dtype == torch.uint8)
    assert 0 < pinned <= 3 * 4096 + 3 * 2048  # of those that grew, the smaller ones before too


def test_memory_of_a_failed_pass_is_let_go_before_the_cache_is_emptied(passages: Passages) -> None:
    import weakref

    held: list[Any] = []
    left: list[bool] = []
    with PretendedGpu() as gpu:
        model = on_gpu(llama())
        real = model.forward

        def limited(input_ids: torch.Tensor, **options: Any) -> Any:
            if input_ids.numel() > 300:
                large = input_ids + 0
                held.append(weakref.ref(large))
                raise RuntimeError("CUDA error: out of memory")
            return real(input_ids=input_ids, **options)

        def empty_cache() -> None:
            left.append(any(one() is not None for one in held))

        model.forward = limited
        torch.cuda.empty_cache = empty_cache
        forward = ForwardPass(model, passages, ResidualStream(capture_points(model)), 0)
        rows = [rows.index for rows in forward.run(0, COUNT)]
    assert sorted(torch.cat(rows).tolist()) == list(range(COUNT))
    assert held
    assert left == [False] * len(held)
    assert gpu.waits


def test_a_bandwidth_is_of_pairs_of_different_samples() -> None:
    from engramcka.similarity.layers import Layers
    from engramcka.similarity.prepare import median_distances

    values = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    pairs = torch.tril_indices(8, 8, -1)
    distances = (values.double()[pairs[0]] - values.double()[pairs[1]]).norm(dim=1)
    with PretendedGpu():
        layers = Layers.from_arrays([values], "y")
        found = median_distances(layers, torch.empty(0, device=GPU), seed=0)
    assert float(found.inner[0]) == pytest.approx(float(distances.median()), rel=1e-12)
