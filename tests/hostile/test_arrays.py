"""Arrays from strangers: refused in one line, in bounded memory and time, with nothing executed
and no file opened that is not theirs."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import zarr
from bounded import tried
from command import here
from safetensors.numpy import save_file

MB = 1 << 20
BOMB = np.zeros(48 * MB, np.uint8)  # in gzip still a file of a size that a chunk could have
SMALL = BOMB[: 8 * MB]  # so in blosc and lz4
MOST_MB = 40  # that reading any of these may take
VALUES = np.ones((4, 2), np.float32)
Make = Callable[[Path], Any]


def zarr2(data: bytes = VALUES.tobytes(), **changes: Any) -> Make:
    """A group of format 2 whose only chunk holds ``data``."""

    def make(root: Path) -> None:
        group = zarr.open_group(root, mode="w", zarr_format=2)
        group.create_array("layer_1", shape=(4, 2), chunks=(4, 2), dtype="f4", compressors=None)
        file = root / "layer_1/.zarray"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
        (root / "layer_1/0.0").write_bytes(data)

    return make


def zarr3(data: bytes = VALUES.tobytes(), **changes: Any) -> Make:
    """The same of format 3."""

    def make(root: Path) -> None:
        group = zarr.open_group(root, mode="w")
        group.create_array("layer_1", shape=(4, 2), chunks=(4, 2), dtype="f4", compressors=None)
        file = root / "layer_1/zarr.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
        chunk = root / "layer_1/c/0/0"
        chunk.parent.mkdir(parents=True)
        chunk.write_bytes(data)

    return make


@cache
def packed(codec: str) -> bytes:
    """A bomb."""
    return encoded(codec, SMALL if codec in ("blosc", "lz4") else BOMB)


def encoded(codec: str, data: Any) -> bytes:
    level = {"level": 9} if codec in ("gzip", "zlib") else {}
    return bytes(numcodecs.get_codec({"id": codec, **level}).encode(data))


BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def grid(*chunk: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(chunk)}}


def shards(inner: list[int], *codecs: Any, index: Any = (BYTES,)) -> list[Any]:
    options = {"chunk_shape": inner, "codecs": list(codecs), "index_codecs": list(index)}
    return [{"name": "sharding_indexed", "configuration": options}]


def sharded_bomb(root: Path) -> None:
    bomb = packed("zstd")
    index = struct.pack("<2Q", 0, len(bomb))
    codecs = shards([4, 2], BYTES, {"name": "zstd", "configuration": {"level": 1}})
    zarr3(bomb + index, codecs=codecs)(root)


def sparse_chunk(root: Path) -> None:
    zarr3()(root)
    os.truncate(root / "layer_1/c/0/0", 1 << 40)


def replaced(part: str, how: Callable[[Path], Any]) -> Make:
    def make(root: Path) -> None:
        zarr3()(root)
        path = root / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        how(path)

    return make


def link_to(target: str) -> Callable[[Path], Any]:
    return lambda path: path.symlink_to(target)


def bound_socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(before)


def consolidated(root: Path) -> None:
    """The document at the top says what the array's own does not."""
    zarr3()(root)
    array = json.loads((root / "layer_1/zarr.json").read_text())
    array["codecs"] = [BYTES, {"name": "numcodecs.pickle"}]
    (root / "zarr.json").write_text(
        json.dumps({
            "zarr_format": 3, "node_type": "group",
            "consolidated_metadata": {"metadata": {"layer_1": array}},
        })
    )  # fmt: skip


