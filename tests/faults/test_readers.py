"""Readers beside a writer: no error, no torn value, whatever the moment."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import numpy as np
from command import CONFIG, engramcka, start

from engramcka import open_run
from engramcka.results import CkaMap
from engramcka.stores import layout, read_result, write_result
from engramcka.stores.results import open_root


def test_everything_is_read_while_a_run_writes_it(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    process = start("run", "config.toml", cwd=tmp_path)
    rounds = 0
    while process.poll() is None:
        if not (tmp_path / "run" / layout.RESULTS / "zarr.json").is_file():
            continue
        run = open_run(tmp_path / "run")
        for cka in run.cka.values():
            assert np.isfinite(cka.similarity).all()
        for sweep in run.sweep.values():
            assert np.isfinite(sweep.loss).all()
        for model in run.models:
            store = run.activations(model)
            assert store.n_samples == 64
            if not store.missing():
                assert all(np.abs(layer[0:64]).max() > 0 for layer in store.layers.values())
        run.log()
        rounds += 1
        time.sleep(0.01)
    assert process.returncode == 0, process.communicate()[1]
    assert rounds > 20
    for command in (["info", "run", "--json"], ["browse", "run", "--once"]):
        result = engramcka(*command, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert json.loads(engramcka("info", "run", "--json", cwd=tmp_path).stdout)


def test_a_map_that_is_replaced_all_the_time_is_never_torn(tmp_path: Path) -> None:
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
        sizes = set()
        end = time.monotonic() + 5
        while time.monotonic() < end:
            cka = read_result(results, "cka", "a")
            size = len(cka.similarity)
            assert (cka.similarity == size).all()
            assert cka.y_label == str(size)
            sizes.add(size)
    finally:
        stop.set()
        writer.join()
    assert len(sizes) > 1
