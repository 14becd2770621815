"""Stores behind a URL read as on a disk, or are refused in one line; fsspec's memory stands in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

from engramcka import open_run
from engramcka.cli import info
from engramcka.config import load_config
from engramcka.errors import EngramckaError, StoreError
from engramcka.stores import create_activations, manifest, open_activations, remote
from engramcka.stores.foreign.hidden_states import open_foreign
from engramcka.stores.verify import verify

N, WIDTH = 30, 5
URL = "memory://bucket/m.zarr"
VALUES = np.random.default_rng(0).normal(size=(N, WIDTH)).astype(np.float32)


@pytest.fixture
def files() -> Iterator[fsspec.AbstractFileSystem]:
    """The file system behind memory://, empty."""
    memory = fsspec.filesystem("memory")
    yield memory
    memory.rm("/", recursive=True)


def make(path: Path, compression: str = "none") -> Path:
    store = create_activations(
        path,
        layers=[1, 2],
        width=WIDTH,
        dtype="float32",
        samples={"document": np.full(N, "größe"), "start": np.arange(N), "end": np.arange(N) + 1},
        attributes={"label": "M", "corpus": "text", "identity": "span"},
        inputs={"seed": 0},
        readouts={"kl": 2},
        compression=compression,
        chunk_samples=8,
        part_samples=4,
    )
    for start, stop in store.missing():
        blocks = {layer: VALUES[start:stop] * layer for layer in (1, 2)}
        store.write(start, blocks, {"kl": VALUES[start:stop, :2]})
    return path


def read_all(url: str) -> None:
    store = open_activations(url)
    for array in (*store.layers.values(), *store.readouts.values()):
        array[0:N]


@pytest.fixture
def store(tmp_path: Path, files: fsspec.AbstractFileSystem) -> Path:
    """A finished store on disk, and the same behind URL."""
    path = make(tmp_path / "m.zarr")
    open_activations(path).finalize()
    files.put(str(path), "/bucket/m.zarr", recursive=True)
    return path


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_store_reads_as_on_a_disk(
    store: Path, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if asynchronous:  # as s3 and gs are: several requests at once
        wrapped = AsyncFileSystemWrapper(fsspec.filesystem("file"), asynchronous=False)
        monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: (wrapped, str(store)))
    here, there = open_activations(store), open_activations(URL)
    for layer in (1, 2):
        for start, stop in ((0, N), (3, 29), (8, 16), (5, 6), (30, 30)):
            assert (there.layers[layer][start:stop] == here.layers[layer][start:stop]).all()
    rows = np.array([29, 0, 7, 7])
    assert (there.layers[2].take(rows)[0:4] == VALUES[rows] * 2).all()
    assert (there.readouts["kl"][0:N] == VALUES[:, :2]).all()
    assert {k: v.tolist() for k, v in there.samples.items()} == {
        k: v.tolist() for k, v in here.samples.items()
    }
    assert (there.attributes, there.missing(), there.is_complete) == (here.attributes, [], True)
    (mine,), (theirs,) = verify(store), verify(URL)
    assert (theirs.broken, theirs.files, theirs.bytes) == ([], mine.files, mine.bytes)


def test_a_compressed_store(tmp_path: Path, files: fsspec.AbstractFileSystem) -> None:
    open_activations(make(tmp_path / "z.zarr", "zstd")).finalize()
    files.put(str(tmp_path / "z.zarr"), "/z.zarr", recursive=True)
    assert (open_activations("memory://z.zarr").layers[1][2:27] == VALUES[2:27]).all()


