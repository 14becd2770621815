"""Readers beside a writer: no error, no torn value, whatever the moment."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from command import CONFIG, Forked, here

from engramcka import open_run
from engramcka.results import CkaMap
from engramcka.stores import layout, read_result, write_result
from engramcka.stores.results import open_root

pytestmark = pytest.mark.timeout(1200)


def read_all(run: Path) -> None:
    """Everything that a run holds, by Python and by the commands."""
    found = open_run(run)
    for cka in found.cka.values():
        assert np.isfinite(cka.similarity).all()
    for sweep in found.sweep.values():
        assert np.isfinite(sweep.loss).all()
    for model in found.models:
        store = found.activations(model)
        assert store.n_samples == 64
        if not store.missing():
            assert all(np.abs(layer[0:64]).max() > 0 for layer in store.layers.values())
    found.log()
    info = here("info", "run", "--json", cwd=run.parent)
    assert info.returncode == 0, info.stderr
    assert json.loads(info.stdout)
    shown = here("browse", "run", "--once", cwd=run.parent)
    assert shown.returncode == 0 or "no result" in shown.stderr, shown.stderr
    checked = here("verify", "run", cwd=run.parent)
    assert checked.returncode == 0, checked.stdout
    if "self" in found.cka:
        what = ["--what", "cka/self", "-o", "run/figures/mine.csv"]
        assert here("export", "run", *what, cwd=run.parent).returncode == 0


def test_everything_is_read_while_a_run_writes_it(
    finished: Path, tmp_path: Path, full: bool
) -> None:
    """In full, over trainings that take more than a minute; in short, all that comes after them."""
    (tmp_path / "config.toml").write_text(CONFIG)
    if not full:
        shutil.copytree(finished / "run/checkpoints", tmp_path / "run/checkpoints")
    longer = ("--set", "training.steps=300", "--set", "training.save_every=5") if full else ()
    process = Forked("run", "config.toml", *longer, cwd=tmp_path)
    rounds, begun = 0, time.monotonic()
    while process.poll() is None:
        if (tmp_path / "run" / layout.RESULTS / "zarr.json").is_file():
            read_all(tmp_path / "run")
            rounds += 1
        time.sleep(0.01)
    assert process.returncode == 0, process.communicate()[1]
    print(f"a run was read {rounds} times in {time.monotonic() - begun:.0f} s while it was written")
    assert rounds > 5
    read_all(tmp_path / "run")


def test_a_map_that_is_replaced_all_the_time_is_never_torn(tmp_path: Path, full: bool) -> None:
    results = tmp_path / layout.RESULTS
    open_root(results)
    stop = threading.Event()

    def write() -> None:
        size = 2
        while not stop.is_set():
            # Every value of the map, and its label, is its size: a mixture would show.
            similarity = np.full((size, size), float(size))
            write_result(results, "a", CkaMap(similarity, y_label=str(size)), {})
            size = size % 5 + 2

    write_result(results, "a", CkaMap(np.full((2, 2), 2.0), y_label="2"), {})
    writer = threading.Thread(target=write)
    writer.start()
    try:
        sizes, readings = set(), 0
        end = time.monotonic() + (60 if full else 2)
        while time.monotonic() < end or (len(sizes) < 2 and time.monotonic() < end + 60):
            cka = read_result(results, "cka", "a")
            size = len(cka.similarity)
            assert (cka.similarity == size).all()
            assert cka.y_label == str(size)
            sizes.add(size)
            readings += 1
    finally:
        stop.set()
        writer.join()
    print(f"a map that was replaced all the time was read {readings} times")
    assert len(sizes) > 1