ZARR: dict[str, tuple[Make, str]] = {
    **{f"zarr 2, {codec} bomb": (zarr2(packed(codec), compressor={"id": codec}), "unpacks to more")
       for codec in ("blosc", "bz2", "gzip", "lz4", "zlib", "zstd")},
    **{f"zarr 3, {name} bomb": (
        zarr3(packed(name.split(".")[-1]), codecs=[BYTES, {"name": name}]), "unpacks to more")
       for name in ("blosc", "gzip", "zstd", "numcodecs.lz4", "numcodecs.zstd")},
    **{f"zarr 2, filter {codec}": (zarr2(filters=[{"id": codec}]), f"codec '{codec}' is not read")
       for codec in ("pickle", "msgpack2", "json2", "vlen-utf8", "categorize", "delta", "lzma")},
    **{f"zarr 3, codec {codec}": (zarr3(codecs=[BYTES, {"name": codec}]), "is not read; allowed")
       for codec in ("pickle", "numcodecs.pickle", "numcodecs.pcodec", "vlen-bytes", "later")},
    "zarr 3, bombs in a bomb": (
        zarr3(encoded("zstd", packed("zstd")), codecs=[BYTES, "zstd", "zstd"]), "than"),
    "zarr 3, a bomb in a shard": (sharded_bomb, "than"),
    "zarr 3, a codec in a shard": (
        zarr3(codecs=shards([4, 2], BYTES, {"name": "numcodecs.pickle"})), "is not read; allowed"),
    "zarr 3, a codec of an index": (
        zarr3(codecs=shards([4, 2], BYTES, index=[BYTES, "zstd"])), "is not read; allowed: bytes"),
    "zarr 3, countless chunks of a shard": (
        zarr3(shape=[1 << 14, 1 << 14], chunk_grid=grid(1 << 14, 1 << 14),
              codecs=shards([1, 1], BYTES)), "shards of more than"),
    "zarr 3, shards in shards in shards": (
        zarr3(codecs=shards([4, 2], *shards([4, 2], *shards([4, 2], BYTES)))), "is not read"),
    "zarr 3, a giant chunk": (zarr3(chunk_grid=grid(10**6, 10**6)), "chunks of .* bytes; at most"),
    "zarr 3, countless chunks": (
        zarr3(shape=[10**12, 10**6], chunk_grid=grid(1, 1)), "9 of 10+ chunks are gone"),
    "zarr 3, chunks of nothing": (zarr3(chunk_grid=grid(0, 2)), "chunks of shape"),
    "zarr 3, chunks below nothing": (zarr3(chunk_grid=grid(-4, 2)), "chunks of shape"),
    "zarr 3, a shape of text": (zarr3(shape=["4", "x"]), "cannot be read"),
    "zarr 3, a shape below nothing": (zarr3(shape=[-4, 2]), "cannot be read"),
    "zarr 3, a shape without end": (zarr3(shape=[10**4000, 2]), "cannot be read"),
    "zarr 3, codecs without end": (zarr3(codecs=[BYTES] * 10_000), "list of codecs"),
    "zarr 3, dtypes without end": (zarr3(data_type="f4," * 100_000), "holds f4,f4"),
    "zarr 3, elements of nothing": (
        zarr3(codecs=[BYTES, {"name": "numcodecs.shuffle", "configuration": {"elementsize": 0}}]),
        "of elements of 0 bytes"),
    "zarr 3, samples without end": (
        zarr3(encoded("zstd", np.zeros(1 << 20, "u1")), shape=[1 << 28, 1],
              chunk_grid=grid(1 << 28, 1), codecs=[BYTES, "zstd"]), "samples of width 1; at most"),
    "zarr 3, one document for all": (consolidated, "'numcodecs.pickle' is not read"),
    "zarr 3, a sparse chunk": (sparse_chunk, "more than a chunk can hold"),
    "zarr 3, a pipe as chunk": (replaced("layer_1/c/0/0", os.mkfifo), "a pipe"),
    "zarr 3, a socket as chunk": (replaced("layer_1/c/0/0", bound_socket), "a pipe, a socket"),
    "zarr 3, a device as chunk": (replaced("layer_1/c/0/0", link_to("/dev/zero")), "a link that"),
    "zarr 3, a pipe as document": (replaced("layer_1/zarr.json", os.mkfifo), "a pipe"),
    "zarr 3, a device as document": (
        replaced("layer_1/zarr.json", link_to("/dev/zero")), "a pipe, a socket or a device"),
    "zarr 3, a chunk that is a link out": (
        replaced("layer_1/c/0/0", link_to("/etc/hostname")), "leads out of its folder"),
    "zarr 3, a folder that is a link out": (
        replaced("layer_1/c", link_to("/etc")), "leads out of its folder"),
    "zarr 3, a link in a circle": (replaced("layer_1/c/0/0", link_to("0")), "cannot be read"),
    "zarr 3, a document in deep lists": (
        replaced("layer_1/zarr.json", lambda p: p.write_text("[" * 200_000)), "cannot be read"),
    "zarr 3, a sparse document": (
        replaced("layer_1/zarr.json", lambda p: (p.touch(), os.truncate(p, 1 << 40))),
        "larger than"),
}  # fmt: skip


def npy(descr: str = "'<f4'", shape: str = "(4, 2)", data: bytes = VALUES.tobytes(),
        length: int | None = None, version: int = 1) -> bytes:  # fmt: skip
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode() + b"\n"
    count = len(header) if length is None else length
    told = bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", count)
    return b"\x93NUMPY" + told + header + data


def alone(content: bytes) -> Make:
    return lambda path: (path.mkdir(), (path / "layer_1.npy").write_bytes(content))


def zipped(content: bytes, kind: int = zipfile.ZIP_DEFLATED, count: int = 1, fill: int = 0) -> Make:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", kind) as archive:
            for number in range(1, count + 1):
                with archive.open(f"layer_{number}.npy", "w", force_zip64=True) as file:
                    file.write(content)
                    for _ in range(fill):
                        file.write(bytes(16 * MB))

    return make


