"""A bit flipped, a file cut or deleted: named by verify, never read as something else, mended."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import here, importing

from engramcka import open_run
from engramcka.errors import StoreError
from engramcka.results import CkaMap
from engramcka.stores import create_activations, layout, manifest, open_activations, write_cka
from engramcka.stores.open import open_or_create, stored_attributes
from engramcka.stores.results import open_root, read_inputs, update_root
from engramcka.stores.verify import verify

ROWS, CHUNK, WIDTH = 22, 8, 3
INTERVAL = ("ci_low", "ci_high")
INPUTS = {"seed": 0, "text": "größe"}


def values(start: int, stop: int, layer: int) -> np.ndarray:
    random = np.random.default_rng(layer)
    return random.normal(size=(ROWS, WIDTH)).astype(np.float32)[start:stop]


def make(path: Path, compression: str = "none", part: int = 4) -> None:
    create_activations(
        path,
        layers=[1, 2],
        width=WIDTH,
        dtype="float32",
        samples={
            "document": np.array([f"a{n}.py" for n in range(ROWS)]),
            "start": np.arange(ROWS),
        },
        attributes={"label": "M"},
        inputs=INPUTS,
        readouts={"kl": 2},
        compression=compression,
        chunk_samples=CHUNK,
        part_samples=part,
    )


def fill(store) -> list[tuple[int, int]]:
    """What extraction does; returns the ranges that it made."""
    made = store.missing()
    for start, stop in made:
        readout = {"kl": values(start, stop, 9)[:, :2]}
        store.write(start, {layer: values(start, stop, layer) for layer in (1, 2)}, readout)
    if not store.is_complete:
        store.finalize()
    return made


def read(store) -> dict[str, np.ndarray]:
    found = {f"layer {n}": layer[0:ROWS] for n, layer in store.layers.items()}
    found |= {f"readout {n}": array[0:ROWS] for n, array in store.readouts.items()}
    return found | store.samples


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a store, a compressed one, a map and a checkpoint."""
    run = tmp_path_factory.mktemp("whole") / "run"
    for name, compression in (("plain", "none"), ("small", "zstd")):
        make(run / "activations" / f"{name}.zarr", compression)
        fill(open_activations(run / "activations" / f"{name}.zarr"))
    open_root(run / layout.RESULTS)
    update_root(run / layout.RESULTS, seconds={"cka/a": 0.25})
    similarity = np.random.default_rng(0).uniform(0.1, 0.9, (2, 3))
    cka = CkaMap(similarity, x_label="é", ci_low=similarity - 0.1, ci_high=similarity + 0.1)
    write_cka(run / layout.RESULTS, "a", cka, {"v": 1.5})
    checkpoint = run / layout.CHECKPOINTS / "moe"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(bytes(range(200)))
    (checkpoint / "config.json").write_text('{"a": 1}')
    manifest.finalize(checkpoint)
    return run


def files(run: Path) -> list[Path]:
    return sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())


def broken(path: Path) -> list[str]:
    return [line for checked in verify(path) for line in checked.broken]


def damage(path: Path, how: str, place: float) -> None:
    content = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: int(place * len(content))])
    else:
        content[int(place * len(content))] ^= 1 << int(place * 1e6) % 8
        path.write_bytes(content)


def test_a_whole_run_is_whole(run: Path) -> None:
    assert broken(run) == []
    assert len(files(run)) == sum(checked.files for checked in verify(run))
    for part in ("activations/plain.zarr", "results.zarr", "results.zarr/cka/a", "checkpoints/moe"):
        assert broken(run / part) == []


def test_any_damage_is_named_refused_and_mended(run: Path, tmp_path: Path, full: bool) -> None:
    there = files(run)
    expected = {n: read(open_run(run).activations(n)) for n in ("plain", "small")}
    similarity = open_run(run).cka["a"].similarity
    for seed in range(400 if full else 15):
        random = np.random.default_rng(seed)
        copy = tmp_path / str(seed) / "run"
        shutil.copytree(run, copy)
        broken_file = there[random.integers(len(there))]
        damage(
            copy / broken_file, random.choice(["flip", "flip", "cut", "delete"]), random.random()
        )
        assert any(f"{copy / broken_file}:" in line for line in broken(copy)), broken_file
        for name in ("plain", "small"):
            check_and_mend(copy, name, expected[name], broken_file)
        try:
            stored = open_run(copy).cka["a"]
        except (StoreError, KeyError):
            assert read_inputs(copy / layout.RESULTS, "cka", "a") is None  # it is computed again
        else:
            assert np.array_equal(stored.similarity, similarity)
            assert stored.x_label == "é"
        open_root(copy / layout.RESULTS)
        assert not any(f"{layout.RESULTS}/zarr.json" in line for line in broken(copy))
        shutil.rmtree(copy.parent)


