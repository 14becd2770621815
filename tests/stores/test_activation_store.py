"""Hidden states are written in whole chunks, found again bit for bit, and never half-believed."""

import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import xarray
import zarr

from engramcka.errors import StoreError
from engramcka.stores import create_activations, layout, open_activations


def make(path: Path, dtype: str = "float32", n: int = 10):
    return create_activations(
        path,
        layers=[1, 2],
        width=3,
        dtype=dtype,
        samples={
            "document": np.array(["a.py", "größe.py"] * (n // 2)),
            "start": np.arange(n),
            "end": np.arange(n) + 2,
        },
        attributes={"label": "M"},
        inputs={"seed": 0},
        chunk_samples=4,
        part_samples=2,
    )


def rows(store, start: int, stop: int, layer: int) -> np.ndarray:
    values = np.arange(start * 3, stop * 3).reshape(-1, 3) * layer + 0.5
    if store.attributes["dtype"] == "bfloat16":
        return values.astype(ml_dtypes.bfloat16).view(np.uint16)
    return values.astype(store.attributes["dtype"])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_chunks_are_written_in_any_order_and_read_back(tmp_path: Path, dtype: str) -> None:
    store = make(tmp_path / "m.zarr", dtype)
    assert store.missing() == [(0, 4), (4, 8), (8, 10)]
    for start, stop in [(8, 10), (0, 4)]:
        store.write(start, {layer: rows(store, start, stop, layer) for layer in (1, 2)})
    again = open_activations(tmp_path / "m.zarr")
    assert again.missing() == [(4, 8)]
    again.write(4, {layer: rows(store, 4, 8, layer) for layer in (1, 2)})
    assert again.missing() == []
    layer = open_activations(tmp_path / "m.zarr").layers[2]
    assert layer.shape == (10, 3)
    assert layer.dtype.name == dtype
    expected = (np.arange(30).reshape(10, 3) * 2 + 0.5).astype(layer.dtype)
    assert (layer[0:10] == expected).all()
    assert (layer[3:7] == expected[3:7]).all()
    picked = layer.take(np.array([0, 5, 9]))
    assert picked.shape == (3, 3)
    assert (picked[1:3] == expected[[5, 9]]).all()
    assert layer.take(np.arange(10)) is layer


def test_the_sample_table_comes_back(tmp_path: Path) -> None:
    make(tmp_path / "m.zarr")
    store = open_activations(tmp_path / "m.zarr")
    assert store.samples["document"].tolist() == ["a.py", "größe.py"] * 5
    assert store.samples["end"].tolist() == list(range(2, 12))
    assert store.inputs == {"seed": 0}
    assert store.attributes["label"] == "M"


def test_xarray_opens_layers_and_samples(tmp_path: Path) -> None:
    store = make(tmp_path / "m.zarr")
    for start, stop in store.missing():
        store.write(start, {layer: rows(store, start, stop, layer) for layer in (1, 2)})
    data = xarray.open_zarr(tmp_path / "m.zarr", consolidated=False)
    assert data["layer_01"].dims == ("sample", "feature")
    assert float(data["layer_02"][9, 2]) == 58.5
    table = xarray.open_zarr(tmp_path / "m.zarr", group="samples", consolidated=False)
    assert table["start"].dims == ("sample",)


def test_zeros_are_written_so_that_a_lost_file_is_noticed(tmp_path: Path) -> None:
    store = make(tmp_path / "m.zarr")
    store.write(0, {1: np.zeros((4, 3), np.float32), 2: np.zeros((4, 3), np.float32)})
    assert (open_activations(tmp_path / "m.zarr").layers[1][0:4] == 0).all()
    files = [path for path in (tmp_path / "m.zarr/layer_01/c").rglob("*") if path.is_file()]
    assert len(files) == 1


def test_a_flipped_bit_is_an_error_that_names_the_layer(tmp_path: Path) -> None:
    store = make(tmp_path / "m.zarr")
    store.write(0, {layer: rows(store, 0, 4, layer) for layer in (1, 2)})
    file = next(p for p in (tmp_path / "m.zarr/layer_02/c").rglob("*") if p.is_file())
    data = bytearray(file.read_bytes())
    data[0] ^= 4
    file.write_bytes(data)
    with pytest.raises(StoreError, match="layer_02/c/0/0: cannot be read"):
        open_activations(tmp_path / "m.zarr").layers[2][0:4]


def test_a_store_that_fails_to_be_made_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        create_activations(
            tmp_path / "m.zarr",
            layers=[1],
            width=3,
            dtype="float32",
            samples={"start": np.arange(4)},
            attributes={"label": object()},
            inputs={},
        )
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="no such store"):
        open_activations(tmp_path / "m.zarr")


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_other_zarr_implementations_read_the_same(tmp_path: Path, compression: str) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    n, width = 30, 5
    store = create_activations(
        tmp_path / "m.zarr",
        layers=[1],
        width=width,
        dtype="bfloat16",
        samples={"start": np.arange(n)},
        attributes={},
        inputs={},
        compression=compression,
        chunk_samples=4,
        part_samples=2,
    )
    values = np.random.default_rng(0).normal(size=(n, width)).astype(ml_dtypes.bfloat16)
    for start, stop in store.missing():
        store.write(start, {1: values[start:stop].view(np.uint16)})
    store.finalize()
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{tmp_path}/m.zarr/layer_01"}}
    other = tensorstore.open(spec).result().read().result()
    assert (other == values.view(np.uint16)).all()
    assert (zarr.open_group(tmp_path / "m.zarr")["layer_01"][...] == other).all()
    layer = open_activations(tmp_path / "m.zarr").layers[1]
    assert (layer[0:n] == values).all()
    assert (layer.take(np.array([29, 0, 7, 7]))[0:4] == values[[29, 0, 7, 7]]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "manifest" in list(zarr.open_group(tmp_path / "m.zarr").group_keys())
        xarray.open_zarr(tmp_path / "m.zarr", consolidated=False)


def test_files_are_few_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    rows, part = layout.chunk_samples(65_536, 2 * 7168)
    assert -(-65_536 // rows) * 80 + 200 < 2000
    assert rows % part == 0
    for row_bytes in (64, 2048, 14336, 4 * 7168, 1 << 20):
        rows, part = layout.chunk_samples(10**6, row_bytes)
        assert rows == part or rows * row_bytes <= 64 << 20
