"""What LogitLens costs beside the forward pass, in time and in memory, at a real vocabulary.

A random decoder of small width with the vocabulary of DeepSeek-V3, so that the LM head weighs more
against the blocks than in any real model. Three things take turns in one process: the model's own
forward pass with its logits, the blocks alone (an extraction without the lens), and the lens on
the chosen rows of that pass. Memory is the growth of the process's peak while the lens reads.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engramcka.extraction.residual_stream import ResidualStream
from engramcka.lens.logit_lens import read_head, read_layers
from engramcka.models import find_blocks

MIB = 1 << 20


def build(options: argparse.Namespace) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=options.vocabulary,
        hidden_size=options.width,
        intermediate_size=3 * options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=4,
        max_position_embeddings=options.tokens,
    )
    return LlamaForCausalLM(config).to(getattr(torch, options.dtype)).eval()


def peak_growth(run: Callable[[], object]) -> float:
    """MiB that the process's peak memory grows by, from what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    run()
    return (status("VmHWM") - before) / 1024


def status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=129_280)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rows", type=int, default=2, help="read-outs a sequence")
    parser.add_argument("--memory-rows", type=int, default=2048, help="rows of the memory reading")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = build(options)
    blocks = dict(enumerate(find_blocks(model).modules, start=1))
    ids = torch.randint(0, options.vocabulary, (options.sequences, options.tokens))
    head = read_head(model, ids[0])
    sequence = torch.arange(options.sequences).repeat_interleave(options.rows)
    position = torch.randint(0, options.tokens, (len(sequence),))
    stream = ResidualStream(blocks)

    def extraction() -> None:
        with stream.capture(sequence, position, position):
            model(input_ids=ids, use_cache=False)

    runs = {
        "forward pass with logits": lambda: model(input_ids=ids, use_cache=False),
        "blocks alone": extraction,
        "lens": lambda: read_layers(stream.selected, head),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(options.rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if round_:
                times[name].append(time.process_time() - start)
    print(
        f"{options.layers} blocks, width {options.width}, vocabulary {options.vocabulary}, "
        f"{options.dtype}, {options.sequences} x {options.tokens} tokens, {len(sequence)} rows, "
        f"{platform.machine()}, {options.threads} threads"
    )
    least = {name: min(found) for name, found in times.items()}
    for name, seconds in least.items():
        share = seconds / least["forward pass with logits"]
        print(f"{name:26} {seconds:8.3f} s  {share:6.1%} of the forward pass")
    hidden = {
        number: torch.randn(options.memory_rows, options.width).to(model.dtype) for number in blocks
    }
    naive = options.memory_rows * len(blocks) * options.vocabulary * 4 / MIB
    growth = peak_growth(lambda: read_layers(hidden, head))
    print(
        f"lens on {options.memory_rows} rows: peak {growth:.0f} MiB more; their logits at once "
        f"would be {naive:.0f} MiB"
    )


if __name__ == "__main__":
    main()
