"""Memory freed inside is there for the next step without the system; at the end it goes back."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest
import torch

from engramcka.training.loop import freed_memory_kept

PIECES = [*[16 << 20] * 8, 64 << 20]  # bytes; the last is one that glibc would map by itself
PAGES = sum(PIECES) // resource.getpagesize()


def faults() -> int:
    """Pages that the system has to map for a step's memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step = [torch.ones(size // 4) for size in PIECES]
    assert len(step) == len(PIECES)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_step_reuses_the_memory_of_the_one_before_and_the_end_gives_it_back() -> None:
    """In a process of its own: how other tests left the heap decides which pieces fit again."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True)
    *again, after = map(int, done.stdout.split())
    assert sum(again) < 0.2 * len(again) * PAGES  # a piece may find no gap of its size
    assert after > 0.8 * PAGES


if __name__ == "__main__":
    with freed_memory_kept():
        faults()
        print(*[faults() for _ in range(3)])
    print(faults())