def check_and_mend(run: Path, name: str, expected: dict[str, np.ndarray], where: Path) -> None:
    """A store reads as it was, or refuses; one chunk at most is made again, and it is whole."""
    path = run / "activations" / f"{name}.zarr"
    told, found = "", {}
    try:
        found = read(open_run(run).activations(name))
    except StoreError as error:
        told = str(error)
    assert not told or path.name in where.parts, (where, told)
    for key, array in found.items():
        assert np.array_equal(array, expected[key]), (where, key)
    assert stored_attributes(path)["inputs"] == INPUTS
    compression = "zstd" if name == "small" else "none"
    store = open_or_create(path, lambda at: make(at, compression))
    assert len(fill(store)) <= 1
    assert broken(path) == []
    assert np.array_equal(read(open_run(run).activations(name))["layer 2"], expected["layer 2"])


def test_the_command_names_files_and_says_so_in_its_exit_code(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert here("verify", "run", cwd=tmp_path).returncode == 0
    (copy / "checkpoints/moe/model.safetensors").write_bytes(bytes(200))
    result = here("verify", "run", "--json", cwd=tmp_path)
    assert result.returncode == 1
    facts = json.loads(result.stdout)
    assert len(facts["broken"]) == 1
    assert "checkpoints/moe/model.safetensors: cannot be read (not what" in facts["broken"][0]
    assert here("verify", "nowhere", cwd=tmp_path).returncode == 2


def test_chunks_that_changed_places_are_named(run: Path, tmp_path: Path) -> None:
    store = tmp_path / "m.zarr"
    shutil.copytree(run / "activations/plain.zarr", store)
    one, other = store / "layer_01/c/0/0", store / "layer_02/c/0/0"
    (tmp_path / "x").write_bytes(one.read_bytes())
    one.write_bytes(other.read_bytes())
    other.write_bytes((tmp_path / "x").read_bytes())
    assert [line.split(": ")[1] for line in broken(store)] == [
        "cannot be read (holds another chunk's data)"
    ] * 2


def test_arrays_of_a_result_that_changed_places_are_named(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    low, high = (next(copy.rglob(f"results.zarr/cka/*/{name}/c")) / "0/0" for name in INTERVAL)
    (tmp_path / "x").write_bytes(low.read_bytes())
    low.write_bytes(high.read_bytes())
    high.write_bytes((tmp_path / "x").read_bytes())
    named = broken(copy)
    assert all(any(f"{name}/c/0/0: cannot be read" in line for line in named) for name in INTERVAL)


def test_an_unfinished_store_is_not_broken(tmp_path: Path) -> None:
    make(tmp_path / "m.zarr")
    store = open_activations(tmp_path / "m.zarr")
    store.write(0, {n: values(0, 8, n) for n in (1, 2)}, {"kl": values(0, 8, 9)[:, :2]})
    (checked,) = verify(tmp_path / "m.zarr")
    assert (checked.broken, checked.samples_missing) == ([], ROWS - CHUNK)
    with pytest.raises(StoreError, match="layer_01/c/1/0: cannot be read"):
        store.layers[1][0:10]


FILL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_damage import fill, open_activations
fill(open_activations(Path(sys.argv[2])))
"""


def test_no_room_is_one_line_with_the_bytes_and_the_rest_comes_later(tmp_path: Path) -> None:
    make(tmp_path / "m.zarr")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (90, 90))

    here = str(Path(__file__).parent)
    failed = subprocess.run(
        [sys.executable, "-c", FILL, here, str(tmp_path / "m.zarr")],
        env={**importing(here, Path(here).parent), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    assert failed.returncode == 1
    assert "StoreError" in failed.stderr
    assert f"{ROWS * 8 * 4:,} bytes are still to be written" in failed.stderr
    store = open_activations(tmp_path / "m.zarr")
    assert store.missing()[0] == (0, CHUNK)
    fill(store)
    assert broken(tmp_path / "m.zarr") == []


def test_a_full_disk_leaves_no_half_of_a_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "m.zarr")
    store = open_activations(tmp_path / "m.zarr")

    class Full(io.FileIO):
        def write(self, data) -> int:
            super().write(data[:1])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode, **_: Full(path, mode.replace("b", "")))
        with pytest.raises(StoreError, match=r"No space left on device; 704 bytes are still"):
            fill(store)
    assert not list((tmp_path / "m.zarr").glob("layer_*/c/*/*"))
    fill(store)
    assert broken(tmp_path / "m.zarr") == []