LONG = npy(length=1 << 27, version=2)
NUMPY: dict[str, tuple[Make, str]] = {
    "npy, objects": (alone(npy("'|O'")), "Python objects"),
    "npy, an absurd shape": (alone(npy(shape="(10**3, 2)")), "cannot be read"),
    "npy, a giant shape": (alone(npy(shape="(1000000000, 1000000000)")), "cut short"),
    "npy, a shape below nothing": (alone(npy(shape="(-4, 2)")), "of shape"),
    "npy, a header without end": (alone(LONG), "a header of"),
    "npy, deep brackets": (alone(npy(shape="(" * 4000)), "cannot be read"),
    "npy, a pickle": (alone(b"\x80\x04cposix\nsystem\n(S'touch canary'\ntR."), "cannot be read"),
    "npy, a pipe": (lambda p: (p.mkdir(), os.mkfifo(p / "layer_1.npy")), "a pipe"),
    "npy, a device": (
        lambda p: (p.mkdir(), (p / "layer_1.npy").symlink_to("/dev/zero")), "a pipe, a socket"),
    "npy, elements of nothing": (alone(npy("'|V0'")), "an array of shape"),
    "npz, objects": (zipped(npy("'|O'")), "Python objects"),
    "npz, a header without end": (zipped(LONG, fill=8), "a header of"),
    "npz, a giant shape": (zipped(npy(shape="(1000000000, 1000000000)")), "cut short"),
    "npz, packed with bz2": (zipped(npy(), zipfile.ZIP_BZIP2), "as NumPy never does"),
    "npz, packed with lzma": (zipped(npy(), zipfile.ZIP_LZMA), "as NumPy never does"),
    "npz, arrays without end": (zipped(npy(), zipfile.ZIP_STORED, 5000), "5,000 arrays; at most"),
    "npz, a bomb": (zipped(npy(shape="(4, 4194304)"), fill=5), "at most .* width"),
    "npz, no zip": (lambda p: p.write_bytes(b"PK\x03\x04 and no more"), "cannot be read"),
    "npz, a pipe": (os.mkfifo, "a pipe"),
}  # fmt: skip


def hdf5(make: Callable[[h5py.File], Any]) -> Make:
    def made(path: Path) -> None:
        with h5py.File(path.parent / "elsewhere.h5", "w") as other:
            other["layer_1"] = VALUES
        with h5py.File(path, "w") as file:
            make(file)

    return made


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4, 2), "f4")
    layout[...] = h5py.VirtualSource("elsewhere.h5", "layer_1", (4, 2))
    file.create_virtual_dataset("layer_1", layout)


def direct(data: bytes, **options: Any) -> Callable[[h5py.File], Any]:
    """A data set whose only chunk is ``data``, as it stands."""

    def make(file: h5py.File) -> None:
        made = file.create_dataset("layer_1", (4, 4096), "f4", chunks=(4, 4096), **options)
        made.id.write_direct_chunk((0, 0), data)

    return make


def other_filter(code: int) -> Callable[[h5py.File], Any]:
    def make(file: h5py.File) -> None:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4, 2))
        plist.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple((4, 2))
        made = h5py.h5d.create(file.id, b"layer_1", h5py.h5t.IEEE_F32LE, space, plist)
        made.write_direct_chunk((0, 0), VALUES.tobytes())

    return make


def deep(file: h5py.File) -> None:
    group: Any = file
    for _ in range(200):
        group = group.create_group("a")


def circle(file: h5py.File) -> None:
    """Two names of one group inside itself: twice as many paths with each step down."""
    group = file.create_group("a")
    group["layer_1"] = VALUES
    group["b"] = group["c"] = group


