"""A chunk, a store, a result or a model that took another's place is not read as the other's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import here
from test_damage import CHUNK, ROWS, fill, make, values

from engramcka import cka_map, open_run
from engramcka.errors import StoreError
from engramcka.results import CkaMap
from engramcka.stores import layout, open_activations, write_result
from engramcka.stores.open import open_or_create
from engramcka.stores.results import open_root
from engramcka.stores.verify import verify


def swap(one: Path, other: Path) -> None:
    """Let two files or folders change places with their times kept, as mv does."""
    aside = one.with_name("aside")
    os.rename(one, aside)
    os.rename(other, one)
    os.rename(aside, other)


def broken(path: Path) -> list[str]:
    return [line for checked in verify(path) for line in checked.broken]


def compare(run: Path) -> None:
    layers = list(open_run(run).activations("a").layers.values())
    cka_map(layers, layers, batch_size=8)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with two models of the same shape and two results."""
    run = tmp_path / "run"
    for model in ("a", "b"):
        make(run / "activations" / f"{model}.zarr")
        store = open_activations(run / "activations" / f"{model}.zarr")
        if model == "a":
            fill(store)
            continue
        for start, stop in store.missing():
            blocks = {layer: 2 * values(start, stop, layer + 5) for layer in (1, 2)}
            store.write(start, blocks, {"kl": values(start, stop, 9)[:, :2]})
        store.finalize()
    open_root(run / layout.RESULTS)
    for name, value in (("first", 0.25), ("second", 0.5)):
        write_result(run / layout.RESULTS, name, CkaMap(np.full((2, 3), value)), {})
    return run


SWAPS = {
    "layers of a model": ("a.zarr/layer_01/c/0/0", "a.zarr/layer_02/c/0/0"),
    "the same chunk of two models": ("a.zarr/layer_01/c/1/0", "b.zarr/layer_01/c/1/0"),
    "two chunks of a layer": ("a.zarr/layer_01/c/0/0", "a.zarr/layer_01/c/1/0"),
    "all chunks of two layers": ("a.zarr/layer_01", "a.zarr/layer_02"),
}


@pytest.mark.parametrize("name", SWAPS)
def test_chunks_that_changed_places_are_not_read(run: Path, name: str) -> None:
    one, other = (run / "activations" / path for path in SWAPS[name])
    swap(one, other)
    told = broken(run)
    assert any(str(one) in line for line in told)
    assert any(str(other) in line for line in told)
    with pytest.raises(StoreError, match=r"another chunk's data|not what was written"):
        compare(run)


def test_neither_whole_slices_nor_picked_rows_are_read(run: Path) -> None:
    swap(*(run / "activations" / path for path in SWAPS["the same chunk of two models"]))
    layer = open_run(run).activations("a").layers[1]
    assert np.array_equal(layer[0:CHUNK], values(0, CHUNK, 1))
    for read in (lambda: layer[CHUNK : CHUNK + 1], lambda: layer.take(np.array([CHUNK + 2]))[:]):
        with pytest.raises(
            StoreError, match=r"a.zarr/layer_01/c/1/0: cannot be read .holds another"
        ):
            read()


def test_rows_and_files_of_two_chunks_of_an_unfinished_store_that_change_places(
    run: Path,
) -> None:
    """All files of chunks 0 and 1, and their rows: nothing tells them but their number."""
    store = run / "activations/a.zarr"
    shutil.rmtree(store / "manifest")
    for array in ("layer_01", "layer_02", "readouts/kl", "written"):
        swap(store / array / "c/0", store / array / "c/1")
    with pytest.raises(StoreError, match="holds another chunk's data"):
        open_activations(store).layers[1][0:4]
    assert len(open_activations(store).damaged(every_byte=True)) == 2 * 3


def test_a_file_that_is_replaced_under_an_open_store_is_held_again(run: Path) -> None:
    layer = open_run(run).activations("a").layers[1]
    assert np.array_equal(layer[0:CHUNK], values(0, CHUNK, 1))
    swap(*(run / "activations" / path for path in SWAPS["layers of a model"]))
    with pytest.raises(StoreError, match="holds another chunk's data"):
        layer[0:CHUNK]


