"""Zarr arrays of other writers: TensorStore's bfloat16, arrays without a group, either format."""

from __future__ import annotations

import gc
import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import ml_dtypes
import numpy as np
import pytest
import tensorstore
import zarr

from engramcka.errors import EngramckaError
from engramcka.stores.foreign.hidden_states import open_foreign

VALUES = np.random.default_rng(0).normal(size=(37, 6)).astype(ml_dtypes.bfloat16)
GRID = {"name": "regular", "configuration": {"chunk_shape": [10, 6]}}
V3 = {"shape": [37, 6], "data_type": "bfloat16", "chunk_grid": GRID}
V2 = {"shape": [37, 6], "chunks": [10, 6], "dtype": "bfloat16"}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
SHARDS = {
    "name": "sharding_indexed",
    "configuration": {
        "chunk_shape": [5, 6],
        "codecs": [LITTLE, {"name": "zstd", "configuration": {"level": 1}}],
        "index_codecs": [LITTLE, {"name": "crc32c"}],
    },
}
WRITERS = {
    "3": ("zarr3", V3),
    "3, big": ("zarr3", {**V3, "codecs": [BIG], "fill_value": "NaN"}),
    "3, shards": ("zarr3", {**V3, "codecs": [SHARDS]}),
    "3, turned": (
        "zarr3",
        {**V3, "codecs": [{"name": "transpose", "configuration": {"order": [1, 0]}}, LITTLE]},
    ),
    "2": ("zarr", {**V2, "compressor": {"id": "zstd", "level": 3}}),
    "2, turned": ("zarr", {**V2, "compressor": None, "order": "F", "fill_value": "NaN"}),
}


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> Any:
    """Whatever goes wrong, nothing is logged beside the error."""
    with caplog.at_level(logging.WARNING):
        yield
        gc.collect()
        assert not caplog.records


def write(root: Path, writer: str, values: np.ndarray = VALUES) -> Path:
    driver, metadata = WRITERS[writer]
    for number in (1, 2):
        spec = {
            "driver": driver,
            "kvstore": {"driver": "file", "path": str(root / f"layer_{number}")},
            "metadata": metadata,
        }
        tensorstore.open(spec, create=True).result().write(values * number).result()
    return root


def group(root: Path, writer: str) -> None:
    if writer.startswith("3"):
        (root / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    else:
        (root / ".zgroup").write_text('{"zarr_format": 2}')


def holds(path: str, values: np.ndarray = VALUES) -> None:
    with open_foreign(path) as found:
        assert (list(found.layers), found.shape, found.dtype) == ([1, 2], (37, 6), "bfloat16")
        for start, stop in ((0, 37), (3, 30)):
            for number, rows in found.rows(slice(start, stop)):
                assert (rows == (values * number)[start:stop].view(np.uint16)).all()


@pytest.mark.parametrize("is_group", [True, False])
@pytest.mark.parametrize("writer", WRITERS)
def test_bfloat16_of_tensorstore_bit_for_bit(writer: str, is_group: bool, tmp_path: Path) -> None:
    root = write(tmp_path / "a.zarr", writer)
    if is_group:
        group(root, writer)
    holds(str(root))


@pytest.mark.parametrize("writer", WRITERS)
def test_bfloat16_of_tensorstore_behind_a_url(writer: str, tmp_path: Path) -> None:
    group(write(tmp_path / "a.zarr", writer), writer)
    memory = fsspec.filesystem("memory")
    try:
        memory.put(str(tmp_path / "a.zarr"), "/a.zarr", recursive=True)
        holds("memory://a.zarr")
    finally:
        memory.rm("/", recursive=True)


@pytest.mark.parametrize(
    ("fill", "value"), [(2.5, 2.5), ("NaN", np.nan), ("-Infinity", -np.inf), ("0x4020", 2.5)]
)
def test_a_part_that_no_one_wrote_has_the_fill_value(
    fill: Any, value: float, tmp_path: Path
) -> None:
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(tmp_path / "layer_1")},
        "metadata": {**V3, "shape": [10, 6], "codecs": [SHARDS], "fill_value": fill},
    }
    tensorstore.open(spec, create=True).result()[:5].write(VALUES[:5]).result()
    with open_foreign(str(tmp_path)) as found:
        ((_, rows),) = found.rows(slice(0, 10))
    read = rows.view(ml_dtypes.bfloat16).astype(float)
    np.testing.assert_array_equal(read[:5], VALUES[:5].astype(float))
    np.testing.assert_array_equal(read[5:], np.full((5, 6), value))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_metadata_in_one_document_and_arrays_of_other_kinds(
    zarr_format: Any, tmp_path: Path
) -> None:
    made = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    made["layer_1"] = VALUES.astype(np.float32)
    made.create_group("deep")["layer_9"] = VALUES.astype(np.float32)
    made["tokens"] = np.zeros((3, 2), np.int64)
    made.create_array("text", shape=(3,), dtype=str)
    zarr.consolidate_metadata(made.store)
    with open_foreign(str(tmp_path / "a.zarr"), ["layer_1"]) as found:
        ((_, rows),) = found.rows(slice(0, 37))
        assert (rows == VALUES.astype(np.float32)).all()
    with (
        pytest.raises(EngramckaError, match="array 'tokens' holds int64; allowed: float16"),
        open_foreign(str(tmp_path / "a.zarr"), ["tokens"]),
    ):
        pass


