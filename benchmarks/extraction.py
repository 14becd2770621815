"""What extraction costs beyond the forward pass, and stores beside plain files.

Four tables. Seconds: the bare forward pass over the same batches (blocks only, as extraction runs
it), `extract` with every token of every block stored, and the usual script
(`output_hidden_states=True`, `.cpu()`, `torch.save` a batch). Bytes a second: a chunk of a store, a
file a layer, against plain files of the same size, written, and read back into new memory. Host
memory: the most that extraction held beyond model and text, beside its bound of three chunks of all
layers. Padding: `extract` of one token a sentence, with batches of least waste of passages that are
cut after it, of whole passages, and with batches of whole passages by length as before. Takes turns
in one process and takes each least time, so read the ratios.

    python benchmarks/extraction.py            # a Llama of 100 million parameters
    python benchmarks/extraction.py --small    # a small one, to see that it runs
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu import synthetic
from transformers import LlamaConfig, LlamaForCausalLM

from engramcka.data import Passages, Samples
from engramcka.data.samples import SampleRow
from engramcka.extraction import extract
from engramcka.extraction.forward import ForwardPass
from engramcka.extraction.residual_stream import ResidualStream
from engramcka.models.blocks import capture_points
from engramcka.stores import ActivationStore, create_activations, open_activations, shards

VOCABULARY = 8192


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a small model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passages", type=int, default=0, help="of 256 tokens; default 64")
    options = parser.parse_args()
    layers, width = (4, 128) if options.small else (12, 768)
    length = 32 if options.small else 256
    model = make_model(layers, width)
    passages = all_tokens(options.passages or (8 if options.small else 64), length)
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{parameters:.0f} million parameters, {layers} blocks of {width}, float32,", end=" ")
    print(f"{len(passages.last):,} tokens in {len(passages.ids)} passages;", end=" ")
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, load {os.getloadavg()[0]}"
    )
    with tempfile.TemporaryDirectory() as folder:
        seconds(model, passages, Path(folder), options.rounds)
        padding(model, Path(folder), 256 if options.small else 2048, options.rounds)
        throughput(Path(folder), options.small, options.rounds)


def make_model(layers: int, width: int) -> Any:
    """A random Llama in eval mode."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def all_tokens(count: int, length: int) -> Passages:
    """Passages of random tokens, every token a sample."""
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (count, length))
    number = np.arange(count * length)
    names = {"document", "entity", "kind", "type"}
    samples = Samples(
        **{
            field: np.full(len(number), "") if field in names else number
            for field in SampleRow._fields
        }
    )
    token = number % length
    return Passages(tuple(ids), number // length, token, token, samples)


def seconds(model: Any, passages: Passages, folder: Path, rounds: int) -> None:
    """Forward pass alone, extraction, the usual script."""
    batches = the_batches(model, passages)

    def bare() -> None:
        with torch.no_grad():
            for ids in batches:
                model.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)

    def ours() -> None:
        path = folder / "m.zarr"
        shutil.rmtree(path, ignore_errors=True)
        extract(
            model, passages, path, pad_id=0, attributes={}, inputs={}, on_rows=lambda a, b: None
        )

    def usual() -> None:
        with torch.no_grad():
            for number, ids in enumerate(batches):
                found = model(input_ids=ids, output_hidden_states=True, use_cache=False)
                states = [value.cpu() for value in found.hidden_states]
                torch.save(states, folder / f"{number}.pt")

    bare()
    with Peak() as alone:
        bare()
    with Peak() as peak:
        ours()
    jobs = {"bare forward pass": bare, "extract": ours, "usual script": usual}
    wall, busy = interleaved(jobs, rounds)
    print(
        "\n| | s | over the bare pass | processor s | over the bare pass |\n|---|---|---|---|---|"
    )
    for name in jobs:
        shares = [times[name] / times["bare forward pass"] for times in (wall, busy)]
        print(f"| {name} | {wall[name]:.2f} | {shares[0]:.3f} |", end="")
        print(f" {busy[name]:.2f} | {shares[1]:.3f} |")
    width, layers = model.config.hidden_size, model.config.num_hidden_layers
    bound = 3 * min(2048, len(passages.last)) * width * layers * 4
    print(
        f"\nMost host memory in extraction: {(peak.most - alone.most) / 1e6:.0f} MB above the most "
        "in a forward pass;"
    )
    print(f"three chunks of all layers are {bound / 1e6:.0f} MB.")


