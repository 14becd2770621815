"""Runs from strangers: nothing of them is executed, followed or waited for; nothing swells."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from command import ENVIRONMENT, here
from numcodecs.pickles import Pickle
from numcodecs.registry import register_codec
from numcodecs.zstd import Zstd

from engramcka.results import LossSweep
from engramcka.stores import manifest, write_result

COMMANDS = (["info"], ["verify"], ["browse", "--once"])
READING = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from engramcka.cli import main
sys.argv = ["engramcka", *sys.argv[1:]]
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""
SWOLLEN = 400 << 20  # bytes
Change = Callable[[Path], object]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished / "run", tmp_path / "run")
    shutil.copy(finished / "config.toml", tmp_path)
    return tmp_path / "run"


def bounded(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The real command, in 3 GiB and 60 seconds at most."""
    return subprocess.run(
        [sys.executable, "-c", READING, *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def refused(result: subprocess.CompletedProcess[str]) -> bool:
    """Whether it said something in one line, or showed the rest; never a traceback."""
    assert "Traceback" not in result.stdout + result.stderr, result.stderr
    assert result.returncode in (0, 1, 2)
    return result.returncode != 0 or "cannot be read" in result.stdout + result.stderr


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["written", "samples/document"])
def test_a_store_of_format_2_executes_nothing(tmp_path: Path, name: str) -> None:
    """Case 2.1: zarr itself runs what is in it."""
    register_codec(Pickle)
    store, canary = tmp_path / "theirs.zarr", tmp_path / "executed"
    group = zarr.open_group(store, mode="w", zarr_format=2)
    group.attrs.update(
        engramcka_type="activations", engramcka_version=2, n_samples=1, chunk_samples=1,
        dtype="float32", arrays=["layer_01"], inputs={},
    )  # fmt: skip
    folder = store / name
    folder.mkdir(parents=True)
    (store / "samples").mkdir(exist_ok=True)
    (store / "samples/.zgroup").write_text('{"zarr_format": 2}')
    described = {
        "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": None, "order": "C",
        "filters": [{"id": "vlen-utf8"}], "compressor": {"id": "pickle", "protocol": 5},
        "zarr_format": 2,
    }  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(described))
    (folder / "0").write_bytes(pickle.dumps(Canary(canary)))
    run = tmp_path / "run/activations"
    run.mkdir(parents=True)
    (run.parent / "config.toml").write_text("")
    shutil.copytree(store, run / "theirs.zarr")
    for command in COMMANDS:
        for place in ("theirs.zarr", "run"):
            assert refused(here(*command[:1], place, *command[1:], cwd=tmp_path))
    assert not canary.exists()


def attributes(where: str = "activations/moe.zarr", **values: Any) -> Change:
    """Change attributes of a store or result, and seal it again so that no checksum helps."""

    def change(run: Path) -> None:
        node = json.loads((run / where / "zarr.json").read_text())
        node["attributes"].update(values)
        (run / where / "zarr.json").write_text(json.dumps(node))
        reseal(run / where)

    return change


def array(path: str, **values: Any) -> Change:
    """Change the metadata of an array; of a result, seal it again."""

    def change(run: Path) -> None:
        folder = run / path
        node = json.loads((folder / "zarr.json").read_text())
        for key, value in values.items():
            node[key] = value
        (folder / "zarr.json").write_text(json.dumps(node))
        reseal(folder.parent)

    return change


def reseal(folder: Path) -> None:
    if "results.zarr" in folder.parts:
        (folder / "manifest/zarr.json").unlink()
        manifest.finalize(folder, f"{folder.parent.name}/{folder.name}")
    else:
        for store in (folder, *folder.parents):
            if store.suffix == ".zarr":
                (store / "manifest/zarr.json").unlink()


def bomb(run: Path) -> None:
    """Case 2.5: a few KB of zstd that unpack to 400 MB, in an array of 6 x 6."""
    folder = run / "results.zarr/cka/self/similarity"
    content = Zstd(1).encode(np.zeros(SWOLLEN, np.uint8))
    (folder / "c/0/0").write_bytes(content)
    zstd = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
    array("results.zarr/cka/self/similarity", codecs=[LITTLE, zstd])(run)


def sample_bomb(run: Path) -> None:
    """The same in the sample table, where older stores are compressed."""
    folder = run / "activations/moe.zarr/samples/start"
    (folder / "c/0").write_bytes(Zstd(1).encode(np.zeros(SWOLLEN, np.uint8)))
    zstd = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
    array("activations/moe.zarr/samples/start", codecs=[LITTLE, zstd])(run)