def test_another_byte_order_is_read_as_it_is_meant(tmp_path: Path) -> None:
    made = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    made["layer_1"] = VALUES.astype(">f4")
    with open_foreign(str(tmp_path / "a.zarr")) as found:
        ((_, rows),) = found.rows(slice(0, 37))
    assert (rows.dtype, found.dtype) == (np.dtype("f4"), "float32")
    assert (rows == VALUES.astype("f4")).all()


def test_an_array_by_itself_is_a_stack(tmp_path: Path) -> None:
    stack = np.stack([VALUES, VALUES * 2]).astype(np.float32)
    zarr.create_array(tmp_path / "stack", data=stack)
    with open_foreign(str(tmp_path / "stack"), layer_axis=0) as found:
        assert [(n, (r == stack[n - 1]).all()) for n, r in found.rows(slice(0, 37))] == [
            (1, True),
            (2, True),
        ]


def broken(**changes: Any) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for number in (1, 2):  # two at once: Zarr opens all at the same time
            file = root / f"layer_{number}/zarr.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (broken(data_type="float8_e4m3fn"), "'layer_1' holds float8_e4m3fn; allowed: float16"),
        (broken(data_type={"name": "later"}), "'layer_1' holds later; allowed"),
        (broken(data_type=None), "'layer_1' holds None"),
        (broken(data_type="complex64"), "'layer_1' holds complex64"),
        (broken(codecs=[{"name": "later"}]), "array 'layer_1' cannot be read .*later"),
        (broken(codecs=None), "array 'layer_1' cannot be read"),
        (broken(shape="many"), "array 'layer_1' cannot be read"),
        (broken(fill_value="many"), "array 'layer_1' cannot be read .*many"),
        (broken(chunk_grid=7), "array 'layer_1' cannot be read"),
        (lambda root: (root / "layer_2/zarr.json").write_text("{"), r"layer_2/zarr\.json: cannot"),
        (lambda root: (root / "layer_2/zarr.json").write_text("[]"), "no JSON object"),
        (lambda root: (root / "zarr.json").write_text("no"), r"zarr\.json: cannot be read"),
        (lambda root: (root / "layer_1/c/2/0").unlink(), "1 of 4 chunks are gone"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    change: Callable[[Path], Any], says: str, tmp_path: Path
) -> None:
    root = write(tmp_path / "a.zarr", "3")
    group(root, "3")
    change(root)
    with pytest.raises(EngramckaError, match=says) as error, open_foreign(str(root)):
        pass
    assert "\n" not in str(error.value)


def test_shards_that_reach_over_the_edge_are_missed_too(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "h1", shape=(17, 17), chunks=(1, 1), shards=(16, 16), dtype="f4"
    )
    array[...] = 1.0
    with open_foreign(str(tmp_path)) as found:
        assert found.shape == (17, 17)
    (tmp_path / "h1/c/0/0").unlink()
    with (
        pytest.raises(EngramckaError, match=r"'h1' cannot be read \(1 of 4 chunks are gone\)"),
        open_foreign(str(tmp_path)),
    ):
        pass


def test_chunks_that_are_cut_short_are_told_in_a_line(tmp_path: Path) -> None:
    root = write(tmp_path / "a.zarr", "3")
    for file in root.glob("layer_*/c/*/0"):
        file.write_bytes(file.read_bytes()[:7])
    with (
        open_foreign(str(root)) as found,
        pytest.raises(EngramckaError, match="array 'layer_1' cannot be read") as error,
    ):
        list(found.rows(slice(0, 37)))
    assert "\n" not in str(error.value)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("where", ["compressor", "filters"])
def test_nothing_pickled_is_executed(where: str, tmp_path: Path) -> None:
    root = tmp_path / "a.zarr"
    made = zarr.open_group(root, mode="w", zarr_format=2)
    made.create_array("layer_1", shape=(4, 2), chunks=(4, 2), dtype="f4", compressors=None)
    (root / "layer_1/0.0").write_bytes(pickle.dumps(Payload(tmp_path / "executed")))
    file = root / "layer_1/.zarray"
    codec = {"id": "pickle"}
    change = {where: codec if where == "compressor" else [codec]}
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with (
        pytest.raises(EngramckaError, match="codec 'pickle' is not read; allowed: shuffle"),
        open_foreign(str(root)) as found,
    ):
        list(found.rows(slice(0, 4)))
    assert not (tmp_path / "executed").exists()
