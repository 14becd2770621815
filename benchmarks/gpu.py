"""The paper's own sizes on one GPU: two 27B extractions, the map, and the CKA engine.

    python benchmarks/gpu.py [--samples 16384] [--models moe-27b engram-27b] [--host engram-40b]
    python benchmarks/gpu.py --small          # the same path on tiny models, on a CPU, in a minute

Builds each model with random weights in bfloat16 directly on the device (those of ``--host`` with
their Engram tables in host memory), one after the other; runs synthetic sentences of the lengths of
Few-NERD's through it, first bare and then with the last token of each stored; computes the map;
then the CKA engine alone at 65,536 samples. Needs the repository and a CUDA torch with transformers
and zarr. Prints seconds, tokens a second, the share of the device's own bfloat16 matrix product
rate, overhead over the bare forward pass, bytes written and peak memory.
"""

from __future__ import annotations

import argparse
import gc
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights

from engramcka import cka_map
from engramcka.data import Passages, Samples
from engramcka.data.samples import SampleRow
from engramcka.extraction import extract
from engramcka.models.build import count_parameters, meta_model
from engramcka.models.engram import EngramForCausalLM, EngramModelConfig
from engramcka.models.presets import find_preset, preset_config
from engramcka.similarity.split_products import PARTS, on_tensor_cores
from engramcka.stores import open_activations

LENGTHS = (3.3, 0.5, 4, 128)  # log-normal: mean and deviation of the logarithm; shortest, longest
TRIED = 64  # tokens of a batch that only tries the model, at most
STD = 0.02  # of the random weights


def build(name: str, device: str, host: bool) -> PreTrainedModel:
    """A preset with random bfloat16 weights, made where they stay."""
    preset = find_preset(name)
    vocabulary = preset.vocab_size
    config = preset_config(name, vocabulary)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device), no_init_weights():
            if preset.engram is None:
                model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
            else:
                engram = preset.engram.model_copy(update={"host_memory": host})
                grafted = EngramModelConfig(
                    text_config=config,
                    engram=engram.model_dump(mode="json"),
                    n_canonical_ids=vocabulary,
                )
                model = EngramForCausalLM(grafted)
                model.hashing.token_map.copy_(torch.arange(vocabulary))
    finally:
        torch.set_default_dtype(torch.float32)
    generator = {place: torch.Generator(place).manual_seed(0) for place in {device, "cpu"}}
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, STD, generator=generator[parameter.device.type])
            else:
                parameter.fill_(1.0)
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("e_score_correction_bias"):
                buffer.zero_()
    keep = tuple(getattr(type(model), "_keep_in_fp32_modules_strict", None) or ())
    backbone = getattr(model, "backbone", model)
    keep += tuple(getattr(type(backbone), "_keep_in_fp32_modules_strict", None) or ())
    for part, module in model.named_modules():
        if part.endswith(keep) and keep:
            module.float()
    return model.eval()


def synthetic(count: int, vocabulary: int) -> Passages:
    """One entity a sentence, at a random token."""
    random = np.random.default_rng(0)
    mean, deviation, shortest, longest = LENGTHS
    lengths = np.exp(random.normal(mean, deviation, count)).astype(np.int64)
    lengths = lengths.clip(shortest, longest)
    last = (random.uniform(size=count) * lengths).astype(np.int64)
    number = np.arange(count)
    names = number.astype(str)
    columns = {"document": names, "entity": names, "kind": np.full(count, "synthetic")}
    samples = Samples(**{field: columns.get(field, number) for field in SampleRow._fields})
    ids = tuple(random.integers(0, vocabulary, length) for length in lengths.tolist())
    return Passages(ids, number, last, last, samples)


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(work: Callable[[], object], device: str) -> float:
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def product_rate(device: str, dtype: torch.dtype, size: int) -> float:
    """Operations a second of a square matrix product, the best of several."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    torch.mm(a, b)
    return 2 * size**3 / min(timed(lambda: torch.mm(a, b), device) for _ in range(5))


@torch.no_grad()
def bare(model: PreTrainedModel, batches: list[dict[str, Any]]) -> None:
    """The forward pass over batches as extraction made them, without the head; nothing is kept."""
    base = getattr(model, "backbone", model)
    body = model if base is not model else model.get_decoder()
    options = {"logits_to_keep": 1} if body is model else {}
    for batch in batches:
        body(**batch, **options)


def extracted(model: PreTrainedModel, passages: Passages, path: Path) -> list[dict[str, Any]]:
    """Extract into a store; what the model was called with, batch by batch."""
    seen: list[dict[str, Any]] = []
    handle = model.register_forward_pre_hook(
        lambda module, args, given: seen.append(given), with_kwargs=True
    )
    extract(model, passages, path, pad_id=0, attributes={}, inputs={}, on_rows=lambda *_: None)
    handle.remove()
    return [given for given in seen if given["input_ids"].numel() > TRIED]


def extraction(
    name: str, host: bool, passages: Passages, folder: Path, device: str, peak_rate: float
) -> Path:
    """Build, run bare, extract; print a row of the table."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    model = build(name, device, host)
    synchronize(device)
    built = time.perf_counter() - start
    batches = extracted(model, passages, folder / "warm.zarr")
    shutil.rmtree(folder / "warm.zarr")
    bare_seconds = timed(partial(bare, model, batches), device)
    tokens = sum(batch["input_ids"].numel() for batch in batches)
    del batches
    path = folder / f"{name}.zarr"
    seconds = timed(lambda: extracted(model, passages, path), device)
    active = count_parameters(meta_model(name, find_preset(name).vocab_size)).active
    head = find_preset(name).vocab_size * model.config.get_text_config().hidden_size
    operations = 2 * (active - head) * tokens
    written = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    device_peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    host_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    overhead = seconds / bare_seconds - 1
    print(
        f"{name}{' (host tables)' if host else ''}: build {built:.1f} s, "
        f"bare {bare_seconds:.2f} s, extract {seconds:.2f} s, overhead {overhead:+.1%}\n"
        f"    {tokens / seconds:,.0f} tokens/s, {operations / bare_seconds / peak_rate:.1%} of the "
        f"product rate, {written / 2**30:.2f} GiB written, peak {device_peak:.1f} GiB on the "
        f"device, {host_peak:.1f} GiB on the host",
        flush=True,
    )
    return path