def test_only_what_is_asked_for_is_fetched(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = open_activations(URL).layers[1]
    fetched = []
    whole = remote.RemotePath.read

    def counted(path: remote.RemotePath, start: int, stop: int) -> bytes:
        fetched.append(stop - start)
        return whole(path, start, stop)

    monkeypatch.setattr(remote.RemotePath, "read", counted)
    layer[4:8]
    assert fetched == [2 * 16 + 4, 4 * WIDTH * 4 + 4]  # the index of a shard of two parts, and one


def test_any_damage_is_named_and_never_read_as_something_else(
    store: Path, files: fsspec.AbstractFileSystem
) -> None:
    names = [path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()]
    for name in names:
        content = files.cat_file(f"/bucket/m.zarr/{name}")
        damaged = bytearray(content)
        damaged[len(damaged) // 2] ^= 1
        for bad in (bytes(damaged), content[:-3], None):
            files.rm_file(f"/bucket/m.zarr/{name}")
            if bad is not None:
                files.pipe_file(f"/bucket/m.zarr/{name}", bad)
            try:
                (checked,) = verify(URL)
                told = checked.broken
            except StoreError as error:
                told = [str(error)]
            where = "m.zarr" if name.startswith("manifest/") else name
            assert any(f"{URL.removesuffix('m.zarr')}m.zarr" in line for line in told), name
            assert any(where in line for line in told), (name, told)
            with pytest.raises(StoreError):
                read_all(URL)
        files.pipe_file(f"/bucket/m.zarr/{name}", content)
    assert [checked.broken for checked in verify(URL)] == [[]]


def test_a_manifest_that_leads_out_is_refused_before_anything_is_written(
    store: Path, files: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    listed = manifest.attributes(store)
    manifest.write_node(
        store / manifest.GROUP, {**listed, "files": {"../../outside": [3, 0], **listed["files"]}}
    )
    files.put(str(store / "manifest/zarr.json"), "/bucket/m.zarr/manifest/zarr.json")
    files.pipe_file("/outside", b"abc")
    with pytest.raises(StoreError, match=r"lists '\.\./\.\./outside', outside of it"):
        open_activations(URL)


def test_what_is_not_there_or_not_finished(
    tmp_path: Path, files: fsspec.AbstractFileSystem
) -> None:
    files.put(str(make(tmp_path / "half.zarr")), "/half.zarr", recursive=True)
    for url, says in (
        ("memory://nowhere", "no finished activation store there"),
        ("memory://half.zarr", "no finished activation store there"),
        ("no-such-protocol://x", "Protocol not known"),
    ):
        with pytest.raises(StoreError, match=says) as error:
            open_activations(url)
        assert error.value.exit_code == 2
    for url, says in (
        ("memory://nowhere.npz", "no Zarr group there; of a URL only Zarr is read"),
        ("memory://half.zarr", "an activation store without its manifest"),
    ):
        with pytest.raises(EngramckaError, match=says) as error, open_foreign(url):
            pass
        assert error.value.exit_code == 2
        assert "\n" not in str(error.value)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", absent)
    with pytest.raises(StoreError, match=r"install it with: pip install 'engramcka\[s3\]'"):
        open_activations("s3://bucket/m.zarr")


@pytest.mark.parametrize("asked", ["size", "cat_file"])
@pytest.mark.parametrize(
    ("error", "cause", "says"),
    [
        (FileNotFoundError("x"), ConnectionError("nobody answers"), r"read \(nobody answers\)"),
        (PermissionError(13, "Forbidden"), None, r"read \(Forbidden\)"),
        (ValueError("Access Denied\nmore"), None, r"read \(Access Denied\)"),
    ],
)
def test_what_goes_wrong_on_the_way_is_not_a_store_that_is_not_there(
    store: Path,
    asked: str,
    error: Exception,
    cause: Exception | None,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error from cause

    layer = open_activations(URL).layers[1]
    monkeypatch.setattr(type(fsspec.filesystem("memory")), asked, fails)
    for act in (lambda: open_activations(URL), lambda: layer[0:4], lambda: has_failed(URL)):
        with pytest.raises(StoreError, match=says):
            act()


def has_failed(url: str) -> None:
    with open_foreign(url):
        pass


def test_arrays_of_anybodys_behind_a_url(files: fsspec.AbstractFileSystem) -> None:
    group = zarr.open_group("memory://theirs.zarr", mode="w")
    for number in (3, 1):
        array = group.create_array(f"h{number}", shape=(N, WIDTH), chunks=(7, WIDTH), dtype="f4")
        array[...] = VALUES * number
    with open_foreign("memory://theirs.zarr") as found:
        assert (list(found.layers), found.shape, found.store) == ([1, 3], (N, WIDTH), None)
        for number, rows in found.rows(slice(5, 20)):
            assert (rows == VALUES[5:20] * number).all()
    files.rm_file("/theirs.zarr/h3/c/1/0")
    with (
        pytest.raises(StoreError, match=r"'h3' cannot be read \(1 of 5 chunks are gone\)"),
        open_foreign("memory://theirs.zarr"),
    ):
        pass


def test_nothing_is_written_behind_a_url(store: Path, tmp_path: Path) -> None:
    found = open_activations(URL)
    for act in (lambda: found.discard_chunk(0), found.finalize, lambda: found.write(0, {})):
        with pytest.raises(StoreError, match="is read only"):
            act()
    config = tmp_path / "c.toml"
    config.write_text('[run]\ndir = "s3://bucket/run"\n')
    with pytest.raises(EngramckaError, match=r"run\.dir: found 's3://bucket/run'; a run is"):
        load_config(config)
    with pytest.raises(StoreError, match="a run is opened in a folder, copy it here"):
        open_run("s3://bucket/run")


def test_info_says_what_is_there(store: Path, files: fsspec.AbstractFileSystem) -> None:
    facts = info.describe(URL)
    assert (facts["samples"], facts["complete"], facts["damaged"]) == (N, True, [])
    files.pipe_file("/bucket/m.zarr/layer_02/c/1/0", b"short")
    (line,) = json.loads(json.dumps(info.describe(URL)["damaged"]))
    assert line.startswith(f"{URL}/layer_02/c/1/0: cannot be read (5 bytes,")
