"""Files of other programs mutated at random: taken, or refused in one line; no other end, no hang,
no more memory. The seed is the case's number, so that every one can be made again."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from bounded import tried
from safetensors.numpy import save_file
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

SHORT, FULL = 20, 500  # files of each kind
AT_ONCE = 250
MOST_MB = 200
TAKEN = ("taken", "StoreError", "DataError", "DataKeyError")
VALUES = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
ODD = [None, True, -1, 0, 1, 2**31, 2**63, 10**30, 1e308, "", "x", "\ud800", "../../x", "|O",
       "f4,f4",
       "pickle", [], [0], [-1, 2], [10**9] * 2, [[]], {}, {"id": "pickle"}, {"name": "later"},
       "NaN", "numcodecs.pickle", "transpose", 4096, 1 << 20]  # fmt: skip


def zarr3(path: Path) -> None:
    group = zarr.open_group(path, mode="w")
    group.create_array("layer_1", data=VALUES, chunks=(5, 6), shards=(20, 6))
    group.create_array("layer_2", data=VALUES, chunks=(20, 3))


def zarr2(path: Path) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("layer_1", data=VALUES, chunks=(20, 6))
    for number, codec in enumerate(("blosc", "gzip", "lz4"), start=2):
        group.create_array(
            f"layer_{number}", data=VALUES, chunks=(20, 6),
            compressors=numcodecs.get_codec({"id": codec}), filters=[numcodecs.Shuffle(4)],
        )  # fmt: skip


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("deep/layer_1", data=VALUES, chunks=(10, 6), compression="gzip",
                            shuffle=True, fletcher32=True)  # fmt: skip
        file.create_dataset("deep/layer_2", data=VALUES, chunks=(10, 6), compression="lzf")
        file["layer_3"] = VALUES


def events(path: Path) -> None:
    with path.open("wb") as file:
        for number in range(6):
            event = Event(step=number)
            event.summary.value.add(tag=f"layer_{number % 3 + 1}/loss", simple_value=1.5)
            RecordWriter(file).write(event.SerializeToString())


def rows(make: Callable[[int], Any]) -> Callable[[Path], Any]:
    return lambda path: path.write_text("".join(json.dumps(make(i)) + "\n" for i in range(20)))


def parquet(path: Path) -> None:
    spans = [[{"start": 0, "end": 2, "type": "a"}]] * 50
    table = pa.table({"text": [f"text {i % 3}" for i in range(50)], "entities": spans})
    pq.write_table(table, path, row_group_size=20)


LAYERS = {"layer_1": VALUES, "layer_2": VALUES}
KINDS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "zarr 3": ("activations", ".zarr", zarr3),
    "zarr 2": ("activations", ".zarr", zarr2),
    "hdf5": ("activations", ".h5", hdf5),
    "npz": ("activations", ".npz", lambda p: np.savez_compressed(p, **LAYERS)),
    "npy": ("stack", ".npy", lambda p: np.save(p, np.stack([VALUES] * 2))),
    "safetensors": ("activations", ".safetensors", lambda p: save_file(LAYERS, p)),
    "samples": ("samples", ".jsonl", rows(lambda i: {"document": "a", "start": i, "end": i + 1})),
    "sweep, JSON": ("sweep", ".jsonl", rows(lambda i: {"layer": i + 1, "loss": 1.5, "seed": 0})),
    "sweep, CSV": (
        "sweep", ".csv", lambda p: p.write_text("kind,name,layer,seed,loss\nlayer,a,1,0,1.5\n"
                                                "variant,'=b,,0,2.5\nbaseline,c,,,2.0\n")),
    "sweep, events": ("sweep", ".tfevents.1", events),
    "map, CSV": (
        "cka", ".csv", lambda p: p.write_text("y_layer,x_layer,similarity\n1,1,0.5\n2,1,0.25\n")),
    "map, npy": ("cka", ".npy", lambda p: np.save(p, np.eye(5))),
    "map, safetensors": ("cka", ".safetensors", lambda p: save_file({"a": np.eye(5)}, p)),
    "text, JSON": ("text", ".jsonl", rows(lambda i: {"text": f"text {i} é"})),
    "text, Parquet": ("text", ".parquet", parquet),
}  # fmt: skip


def mutate(path: Path, draw: random.Random) -> None:
    """One file, or one of a folder: metadata changed, or bytes flipped, cut, put in or repeated."""
    if path.is_dir():
        path = draw.choice(sorted(file for file in path.rglob("*") if file.is_file()))
    if path.name in ("zarr.json", ".zarray", ".zgroup") and draw.random() < 0.8:
        found = json.loads(path.read_text())
        for _ in range(draw.randint(1, 2)):
            change(found, draw)
        path.write_text(json.dumps(found))
        return
    content = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 4)):
        # heads of files say most
        end = min(len(content), 300) if draw.random() < 0.5 else len(content)
        at = draw.randrange(end or 1)
        how = draw.choice(["flip", "byte", "cut", "put", "repeat", "end"])
        if how == "flip" and content:
            content[at] ^= 1 << draw.randrange(8)
        elif how == "byte" and content:
            content[at] = draw.choice(b"\x00\xff\x7f\n\"'[{9-,=")
        elif how == "cut":
            del content[at : at + draw.randint(1, 20)]
        elif how == "put":
            content[at:at] = draw.randbytes(draw.randint(1, 9))
        elif how == "repeat":
            content[at:at] = content[at : at + 30] * draw.randint(1, 50)
        elif draw.random() < 0.3:
            del content[at:]
    path.write_bytes(bytes(content))


def change(value: Any, draw: random.Random) -> None:
    """Another value at a random place of a document."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = draw.choice(keys)
        inside = value[key]
        if not (isinstance(inside, dict | list) and draw.random() < 0.8):
            break
        value = inside
    if draw.random() < 0.15:
        del value[key]
    else:
        value[key] = draw.choice(ODD)


@pytest.mark.parametrize("name", KINDS)
def test_mutated_files_of_others(name: str, full: bool, tmp_path: Path) -> None:
    kind, suffix, make = KINDS[name]
    make(tmp_path / f"honest{suffix}")
    honest = tmp_path / f"honest{suffix}"
    ends: Counter[str] = Counter()
    count = FULL if full else SHORT
    for start in range(0, count, AT_ONCE):
        paths = [honest]
        for number in range(start, min(count, start + AT_ONCE)):
            paths.append(tmp_path / f"{number}{suffix}")
            (shutil.copytree if honest.is_dir() else shutil.copy)(honest, paths[-1])
            mutate(paths[-1], random.Random(f"{name} {number}"))
        for path, (raised, taken, told) in zip(paths, tried(kind, *paths), strict=True):
            assert raised in (TAKEN if path != honest else ("taken",)), f"{path}: {raised}: {told}"
            assert "\n" not in told
            assert len(told) < 800, f"{path.name}: {told}"
            assert taken < MOST_MB, f"{path.name}: {taken} MB: {told}"
            ends[raised] += 1
    print(name, dict(ends))
