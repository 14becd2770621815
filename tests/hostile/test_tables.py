"""Text, sample tables, sweeps and maps from strangers: refused in one line, in bounded memory."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bounded import tried
from command import here
from crc32c import crc32c
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

MB = 1 << 20
MOST_MB = {"text": 450, "samples": 40, "sweep": 40, "cka": 40}  # a document may have 128 MB
Make = Callable[[Path], Any]


def raw(content: str | bytes) -> Make:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return lambda path: path.write_bytes(data)


def sparse(path: Path) -> None:
    """A terabyte of NUL bytes without the end of a line, which takes no room."""
    path.touch()
    os.truncate(path, 1 << 40)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def parquet(column: Any, **options: Any) -> Make:
    return lambda path: pq.write_table(pa.table({"text": column()}), path, **options)


def one_text(count: int, size: int) -> Callable[[], Any]:
    """One text of so many bytes, again and again."""
    return lambda: pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(count, np.int32)), pa.array(["a" * size])
    )


def folder_of(make: Make) -> Make:
    return lambda path: (path.mkdir(), make(path / "a.txt"))


DEEP = "[" * 100_000 + "]" * 100_000
TEXT: dict[str, tuple[str, Make, str]] = {
    "a line without end": (".jsonl", sparse, "line 1: longer than"),
    "a deep line": (".jsonl", raw(f'{{"text": "a"}}\n{{"text": {DEEP}}}'), "line 2: no JSON"),
    "a number of 10,000 digits": (".jsonl", raw('{"text": 1' + "0" * 10_000 + "}"), "line 1: no"),
    "half of a pair": (".jsonl", raw('{"text": "\\ud800"}'), "line 1: half of a surrogate"),
    "no UTF-8": (".jsonl", raw(b'{"text": "\xff"}'), "line 1: not UTF-8"),
    "a pipe": (".jsonl", os.mkfifo, "a pipe"),
    "a device": (".jsonl", device, "a pipe, a socket or a device"),
    "a text without end": (".txt", sparse, "larger than"),
    "a text that is a pipe": (".txt", os.mkfifo, "a pipe"),
    "a folder with a pipe": ("", folder_of(os.mkfifo), "a pipe"),
    "a folder with a link out": (
        "", folder_of(lambda p: p.symlink_to("/etc/hostname")), "leads out of its folder"),
    "a text a million times": (".parquet", parquet(one_text(1_000_000, MB)), "unpacks to more"),
    "one letter without end": (
        ".parquet",
        parquet(lambda: pa.array(["a" * (300 * MB)]), compression="zstd", use_dictionary=False,
                write_statistics=False),
        "unpacks to more"),
    "no Parquet": (".parquet", raw(b"PAR1" + b"\xff" * 100 + b"PAR1"), "cannot be read"),
    "Parquet that is a pipe": (".parquet", os.mkfifo, "a pipe"),
}  # fmt: skip


def sample(**changes: Any) -> str:
    return json.dumps({"document": "a", "start": 0, "end": 1, **changes}) + "\n"


SAMPLES: dict[str, tuple[str, Make, str]] = {
    "a line without end": (".jsonl", sparse, "line 1: longer than"),
    "a deep line": (".jsonl", raw(sample() + DEEP), "line 2: no JSON"),
    "one long name among many": (
        ".jsonl",
        raw(sample(document="b" * 1_000_000)
            + "".join(sample(start=i, end=i + 1) for i in range(1000))),
        "text that is too long"),
    "numbers without end": (".jsonl", raw(sample(start=10**30)), "no one counts to"),
    "half of a pair": (".jsonl", raw(sample(document="\ud800")), "half of a surrogate"),
    "tables in a row": (".jsonl", raw(sample(kind={"a": 1})), "not text or numbers"),
    "a pipe": (".jsonl", os.mkfifo, "a pipe"),
    "a device": (".jsonl", device, "a pipe, a socket or a device"),
}  # fmt: skip


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def record(length: int) -> bytes:
    """The head of a record of an event file that says how many bytes follow."""
    head = struct.pack("<Q", length)
    return head + masked(head) + b"abc"


def tensor(path: Path) -> None:
    """One number that says it is a matrix of 10^12."""
    event = Event(step=1)
    value = event.summary.value.add(tag="layer_1/loss")
    value.metadata.data_class = 2
    value.metadata.plugin_data.plugin_name = "scalars"
    value.tensor.dtype = 1
    for _ in range(2):
        value.tensor.tensor_shape.dim.add(size=10**6)
    value.tensor.float_val.append(1.0)
    with path.open("wb") as file:
        RecordWriter(file).write(event.SerializeToString())


CELL = "layer,loss\n1,2\n"
EVENTS = ".tfevents.1"
SWEEP: dict[str, tuple[str, Make, str]] = {
    "CSV without end": (".csv", sparse, "cannot be read"),
    "a giant field": (".csv", raw(CELL + "2," + "9" * 200_000), "no CSV"),
    "NUL bytes": (".csv", raw(CELL + "\x00,\x00\n"), "line 3: layer = "),
    "an open quote": (".csv", raw(CELL + '"' + "a\n" * 100_000), "no CSV"),
    "CSV that is a pipe": (".csv", os.mkfifo, "a pipe"),
    "a line without end": (".jsonl", sparse, "line 1: longer than"),
    "a deep line": (".jsonl", raw(DEEP), "line 1: no JSON"),
    "a layer of 10,000 digits": (
        ".jsonl", raw('{"layer": 1' + "0" * 10_000 + ', "loss": 1}'), "line 1: no JSON"),
    "a layer past all": (".jsonl", raw('{"layer": 1e400, "loss": 1}'), "layer = 'inf'"),
    "lists for numbers": (".jsonl", raw('{"layer": [1], "loss": {}}'), "layer = "),
    "a record without end": (EVENTS, raw(record(1 << 50)), "cannot be read|no scalar"),
    "a record of a lie": (EVENTS, raw(record(1 << 30)), "cannot be read|no scalar"),
    "a tensor of 10^12": (EVENTS, tensor, "no scalar"),
    "noise": (EVENTS, raw(b"\xff" * 5000), "cannot be read|no scalar"),
    "events that are a pipe": (EVENTS, os.mkfifo, "a pipe"),
    "a folder of a pipe": (
        "", lambda p: (p.mkdir(), os.mkfifo(p / "tfevents")), "a pipe"),
    "a folder of a link out": (
        "", lambda p: (p.mkdir(), (p / "tfevents").symlink_to("/etc/hostname")), "leads out"),
}  # fmt: skip
HEADER = b"\x93NUMPY\x01\x00"


def npy(descr: str, shape: str) -> Make:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return raw(HEADER + struct.pack("<H", len(header)) + header + bytes(64))


MAPS: dict[str, tuple[str, Make, str]] = {
    "a giant shape": (".npy", npy("'<f8'", "(100000, 100000)"), "cut short"),
    "objects": (".npy", npy("'|O'", "(2, 2)"), "Python objects"),
    "deep brackets": (".npy", npy("(" * 5000, "1"), "no plain .npy"),
    "a zip": (".npy", lambda p: np.savez(p.open("wb"), a=np.eye(2)), "no plain .npy"),
    "a pipe": (".npy", os.mkfifo, "a pipe"),
    "a sparse file": (".npy", sparse, "larger than"),
    "a header without end": (".safetensors", raw(b"\xff" * 7 + b"\x00" + b"{}"), "a header of"),
    "absurd layers": (".csv", raw("y_layer,x_layer,similarity\n1e300,1,1\n"), "layers 1e"),
    "a giant field": (".csv", raw("9" * 200_000), "no CSV"),
}  # fmt: skip
KINDS = {"text": TEXT, "samples": SAMPLES, "sweep": SWEEP, "cka": MAPS}
CASES = [(kind, name) for kind, cases in KINDS.items() for name in cases]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """(kind, case) -> what was raised, the MB that it took, and the message."""
    folder, done = tmp_path_factory.mktemp("hostile"), {}
    for kind, cases in KINDS.items():
        paths = []
        for number, (suffix, make, _) in enumerate(cases.values()):
            paths.append(folder / f"{kind}-{number}{suffix}")
            make(paths[-1])
        done |= {(kind, name): one for name, one in zip(cases, tried(kind, *paths), strict=True)}
    return done


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_tables_of_a_stranger(kind: str, name: str, outcomes: Any) -> None:
    raised, taken, told = outcomes[kind, name]
    assert raised in ("StoreError", "DataError", "DataKeyError"), told
    assert re.search(KINDS[kind][name][2], told), told
    assert len(told) < 600
    assert "\n" not in told
    assert taken < MOST_MB[kind]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("sweep", "a tensor of 10^12"), ("sweep", "a record without end"), ("sweep", "a deep line"),
     ("sweep", "CSV that is a pipe"), ("cka", "objects"), ("cka", "a giant shape"),
     ("cka", "a pipe")],
)  # fmt: skip
def test_import_says_it_in_a_line(kind: str, name: str, tmp_path: Path) -> None:
    suffix, make, says = KINDS[kind][name]
    make(tmp_path / f"a{suffix}")
    done = here("import", f"a{suffix}", "--as", kind, "--into", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(says, done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