def padding(model: Any, folder: Path, count: int, rounds: int) -> None:
    """One token a sentence: what runs, and how long, by how the batches are made."""
    passages = synthetic(count, VOCABULARY)
    whole = sum(len(ids) for ids in passages.ids)
    wanted = {"cut": int((passages.last + 1).sum()), "whole": whole, "by-length": whole}
    tokens: dict[str, int] = {}

    def job(plan: str) -> None:
        path = folder / f"{plan}.zarr"
        shutil.rmtree(path, ignore_errors=True)
        tokens[plan] = 0
        seen = model.register_forward_pre_hook(
            lambda module, args, given: tokens.update(
                {plan: tokens[plan] + given["input_ids"].numel()}
            ),
            with_kwargs=True,
        )
        extract(
            model,
            passages,
            path,
            pad_id=0,
            attributes={"batches": plan},
            inputs={},
            on_rows=lambda done, total: None,
        )
        seen.remove()

    wall, busy = interleaved({plan: partial(job, plan) for plan in wanted}, rounds)
    print(f"\n{count} sentences, a token of each, {whole:,} tokens:\n")
    print("| batches | tokens run | over those needed | of all | s | of by-length | processor s |")
    print("|---" * 7 + "|")
    for plan, needed in wanted.items():
        run = tokens[plan]
        print(f"| {plan} | {run:,} | {run / needed:.3f} | {run / whole:.3f} |", end="")
        print(f" {wall[plan]:.2f} | {wall[plan] / wall['by-length']:.3f} | {busy[plan]:.2f} |")


def the_batches(model: Any, passages: Passages) -> list[torch.Tensor]:
    """The token ids of the batches that extraction makes, chunk by chunk."""
    seen: list[torch.Tensor] = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    forward = ForwardPass(model, passages, ResidualStream(capture_points(model)), 0)
    chunk = 2048
    for start in range(0, len(passages.last), chunk):
        for _ in forward.run(start, min(start + chunk, len(passages.last))):
            pass
    handle.remove()
    return seen


def throughput(folder: Path, small: bool, rounds: int) -> None:
    """One chunk of a store, all layers, against as many plain files of the same size."""
    rows, width, count = (512, 128, 2) if small else (2048, 2560, 16)
    values = np.random.default_rng(0).integers(0, 1 << 16, (rows, width), dtype=np.uint16)
    layers, at_once = range(1, count + 1), shards.local_threads()
    store = create_activations(
        folder / "files.zarr",
        layers=layers,
        width=width,
        dtype="bfloat16",
        samples={"start": np.arange(rows)},
        attributes={},
        inputs={},
    )
    names = [folder / f"plain{n}" for n in layers]
    out = np.empty_like(values)

    def forget(job: str) -> None:
        """Delete what a job will write: cutting old files short takes longer than writing."""
        shards = store.path.glob("layer_*/c/*/*")
        for name in {"write, plain": names}.get(job, shards if job.startswith("write") else []):
            name.unlink(missing_ok=True)

    def write_plain() -> None:
        for name in names:
            with name.open("wb", buffering=0) as file:
                file.write(values.data)

    def write_ours() -> None:
        store.write(0, dict.fromkeys(layers, values))

    def read_plain() -> None:
        for name in names:
            np.fromfile(name, dtype=values.dtype)

    def read_into() -> None:
        for name in names:
            with name.open("rb", buffering=0) as file:
                file.readinto(out.data)  # type: ignore[attr-defined]

    def read(opened: ActivationStore) -> None:
        for layer in opened.layers.values():
            layer[0:rows]

    def write_alone() -> None:
        with one_thread():
            write_ours()

    with one_thread():
        alone = open_activations(store.path)
        assert len(alone.layers) == count  # which are opened here

    jobs = {
        "write, plain": write_plain,
        "write, store": write_ours,
        "write, store, 1 thread": write_alone,
        "read, plain": read_plain,
        "read, plain, all into one buffer": read_into,
        "read, store": lambda: read(store),
        "read, store, 1 thread": lambda: read(alone),
    }
    wall, busy = interleaved(jobs, 3 * rounds, forget)
    size = values.nbytes * count
    print(f"\n{count} files of {values.nbytes / 1e6:.1f} MB, in the page cache; plain ones by one")
    print(f"thread, the store's with crc32c, by {at_once} where nothing is said:\n")
    print("| | MB/s | of plain | of plain by processor time |\n|---|---|---|---|")
    for name in jobs:
        plain = f"{name.split(', ')[0]}, plain"
        shares = [times[plain] / max(times[name], 1e-9) for times in (wall, busy)]
        print(f"| {name} | {size / wall[name] / 1e6:.0f} | {shares[0]:.2f} | {shares[1]:.2f} |")


@contextmanager
def one_thread() -> Iterator[None]:
    """Stores work on local files with one thread in here, and those that are opened in here."""
    before, shards.MAX_LOCAL_THREADS = shards.MAX_LOCAL_THREADS, 1
    try:
        yield
    finally:
        shards.MAX_LOCAL_THREADS = before


def interleaved(
    jobs: dict[str, Callable[[], None]],
    rounds: int,
    before: Callable[[str], None] = lambda job: None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Least seconds of each job by the clock and of the processor, all in turn.

    One round before does not count, nor what comes before a job.
    """
    wall, busy = (dict.fromkeys(jobs, float("inf")) for _ in range(2))
    for number in range(rounds + 1):
        for name, job in jobs.items():
            before(name)
            start, busy_start = time.perf_counter(), time.process_time()
            job()
            if number:
                wall[name] = min(wall[name], time.perf_counter() - start)
                busy[name] = min(busy[name], time.process_time() - busy_start)
    return wall, busy


class Peak:
    """The most resident memory of this process while inside."""

    def __enter__(self) -> Peak:
        self.most = self._now()  # bytes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.most = max(self.most, self._now())

    @staticmethod
    def _now() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
