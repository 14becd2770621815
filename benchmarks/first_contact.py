"""The first minutes on a GPU: is every number right there, where the host waits, how fast it is.

    python benchmarks/first_contact.py            # under ten minutes on one large GPU
    python benchmarks/first_contact.py --small    # the same steps, tiny, on a CPU

Each step is a process of its own with a limit in seconds; none stops the next. What is printed is
the evidence; an error above its bound ends in "ABOVE", a step that failed in "FAILED", and the exit
code is 1 if there was either. Needs the repository, and a torch that sees the GPU.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gpu
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engramcka import cka_map
from engramcka.extraction import extract
from engramcka.extraction.forward import ForwardPass
from engramcka.extraction.residual_stream import ResidualStream
from engramcka.extraction.rows import Chunk
from engramcka.lens import LensReadout
from engramcka.models.blocks import capture_points
from engramcka.similarity.split_products import on_tensor_cores

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
APART = {torch.float32: 1e-4, torch.bfloat16: 5e-2}  # share that layers may differ by from a CPU's
DTYPES = tuple(APART)
BOUND = 1e-6  # of similarity


def bounded(name: str, error: float, bound: float) -> None:
    """Print an error, and whether it is above its bound."""
    above = "" if error <= bound else f"  ABOVE {bound:.0e}"
    print(f"{name}: {error:.1e}{above}", flush=True)


def where_it_waits(job: Callable[[], Any]) -> str:
    """Places where the host waited for the GPU, as torch tells, with how often."""
    if DEVICE == "cpu":
        job()
        return "no GPU"
    found: Counter[str] = Counter()

    def show(message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
        found[f"{'/'.join(filename.split('/')[-2:])}:{lineno}"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        torch.cuda.set_sync_debug_mode("warn")
        try:
            job()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return ", ".join(f"{place} {count} x" for place, count in found.most_common(12)) or "nowhere"


def machine(small: bool) -> None:
    """Versions, product rates, and copies between host and device."""
    names = ("torch", "transformers", "zarr", "numpy")
    print({name: importlib.metadata.version(name) for name in names}, sys.version.split()[0])
    print(torch.cuda.get_device_properties(0) if DEVICE == "cuda" else "no GPU")
    size = 512 if small else 8192
    for dtype in (torch.float32, torch.bfloat16):
        rate = gpu.product_rate(DEVICE, dtype, size)
        print(f"products in {dtype}: {rate / 1e12:.2f} TFLOP/s")
    print("float32 by bfloat16 parts is trusted:", on_tensor_cores(torch.device(DEVICE)))
    if DEVICE == "cpu":
        return
    host = torch.empty(1 << 28, dtype=torch.uint8)
    there = host.to(DEVICE)
    for name, memory in {"pageable": host, "pinned": host.pin_memory()}.items():
        for way, job in (
            ("to the device", partial(there.copy_, memory)),
            ("to the host", partial(memory.copy_, there)),
        ):
            seconds = min(gpu.timed(job, DEVICE) for _ in range(3))
            print(f"{name} memory {way}: {len(host) / seconds / 1e9:.1f} GB/s")


def maps(small: bool) -> None:
    """`cka_map` with all options there against float64 on the CPU, and where the host waits."""
    count, n, width = (2, 200, 24) if small else (6, 4096, 512)
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(n, width, generator=generator)

    def noisy(size: int) -> list[torch.Tensor]:
        return [
            base[:, :size] + 0.3 * step * torch.randn(n, size, generator=generator)
            for step in range(1, count + 1)
        ]

    y, x = noisy(width), noisy(width // 2)
    options: list[dict[str, Any]] = [
        {}, {"estimator": "debiased"}, {"estimator": "biased"}, {"kernel": "rbf"},
        {"permutations": 2}, {"standardize": "zscore"}, {"massive": "drop"}, {"batch_size": 20},
        {"groups": np.arange(n) // 3}, {"precision": "float32"},
    ]  # fmt: skip
    for dtype in DTYPES[: 1 if small else 2]:
        for chosen in options:
            sides = [[layer.to(dtype) for layer in side] for side in (y, x)]
            wide = [[layer.double() for layer in side] for side in sides]
            exact = cka_map(*wide, **chosen)
            found = cka_map(*sides, device=DEVICE, **chosen)
            said = "documents apart" if "groups" in chosen else chosen or "plain"
            error = float(np.abs(found.similarity - exact.similarity).max())
            bounded(f"map, {dtype}, {said}, {found.route}", error, BOUND)
    there = [layer.to(DEVICE) for layer in y]
    print("a map waits at:", where_it_waits(lambda: cka_map(there, there)))


def models() -> Iterator[tuple[str, Any, int]]:
    """Name, model on the CPU, vocabulary."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=256, intermediate_size=512, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    yield "llama", LlamaForCausalLM(config).eval(), 512
    for name, host in (("moe-tiny", False), ("engram-tiny-hyper", False)):
        yield name, gpu.build(name, "cpu", host), 4096


