"""Stores and results mutated at random, sealed again by whoever did it: refused, or read in bounds.

A checksum tells of accidents; a stranger writes his own. So half of the mutants carry a manifest
that fits them, and only what is read decides.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engramcka import open_run
from engramcka.cli.info import describe
from engramcka.errors import EngramckaError
from engramcka.results.kinds import KINDS
from engramcka.stores import layout, manifest
from engramcka.stores.verify import verify

SECONDS = 120  # that one mutant may take on a busy machine: a hang is what it is for
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**53, 10**15, 10**40, 1.5, float("nan"), float("inf"),
    "", "x", "float32", "uint16", "object", "../..", "/etc/passwd", "\0", "\n\x1b[31m", "é" * 3000,
    [], [0], [-1, 3], [10**15, 10**15], [[]], [None], {}, {"a": {"b": []}}, {"name": "pickle"},
    {"name": "zstd", "configuration": {"level": 0}}, [{"name": "numcodecs.pickle"}],
    {"name": "regular", "configuration": {"chunk_shape": [1, 1]}}, "x" * 200_000, [0] * 50_000,
]  # fmt: skip


@contextmanager
def in_time(what: object) -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"{what} takes too long")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [path] if path else []
    if isinstance(value, dict):
        found += [p for key, inside in value.items() for p in places(inside, (*path, key))]
    elif isinstance(value, list):
        found += [p for n, inside in enumerate(value[:20]) for p in places(inside, (*path, n))]
    return found


def mutate_json(path: Path, random: np.random.Generator) -> None:
    node = json.loads(path.read_text())
    for _ in range(random.integers(1, 4)):
        there = places(node)
        if not there:
            break
        place = there[random.integers(len(there))]
        table = node
        for key in place[:-1]:
            table = table[key]
        action = random.integers(4)
        if action == 0 and isinstance(table, dict):
            del table[place[-1]]
        elif action == 1 and isinstance(table[place[-1]], dict):
            table[place[-1]][str(VALUES[random.integers(len(VALUES))])[:9]] = 1
        else:
            table[place[-1]] = deepcopy(VALUES[random.integers(len(VALUES))])
    path.write_text(json.dumps(node))


def mutate_bytes(path: Path, random: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(random.integers(1, 5)):
        if not content:
            break
        at = int(random.integers(len(content)))
        match random.integers(5):
            case 0:
                content[at] ^= 1 << int(random.integers(8))
            case 1:
                content[at : at + 8] = bytes(8)
            case 2:
                content[at : at + 4] = b"\xff" * 4
            case 3:
                del content[at:]
            case _:
                content[at:at] = random.bytes(int(random.integers(1, 40)))
    path.write_bytes(content)


def reseal(run: Path, name: Path) -> None:
    """Fit the manifest of what a file belongs to, and take the run's off, as a stranger would."""
    if name.parts[0] == layout.RESULTS and len(name.parts) > 3:
        folder, title = run.joinpath(*name.parts[:3]), "/".join(name.parts[1:3])
    elif name.parts[0] == layout.ACTIVATIONS:
        folder, title = run.joinpath(*name.parts[:2]), None
    else:
        return
    if "manifest" in name.parts:
        return
    more = manifest.attributes(folder)
    shutil.rmtree(folder / "manifest")
    is_data = lambda path: "/c/" in path and path.startswith(("layer", "readouts"))  # noqa: E731
    if title is None:
        manifest.finalize(folder, None, is_data, {"store": more.get("store")})
    else:
        manifest.finalize(folder, title)


def broken(run: Path) -> list[str]:
    return [line for checked in verify(run) for line in checked.broken]


def read_everything(run: Path) -> None:
    """All that info, verify, browse, maps and exports read; errors of ours are what may come."""
    for read in (lambda: describe(run), lambda: list(verify(run))):
        with suppress(EngramckaError):
            read()
    stored = open_run(run)
    for model in stored.models:
        with suppress(EngramckaError):
            store = stored.activations(model)
            _ = store.samples, store.missing(), store.inputs
            for array in (*store.layers.values(), *store.readouts.values()):
                array[0 : min(len(array), 1000)]
    for kind in KINDS:
        for name in stored.results(kind):
            with suppress(EngramckaError):
                stored.results(kind)[name]
    _ = stored.series, stored.parts


@pytest.mark.timeout(7200)
def test_mutants_are_read_in_bounds_or_refused_in_a_line(
    finished: Path, tmp_path: Path, full: bool
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    for folder in ("checkpoints", "figures"):
        shutil.rmtree(run / folder)
    shutil.copytree(run, tmp_path / "clean")
    expected = broken(run)  # the folders that were left out
    there = sorted(
        path.relative_to(run)
        for part in ("activations", "results.zarr")
        for path in (run / part).rglob("*")
        if path.is_file()
    )
    for seed in range(10_000 if full else 30):
        if full and not seed % 500:
            print(f"{seed} mutants", flush=True)
        random = np.random.default_rng(seed)
        name = there[random.integers(len(there))]
        path = run / name
        if path.suffix == ".json" and random.integers(4):
            mutate_json(path, random)
        else:
            mutate_bytes(path, random)
        if random.integers(2):
            (run / "manifest.json").unlink(missing_ok=True)
            reseal(run, name)
        with in_time((seed, name)):
            read_everything(run)
        unit = Path(*name.parts[: 3 if name.parts[0] == layout.RESULTS else 2])
        for part in (unit, Path("manifest.json")):
            old = run / part
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
            clean = tmp_path / "clean" / part
            shutil.copytree(clean, old) if clean.is_dir() else shutil.copy2(clean, old)
    assert broken(run) == expected