@pytest.mark.parametrize("what", ["activations/{}.zarr", "results.zarr/cka/{}"])
def test_folders_that_changed_places_are_named_and_refused(run: Path, what: str) -> None:
    one, other = ("a", "b") if "activations" in what else ("first", "second")
    swap(run / what.format(one), run / what.format(other))
    told = broken(run)
    assert sum("changed places" in line for line in told) == 2
    stored = open_run(run)
    read = stored.activations if "activations" in what else stored.cka.__getitem__
    with pytest.raises(StoreError, match="changed places"):
        read(one)


@pytest.mark.parametrize("name", ["layer_01/c", "layer_01", "written/c", "written", "manifest"])
def test_nothing_is_written_or_deleted_through_a_link(run: Path, tmp_path: Path, name: str) -> None:
    store = run / "activations/a.zarr"
    shutil.rmtree(store / "manifest")
    (store / "written/c/1/0/0").unlink()
    outside = tmp_path / "outside"
    if name == "manifest":
        (outside / "c").mkdir(parents=True)
        (outside / "zarr.json").write_text("theirs")
    else:
        shutil.move(store / name, outside)
    (store / name).symlink_to(outside)
    before = {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()}
    assert before
    with pytest.raises(StoreError, match=r"a link; a run holds none inside|cannot be read"):
        fill(open_or_create(store, make))
    assert {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()} == before


def test_a_whole_chunk_behind_a_link_is_damage(run: Path, tmp_path: Path) -> None:
    chunks = run / "activations/a.zarr/layer_01/c"
    shutil.move(chunks, tmp_path / "outside")
    chunks.symlink_to(tmp_path / "outside")
    found = open_run(run).activations("a").damaged()
    assert [chunk for chunk, _ in found] == [0, 1, 2]
    assert all("a link; a run holds none inside" in str(error) for _, error in found)


def test_a_store_whose_manifest_is_a_link_does_not_end_the_check(run: Path, tmp_path: Path) -> None:
    shutil.move(run / "activations/a.zarr/manifest", tmp_path / "outside")
    (run / "activations/a.zarr/manifest").symlink_to(tmp_path / "outside")
    path = run / "results.zarr/cka/second/similarity/c/0/0"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    named = broken(run)
    assert any("a.zarr/manifest" in line for line in named)
    assert any("cka/second/similarity/c/0/0" in line for line in named)


def test_a_store_may_be_copied_out_under_another_name(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "activations/a.zarr", tmp_path / "other.zarr")
    store = open_activations(tmp_path / "other.zarr")
    assert np.array_equal(store.layers[1][0:ROWS], values(0, ROWS, 1))
    assert broken(tmp_path / "other.zarr") == []


def test_models_that_changed_places_are_not_compared(finished: Path, tmp_path: Path) -> None:
    """Case 2.2 with the real command: a map made of swapped chunks was 0.99999999 for 0.7388."""
    shutil.copytree(finished / "run", tmp_path / "run")
    shutil.copy(finished / "config.toml", tmp_path)
    expected = open_run(tmp_path / "run").cka["engram-vs-moe"].similarity
    for number in range(1, 7):
        chunk = f"layer_{number:02d}/c/0/0"
        swap(
            tmp_path / "run/activations/moe.zarr" / chunk,
            tmp_path / "run/activations/engram.zarr" / chunk,
        )
    shutil.rmtree(tmp_path / "run/results.zarr/cka/engram-vs-moe")
    refused = here("run", "config.toml", cwd=tmp_path)
    assert refused.returncode == 1
    assert "holds another chunk's data" in refused.stderr
    assert "engram-vs-moe" not in open_run(tmp_path / "run").cka
    again = here("run", "config.toml", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    found = open_run(tmp_path / "run").cka["engram-vs-moe"].similarity
    assert np.array_equal(found, expected)


def test_checkpoints_that_changed_places_are_named(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    models = sorted((tmp_path / "run/checkpoints").glob("*seed0*"))[:2]
    swap(*models)
    told = here("verify", "run", cwd=tmp_path)
    assert told.returncode == 1
    assert told.stdout.count("changed places") == 2