def extraction(small: bool) -> None:
    """Extraction with a lens there against the CPU's, and where the host waits."""
    for name, model, vocabulary in models():
        passages = gpu.synthetic(16 if small else 2048, vocabulary)
        for dtype in DTYPES[: 1 if small else 2]:
            cast, stores = copy.deepcopy(model).to(dtype), []
            with tempfile.TemporaryDirectory() as folder:
                for number, device in enumerate(("cpu", DEVICE)):
                    cast = cast.to(device)
                    stores.append(
                        extract(
                            cast, passages, Path(folder) / f"{number}.zarr", pad_id=0,
                            attributes={}, inputs={}, on_rows=lambda *_: None,
                            readout=LensReadout(cast, passages.ids[0]),
                        )
                    )  # fmt: skip
                apart = max(distance(*stores, layer) for layer in stores[0].layers)
            bounded(f"extraction, {name}, {dtype}", apart, APART[dtype])
        points = capture_points(cast)
        forward = ForwardPass(cast, passages, ResidualStream(points), 0)
        forward.choose_plan(points)
        waits = where_it_waits(partial(run, forward, len(passages.ids)))
        print(f"extraction of {name} waits at: {waits}")


def distance(one: Any, other: Any, layer: int) -> float:
    """How far two stores' hidden states are apart, as a share of the first's."""
    a, b = (values(store.layers[layer]) for store in (one, other))
    return float((a - b).norm() / a.norm())


def values(layer: Any) -> torch.Tensor:
    """(samples, width) float64 of a layer."""
    return torch.from_numpy(np.asarray(layer[0 : len(layer)]).astype(np.float64))


def run(forward: ForwardPass, count: int) -> int:
    """Go through all samples; how many rows came."""
    chunk, rows = Chunk(count), 0
    for batch in forward.run(0, count):
        chunk.add(batch)
        rows += len(batch.index)
    chunk.gather()
    return rows


def memory(small: bool) -> None:
    """A batch that does not fit is halved until it does."""
    model = gpu.build("moe-tiny", DEVICE, False)
    passages = gpu.synthetic(16 if small else 2048, 4096)
    forward = ForwardPass(model, passages, ResidualStream(capture_points(model)), 0)
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        room = torch.cuda.memory_reserved() + (150 << 20)
        torch.cuda.set_per_process_memory_fraction(room / total)
    rows = run(forward, len(passages.ids))
    print(f"memory: {rows} rows, of batches under {forward.too_large} tokens")


def sizes(small: bool) -> None:
    """The paper's sizes, see gpu.py."""
    script = str(Path(gpu.__file__))
    options = ["--small", "--models", "moe-tiny"] if small else ["--host"]
    subprocess.run([sys.executable, script, *options], check=True)


STEPS = {machine: 30, maps: 100, extraction: 120, memory: 30, sizes: 300}  # seconds, on a GPU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="tiny, for a CPU")
    parser.add_argument("--step", choices=[step.__name__ for step in STEPS])
    options = parser.parse_args()
    if options.step:
        next(step for step in STEPS if step.__name__ == options.step)(options.small)
        return
    failed = False
    for step, limit in STEPS.items():
        print(f"\n## {step.__name__}: {step.__doc__}\n", flush=True)
        begun = time.perf_counter()
        command = [sys.executable, __file__, "--step", step.__name__]
        command += ["--small"] if options.small else []
        most = limit if DEVICE == "cuda" else None
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=most)
            out, bad = done.stdout, done.returncode != 0
        except subprocess.TimeoutExpired as stopped:
            out, bad = (stopped.stdout or b"").decode(), True
        ended = "FAILED" if bad else "done"
        print(out, end="")
        print(f"{ended} after {time.perf_counter() - begun:.0f} s", flush=True)
        failed = failed or bad or "ABOVE" in out
    sys.exit(failed)


if __name__ == "__main__":
    main()
