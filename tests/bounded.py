"""Runs one function of ours on many files in a process of its own, whose memory is measured.

    python tests/bounded.py KIND PATH...

prints a line a file: the class of what it raised (or "taken"), the MB that it took at its peak, and
the message. Each is tried in a fork of a process that has imported everything.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import traceback
from ast import literal_eval
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def tried(kind: str, *paths: Path) -> list[tuple[str, int, str]]:
    """Of every path what was raised, the MB that it took and the message: see above."""
    from command import ENVIRONMENT

    done = subprocess.run(
        [sys.executable, __file__, kind, *map(str, paths)],
        env={**ENVIRONMENT, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    lines = [line.split("\t", 2) for line in done.stdout.splitlines()]
    return [(raised, int(taken), literal_eval(told)) for raised, taken, told in lines]


def activations(path: str) -> None:
    """As `source = "activations"` reads it: all samples, 8 rows at a time, 64 at most."""
    from engramcka.stores.foreign.hidden_states import open_foreign

    with open_foreign(path) as found:
        for start in range(0, min(64, found.shape[0]), 8):
            for _ in found.rows(slice(start, start + 8)):
                pass


def stack(path: str) -> None:
    """As with ``layer_axis = 0``."""
    from engramcka.stores.foreign.hidden_states import open_foreign

    with open_foreign(path, layer_axis=0) as found:
        for _ in found.rows(slice(0, 8)):
            pass


def samples(path: str) -> None:
    """A sample table."""
    from engramcka.stores.foreign.hidden_states import read_samples

    read_samples(path)


def sweep(path: str) -> None:
    """As `engramcka import --as sweep` reads it."""
    from engramcka.stores.foreign.sweeps import read_sweep_file

    read_sweep_file(Path(path))


def cka(path: str) -> None:
    """As `engramcka import --as cka` reads it."""
    from engramcka.stores.foreign.maps import read_map_file

    read_map_file(Path(path))


def text(path: str) -> None:
    """As ``[data]`` reads it."""
    from engramcka.config import DataTable
    from engramcka.data import load_corpus

    sources = {".jsonl": "jsonl", ".parquet": "parquet", ".txt": "text", "": "text"}
    table = DataTable(
        source=sources[Path(path).suffix], path=path, positions="last", validation_share=1.0
    )
    load_corpus(table)


KINDS: dict[str, Callable[[str], None]] = {
    f.__name__: f for f in (activations, stack, samples, sweep, cka, text)
}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _tried(kind: str, path: str) -> None:
    before, raised, told = _peak(), "taken", ""
    try:
        KINDS[kind](path)
    except Exception as error:
        raised, told = type(error).__name__, str(error)
        if "--trace" in sys.argv:
            traceback.print_exc()
    print(f"{raised}\t{_peak() - before:.0f}\t{told!r}", flush=True)


NEEDED = {
    "activations": "h5py zarr numcodecs pyarrow ml_dtypes engramcka.stores.foreign.hidden_states",
    "sweep": "tensorboard.backend.event_processing.event_accumulator",
    "text": "pyarrow.parquet pyarrow.compute engramcka.config engramcka.data.files",
}
"""What a kind has imported before memory is measured."""


if __name__ == "__main__":
    for module in NEEDED.get(sys.argv[1], "engramcka.stores.foreign.hidden_states").split():
        import_module(module)
    for name in sys.argv[2:]:
        if name.startswith("--"):
            continue
        child = os.fork()
        if not child:
            _tried(sys.argv[1], name)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(f"died of {status}\t0\t''", flush=True)