def the_map(paths: list[Path], device: str) -> None:
    """The map of the first two models, or of one with itself; minibatch and debiased."""
    y, x = (list(open_activations(path).layers.values()) for path in (paths[0], paths[:2][-1]))
    for estimator in ("minibatch", "debiased"):
        seconds = timed(lambda kind=estimator: cka_map(y, x, estimator=kind, device=device), device)
        print(f"map, {estimator:9} {len(y)} x {len(x)} layers, n = {len(y[0])}: {seconds:.2f} s")


def engine(samples: int, layers: int, width: int, device: str) -> None:
    """The engine alone, debiased, with its error against float64 on fewer samples."""
    generator = torch.Generator(device).manual_seed(0)
    sides = [
        [torch.randn(samples, width, generator=generator, device=device) for _ in range(layers)]
        for _ in range(2)
    ]
    grams = 2 * layers * samples**2 * width  # half of 2 n^2 d a layer, both sides
    pairs = samples**2 * layers**2
    for precision in ("highest", "float32"):
        size = 8192 if device == "cuda" else 1024
        rate = product_rate(device, torch.float32, size)
        if precision == "highest" and on_tensor_cores(torch.device(device)):
            rate = product_rate(device, torch.bfloat16, size) / (PARTS - 1)
        seconds = timed(
            lambda kind=precision: cka_map(*sides, estimator="debiased", precision=kind), device
        )
        few = [[layer[: min(2048, samples)] for layer in side[:4]] for side in sides]
        exact = cka_map(*[[layer.double() for layer in side] for side in few], estimator="debiased")
        found = cka_map(*few, estimator="debiased", precision=precision)
        error = np.abs(found.similarity - exact.similarity).max()
        print(
            f"engine, debiased, precision {precision}, n = {samples}, {layers} + {layers} layers "
            f"of width {width}:\n    {seconds:.2f} s, error {error:.1e}, "
            f"{(grams + pairs) / seconds / rate:.1%} of the product rate {rate / 1e12:.1f} TFLOP/s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=16_384)
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--host", nargs="*", default=["engram-40b"])
    parser.add_argument("--small", action="store_true", help="tiny models, for a CPU")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    if options.small:
        options.samples, options.models = 512, options.models or ["moe-tiny", "engram-tiny"]
        options.host = ["engram-tiny-hyper"]
    options.models = options.models or ["moe-27b", "engram-27b"]
    where = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU"
    rate = product_rate(device, dtype, size)
    print(f"{where}, torch {torch.__version__}, CUDA {torch.version.cuda}, {time.strftime('%F')}")
    print(f"matrix product in {dtype}: {rate / 1e12:.2f} TFLOP/s")
    started = time.perf_counter()
    smallest = min(find_preset(name).vocab_size for name in options.models + options.host)
    passages = synthetic(options.samples, smallest)
    tokens = sum(len(ids) for ids in passages.ids)
    print(f"{options.samples} sentences, {tokens:,} tokens")
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            extraction(name, False, passages, Path(folder), device, rate) for name in options.models
        ]
        the_map(paths, device)
        for name in options.host:
            extraction(name, True, passages, Path(folder), device, rate)
    if options.small:
        engine(1024, 4, 64, device)
    else:
        engine(65_536, 30, 2560, device)
    print(f"all in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