def odd_sweep(**values: Any) -> Change:
    """A sweep that somebody made to fit, with attributes of other types."""

    def change(run: Path) -> None:
        lines = {"reference": {"dense": 1.5}, "variants": {"no gate": 1.25}}
        sweep = LossSweep((1, 2), np.ones((2, 1)), np.ones(1), **lines)
        write_result(run / "results.zarr", "odd", sweep, {})
        attributes(where="results.zarr/sweep/odd", **values)(run)

    return change


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
SIMILARITY = "results.zarr/cka/self/similarity"
LAYER = "activations/moe.zarr/layer_01"
HUGE = {"name": "regular", "configuration": {"chunk_shape": [1 << 40, 96]}}
HOSTILE: dict[str, Change] = {
    "countless samples": attributes(n_samples=10**15),
    "countless chunks": attributes(n_samples=10**12, chunk_samples=1),
    "no samples a chunk": attributes(chunk_samples=0),
    "negative samples": attributes(n_samples=-1),
    "samples that are text": attributes(n_samples="many"),
    "samples that are true": attributes(n_samples=True),
    "samples that are a fraction": attributes(n_samples=64.5),
    "a dtype that is none": attributes(dtype="nonsense"),
    "a dtype that is missing": attributes(dtype=None),
    "arrays that are a number": attributes(arrays=7),
    "arrays outside of the store": attributes(arrays=["../../engram.zarr/layer_01"]),
    "arrays named twice": attributes(arrays=["layer_01", "layer_01"]),
    "countless arrays": attributes(arrays=[f"layer_{n}" for n in range(200_000)]),
    "inputs that are a list": attributes(inputs=[1]),
    "a model that is a number": attributes(model=7),
    "a label without end": attributes(label="x" * 1_000_000),
    "references that are a list": odd_sweep(reference=["x"]),
    "references that are text": odd_sweep(reference={"dense": "low"}),
    "ablations that are numbers": odd_sweep(variants=[7]),
    "counts that are text": attributes(left_out={"cut_off": "many"}),
    "a zstd bomb in a result": bomb,
    "a zstd bomb in the samples": sample_bomb,
    "an array of objects": array(SIMILARITY, data_type="object"),
    "an array of huge shape": array(SIMILARITY, shape=[1 << 40, 1 << 40]),
    "a layer of huge chunks": array(LAYER, chunk_grid=HUGE),
    "a layer of another shape": array(LAYER, shape=[65, 96]),
    "a fill value": array(SIMILARITY, fill_value=0.9),
    "keys that are names": array(LAYER, chunk_key_encoding={"name": "v2"}),
    "a transformer": array(SIMILARITY, storage_transformers=[{"name": "x"}]),
    "text where numbers are": array(SIMILARITY, data_type="string"),
    "an unknown key": array(SIMILARITY, extension={"name": "run"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_is_refused_in_bounded_memory(run: Path, name: str) -> None:
    HOSTILE[name](run)
    for command in ("info", "verify"):
        result = bounded(command, "run", cwd=run.parent) if "bomb" in name or (
            "countless" in name
        ) else here(command, "run", cwd=run.parent)  # fmt: skip
        unread = command == "info" and "in the samples" in name
        assert refused(result) or unread, (command, result.stdout)


@pytest.mark.parametrize("change", [bomb, sample_bomb])
def test_a_bomb_swells_nothing(run: Path, change: Change) -> None:
    def peak() -> int:
        done = bounded("verify", "run", cwd=run.parent)
        refused(done)
        return int(done.stderr.splitlines()[-1]) << 10

    before = peak()
    change(run)
    assert peak() - before < SWOLLEN // 4


def test_names_in_names_in_names_swell_nothing(run: Path) -> None:
    """300 of 15,000 characters, each in the one before: 4.5 MB that once became 670 MB."""
    model: dict[str, Any] = {}
    for _ in range(300):
        model = {"k" * 15_000: model, "l": 1}
    attributes(model=model)(run)
    result = bounded("info", "run/activations/moe.zarr", cwd=run.parent)
    assert not refused(result)
    assert len(result.stdout) < 100_000


ODD: dict[str, Change] = {
    "pipe": os.mkfifo,
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    "folder": Path.mkdir,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
}
FILES = [
    "results.zarr/cka/self/manifest/zarr.json",
    "results.zarr/cka/self/zarr.json",
    "results.zarr/cka/zarr.json",
    "results.zarr/zarr.json",
    "results.zarr/cka/self/similarity/c/0/0",
    "activations/moe.zarr/zarr.json",
    "activations/moe.zarr/manifest/zarr.json",
    "activations/moe.zarr/written/c/0/0/0",
    "activations/moe.zarr/layer_01/zarr.json",
    "activations/moe.zarr/layer_01/c/0/0",
    "activations/moe.zarr/samples/start/c/0",
    "checkpoints/tokenizer/manifest.json",
    "checkpoints/tokenizer/tokenizer.json",
    "figures/cka-self.png",
    "manifest.json",
    "log.jsonl",
    "config.toml",
]


@pytest.mark.parametrize("what", ODD)
def test_what_is_no_file_hangs_no_command(
    run: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 2.6; each in turn, as other tests do it one by one."""
    monkeypatch.chdir(run)  # the path of a socket is short
    for name in FILES:
        path = Path(name)
        content = path.read_bytes()
        path.unlink()
        ODD[what](path)
        for command in COMMANDS:
            result = here(*command[:1], str(run), *command[1:], cwd=run.parent)
            assert refused(result) or command[0] != "verify", (name, command, result.stdout)
        path.rmdir() if what == "folder" else path.unlink()
        path.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    ["results.zarr", "activations", "figures", "checkpoints", "results.zarr/cka",
     "results.zarr/cka/self", "activations/moe.zarr", "activations/moe.zarr/layer_01",
     "activations/moe.zarr/layer_01/c", "checkpoints/tokenizer", "checkpoints/MODEL"],
)  # fmt: skip
def test_no_link_in_a_run_is_followed(run: Path, name: str) -> None:
    """Case 2.4: for reading or for writing."""
    name = name.replace("MODEL", next((run / "checkpoints").glob("moe-tiny-seed0-*")).name)
    outside = run.parent / "outside"
    shutil.move(run / name, outside)
    before = sorted((path, path.lstat().st_mtime_ns) for path in outside.rglob("*"))
    (run / name).symlink_to(outside)
    assert here("verify", "run", cwd=run.parent).returncode == 1
    for command in (["info", "run"], ["browse", "run", "--once"], ["run", "config.toml"]):
        refused(here(*command, cwd=run.parent))
    assert sorted((path, path.lstat().st_mtime_ns) for path in outside.rglob("*")) == before
    # Else the link is still there and refused, or the run has put its own in the link's place.
    is_whole = here("verify", "run", cwd=run.parent).returncode == 0
    assert is_whole != (run / name).is_symlink()


def test_an_inventory_deletes_nothing_outside(run: Path) -> None:
    """One that lists a figure in a folder that is a link; `import` puts the inventory away."""
    mine = run.parent / "elsewhere/thesis.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    (run / "figures/sub").symlink_to(mine.parent)
    listed = {**manifest.files(run), "figures/sub/thesis.txt": (9, 9)}
    more = {key: manifest.attributes(run)[key] for key in ("log", "folders")}
    manifest.write(run, listed, None, more)
    np.save(run.parent / "map.npy", np.eye(3))
    refused(here("import", "map.npy", "--as", "cka", "--into", "run", cwd=run.parent))
    refused(here("run", "config.toml", cwd=run.parent))
    assert mine.read_text() == "mine"


def test_a_training_under_a_link_is_not_cleared(run: Path) -> None:
    model = next((run / "checkpoints").glob("moe-tiny-seed0-*"))
    shutil.rmtree(model)
    mine = run.parent / "project/trainer/file"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    (run / f"checkpoints/.{model.name}.training").symlink_to(run.parent / "project")
    result = here("run", "config.toml", cwd=run.parent)
    assert result.returncode == 1
    assert "a link; a run holds none inside" in result.stderr
    assert mine.read_text() == "mine"


def test_scratch_that_is_a_link_is_left(run: Path) -> None:
    outside = run.parent / "outside"
    outside.mkdir()
    for folder in (run, run / "activations"):
        (folder / ".aaaaaaaaaaaa.tmp").symlink_to(outside)
    shutil.rmtree(run / "results.zarr/cka/self")
    assert here("run", "config.toml", cwd=run.parent).returncode == 0
    assert not list(outside.iterdir())


@pytest.mark.parametrize("facts", [[1e400, 1], [-1, 2], ["many", 1], [1], 7, [True, False]])
def test_a_manifest_with_odd_numbers_is_one_line(run: Path, facts: Any) -> None:
    for folder in (run, run / "results.zarr/cka/self", run / "activations/moe.zarr"):
        said = manifest.attributes(folder)
        for name in ("a.txt", "\ud800"):
            more = {key: value for key, value in said.items() if key not in ("files", "name")}
            manifest.write(folder, {**said["files"], name: facts}, said.get("name"), more)
            for command in COMMANDS:
                result = here(*command[:1], "run", *command[1:], cwd=run.parent)
                assert refused(result) or command != ["verify"]
        manifest.write(folder, said["files"], said.get("name"), more)


def test_a_run_that_is_a_link_is_a_run(run: Path) -> None:
    (run.parent / "alias").symlink_to("run")
    assert here("verify", "alias", cwd=run.parent).returncode == 0
    assert "cka/self" in here("info", "alias", cwd=run.parent).stdout