DEFLATED = zlib.compress(bytes(64 * MB), 9)
HDF5: dict[str, tuple[Make, str]] = {
    "hdf5, an external link": (
        hdf5(lambda f: f.__setitem__("layer_1", h5py.ExternalLink("elsewhere.h5", "layer_1"))),
        "'layer_1' is a link to 'elsewhere.h5'"),
    "hdf5, a soft link": (
        hdf5(lambda f: f.__setitem__("layer_1", h5py.SoftLink("/x"))), "a link to '/x'"),
    "hdf5, a virtual data set": (hdf5(virtual), "in other files"),
    "hdf5, external storage": (
        hdf5(lambda f: f.create_dataset("layer_1", (4, 2), "f4",
                                        external=[("/etc/hostname", 0, 32)])), "in other files"),
    "hdf5, a bomb": (hdf5(direct(DEFLATED, compression="gzip")), "unpacks to more"),
    "hdf5, a bomb with a checksum": (
        hdf5(direct(DEFLATED + b"abcd", compression="gzip", fletcher32=True)), "unpacks to more"),
    "hdf5, a giant bomb": (
        hdf5(direct(zlib.compress(bytes(256 * MB)), compression="gzip")), "more than it can hold"),
    "hdf5, a filter of a plugin": (hdf5(other_filter(32015)), "filter .* is not read; allowed"),
    "hdf5, nbit": (hdf5(other_filter(5)), "filter .* is not read; allowed: gzip"),
    "hdf5, a giant chunk": (
        hdf5(lambda f: f.create_dataset("layer_1", (1 << 20, 1 << 20), "f2",
                                        chunks=(1 << 15, 1 << 15), compression="gzip")),
        "chunks were never written"),
    "hdf5, countless chunks": (
        hdf5(lambda f: f.create_dataset("layer_1", (1 << 40, 1), "f4", chunks=(1, 1))),
        "chunks were never written"),
    "hdf5, nothing written": (
        hdf5(lambda f: f.create_dataset("layer_1", (1 << 40, 1 << 10), "f4")), "ever written"),
    "hdf5, deep groups": (hdf5(deep), "without end"),
    "hdf5, text": (
        hdf5(lambda f: f.create_dataset("layer_1", (4,), h5py.string_dtype())), "expected"),
    "hdf5, a pipe": (os.mkfifo, "a pipe"),
    "hdf5, a device": (lambda p: p.symlink_to("/dev/zero"), "a pipe, a socket or a device"),
}  # fmt: skip


def tensors(header: bytes, data: bytes = VALUES.tobytes(), length: int | None = None) -> Make:
    size = struct.pack("<Q", len(header) if length is None else length)
    return lambda path: path.write_bytes(size + header + data)


def tensor(shape: Any, offsets: Any = (0, 32), dtype: str = "F32") -> bytes:
    told = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    return json.dumps({"layer_1": told}).encode()


SAFETENSORS: dict[str, tuple[Make, str]] = {
    "safetensors, a header without end": (tensors(b"{}", length=90 * MB), "a header of"),
    "safetensors, a header past all": (tensors(b"{}", length=2**64 - 1), "a header of"),
    "safetensors, an absurd shape": (tensors(tensor([2**40, 2**40])), "cannot be read"),
    "safetensors, offsets past the end": (tensors(tensor([4, 2], [0, 2**40])), "cannot be read"),
    "safetensors, offsets backwards": (tensors(tensor([4, 2], [32, 0])), "cannot be read"),
    "safetensors, arrays without end": (
        lambda p: save_file({f"l.{i}": VALUES for i in range(5000)}, p), "5,000 arrays; at most"),
    "safetensors, deep lists": (tensors(b"[" * 100_000), "cannot be read"),
    "safetensors, a layer without end": (
        lambda p: save_file({"l." + "9" * 5000: VALUES}, p), "no layer's number"),
    "safetensors, a pipe": (os.mkfifo, "a pipe"),
}  # fmt: skip
SUFFIXES = {"zarr": ".zarr", "npy": "", "npz": ".npz", "hdf5": ".h5", "safetensors": ".safetensors"}
ALL = {**ZARR, **NUMPY, **HDF5, **SAFETENSORS}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int, str]]:
    """Case -> what was raised, the MB that it took, and the message."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = []
    for number, (name, (make, _)) in enumerate(ALL.items()):
        paths.append(folder / f"{number}{SUFFIXES[name.partition(',')[0].split()[0]]}")
        make(paths[-1])
    done = tried("activations", *paths)
    return dict(zip(ALL, done, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_arrays_of_a_stranger(name: str, outcomes: dict[str, tuple[str, int, str]]) -> None:
    raised, taken, told = outcomes[name]
    assert raised in ("StoreError", "DataError"), told
    assert re.search(ALL[name][1], told), told
    assert len(told) < 600
    assert "\n" not in told
    assert taken < MOST_MB


CONFIG = """
[run]
dir = "run"
device = "cpu"

[models.a]
source = "activations"
path = "{path}"

[models.b]
source = "activations"
path = "{path}"

[[cka]]
name = "map"
y = "a"
x = "b"
batch_size = 4
"""
TOLD = [
    "zarr 2, filter pickle", "zarr 2, zstd bomb", "zarr 3, a pipe as document", "npy, a pipe",
    "npz, objects", "hdf5, an external link", "hdf5, a filter of a plugin", "hdf5, a bomb",
    "safetensors, a header without end",
]  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_the_command_says_it_in_a_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"hostile{SUFFIXES[name.partition(',')[0].split()[0]]}"
    ALL[name][0](path)
    (tmp_path / "c.toml").write_text(CONFIG.format(path=path))
    for command in ("check", "run"):
        done = here(command, "c.toml", cwd=tmp_path)
        assert "Traceback" not in done.stdout + done.stderr
        if command == "run":
            assert done.returncode in (1, 2)
            assert re.search(ALL[name][1], done.stderr.splitlines()[-1])
    assert not (tmp_path / "canary").exists()
