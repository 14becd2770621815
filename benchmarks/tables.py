"""A training step of one memory table: with a dense gradient, and by the rows looked up.

    python benchmarks/tables.py [--rows 2000000] [--width 64] [--places 16384] [--small]

Lookup, backward pass, clipping and AdamW of a table alone, both ways in turns in one process, by
processor time; and what the process's peak grows by in a step, beside the table and its moments.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from engramcka.models.engram.tables import EngramMemory
from engramcka.training.table_rows import TableAdamW, gradients_to_clip

WAYS = {"dense": False, "by rows": True}
PLACES_A_TOKEN = 16
CPU = torch.device("cpu")


class Training:
    """A table and its optimiser; both moments are there once a step was made."""

    def __init__(self, options: argparse.Namespace, on_host: bool) -> None:
        self.memory = EngramMemory(options.rows, options.width, on_host)
        nn.init.normal_(self.memory.weight, std=0.02)
        self.optimizer = TableAdamW(
            [self.memory.weight], lr=0.015, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )

    def step(self, numbers: Tensor) -> None:
        """One step that looks these rows up, (B, T, places a token)."""
        self.memory(numbers).square().sum().backward()
        nn.utils.clip_grad_norm_(gradients_to_clip(self.memory, CPU), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def status(key: str) -> int:
    """KiB that the system counts for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--places", type=int, default=16_384, help="lookups a step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a table of 6 MB, one round")
    options = parser.parse_args()
    if options.small:
        options.rows, options.width, options.places, options.rounds = 50_000, 32, 1024, 1
    torch.manual_seed(0)
    trainings = {way: Training(options, on_host) for way, on_host in WAYS.items()}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    growth: dict[str, list[float]] = {way: [] for way in WAYS}
    shape = (1, options.places // PLACES_A_TOKEN, PLACES_A_TOKEN)
    for number in range(options.rounds + 1):
        rows = torch.randint(options.rows, shape)
        for way, training in trainings.items():
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before, start = status("VmRSS"), time.process_time()
            training.step(rows)
            if number:  # the first makes the moments
                seconds[way].append(time.process_time() - start)
                growth[way].append((status("VmHWM") - before) / 1024)
    table = options.rows * options.width * 4 / 2**20
    print(f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"a table of {options.rows} x {options.width}, {table:.0f} MiB, {options.places} places")
    print("| gradient | seconds a step | share of dense | peak beside table and moments, MiB |")
    print("|---|---|---|---|")
    for way, found in seconds.items():
        share = min(found) / min(seconds["dense"])
        print(f"| {way} | {min(found):.3f} | {share:.2f} | {max(growth[way]):.0f} |")


if __name__ == "__main__":
    main()
