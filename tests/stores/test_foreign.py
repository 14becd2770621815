"""Arrays that others wrote come in as they are, numbered as they say, or are refused in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import zarr
from safetensors.numpy import save_file

from engramcka.errors import EngramckaError
from engramcka.stores import create_activations
from engramcka.stores.foreign.hidden_states import open_foreign, read_samples

RNG = np.random.default_rng(0)
LAYERS = {f"h.{n}": RNG.standard_normal((7, 5)).astype(np.float32) for n in (2, 10, 1)}

CUBE = np.zeros((2, 3, 4), np.float32)


def write(folder: Path, form: str, arrays: dict[str, np.ndarray]) -> str:
    path = folder / f"states.{form}"
    if form == "npy":
        path = folder / "npy"
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
    elif form == "npz":
        np.savez(path, **arrays)
    elif form == "safetensors":
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    elif form == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[f"deep/{name}"] = array
    else:
        group = zarr.open_group(path, mode="w")
        for name, array in arrays.items():
            group[name] = array
    return str(path)


@pytest.mark.parametrize("form", ["npy", "npz", "safetensors", "h5", "zarr"])
def test_every_format_gives_the_same_rows_in_the_order_of_the_numbers(
    form: str, tmp_path: Path
) -> None:
    with open_foreign(write(tmp_path, form, LAYERS)) as found:
        assert list(found.layers) == [1, 2, 10]
        assert (found.shape, found.dtype) == ((7, 5), "float32")
        for start, stop in ((0, 3), (3, 7)):
            for number, rows in found.rows(slice(start, stop)):
                assert (rows == LAYERS[f"h.{number}"][start:stop]).all()


def test_an_npz_is_read_a_slice_at_a_time_in_any_order(tmp_path: Path) -> None:
    packed = {"h1": LAYERS["h.1"], "h2": np.asfortranarray(LAYERS["h.2"])}
    np.savez_compressed(tmp_path / "a.npz", **packed)
    with open_foreign(str(tmp_path / "a.npz")) as found:
        for start, stop in ((4, 7), (0, 2), (2, 4)):
            for number, rows in found.rows(slice(start, stop)):
                assert (rows == packed[f"h{number}"][start:stop]).all()


def test_names_in_an_order_of_ones_own_and_a_number_to_begin_with(tmp_path: Path) -> None:
    path = write(tmp_path, "npz", LAYERS)
    with open_foreign(path, ["h.10", "h.1"]) as found:
        assert found.layers == {1: "h.10", 2: "h.1"}
    with open_foreign(path, ["h.10", "h.1"], first_layer=0) as found:
        assert found.layers == {0: "h.10", 1: "h.1"}
    with open_foreign(path, first_layer=5) as found:  # what is left out in between stays so
        assert found.layers == {5: "h.1", 6: "h.2", 14: "h.10"}


@pytest.mark.parametrize("stem", ["arr_", "h", "layer_", "layer_0", "model.layers."])
def test_names_that_count_from_zero_say_nothing_of_the_first_block(
    stem: str, tmp_path: Path
) -> None:
    values = {number: LAYERS["h.1"] * (number + 1) for number in (0, 1, 5)}
    zero = write(tmp_path, "npz", {f"{stem}{number}": array for number, array in values.items()})
    with (
        pytest.raises(
            EngramckaError,
            match=rf"numbered from 0 \('{stem}0' to '{stem}5'\); say with first_layer which layer "
            rf"'{stem}0' is: 0 for the embedding, 1 for the first block",
        ) as error,
        open_foreign(zero),
    ):
        pass
    assert (error.value.exit_code, "\n" in str(error.value)) == (2, False)
    one = write(
        tmp_path, "safetensors", {f"{stem}{number + 1}": array for number, array in values.items()}
    )
    rows = slice(0, 7)
    with open_foreign(zero, first_layer=1) as found, open_foreign(one) as same:
        assert list(found.layers) == list(same.layers) == [1, 2, 6]
        for (number, mine), (other, theirs) in zip(found.rows(rows), same.rows(rows), strict=True):
            assert number == other
            assert (mine == theirs).all()
    with open_foreign(zero, first_layer=0) as found:
        assert list(found.layers) == [0, 1, 5]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("form", ["npy", "safetensors", "h5", "zarr"])
def test_a_stack_of_all_layers_in_one_array(form: str, axis: int, tmp_path: Path) -> None:
    stack = RNG.standard_normal((3, 7, 5)).astype(np.float32)
    path = write(tmp_path, form, {"h": stack if axis == 0 else stack.swapaxes(0, 1)})
    for first, numbers in ((None, [1, 2, 3]), (0, [0, 1, 2])):
        with open_foreign(path, first_layer=first, layer_axis=axis) as found:
            assert (list(found.layers), found.shape) == (numbers, (7, 5))
            for number, rows in found.rows(slice(2, 6)):
                assert (rows == stack[numbers.index(number), 2:6]).all()


def test_a_stack_is_never_guessed_at(tmp_path: Path) -> None:
    stack = write(tmp_path, "npz", {"h": np.zeros((3, 3, 3), np.float32)})
    flat = write(tmp_path, "npy", LAYERS)
    for path, axis, says in (
        (stack, None, r"one array of shape \(3, 3, 3\); say with layer_axis"),
        (stack, 0, "of an .npz a stack of layers is not read; save it as .npy"),
        (flat, 0, r"is for one array of three dimensions, found 'h\.1' \(7, 5\)"),
    ):
        with (
            pytest.raises(EngramckaError, match=says) as error,
            open_foreign(path, layer_axis=axis),
        ):
            pass
        assert error.value.exit_code == 2


def test_chunks_that_are_missing_are_no_zeros(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "half.zarr", mode="w")
    array = group.create_array("h1", shape=(8, 3), chunks=(4, 3), dtype="f4")
    array[0:4] = 1.0
    with (
        pytest.raises(EngramckaError, match=r"'h1' cannot be read \(1 of 2 chunks are gone\)"),
        open_foreign(str(tmp_path / "half.zarr")),
    ):
        pass


def test_bfloat16_is_kept_bit_for_bit_and_float64_becomes_float32(tmp_path: Path) -> None:
    half = LAYERS["h.1"].astype(ml_dtypes.bfloat16)
    with open_foreign(write(tmp_path, "safetensors", {"h.1": half})) as found:
        assert found.dtype == "bfloat16"
        ((_, rows),) = found.rows(slice(2, 5))
        assert (rows == half[2:5].view(np.uint16)).all()
    double = LAYERS["h.1"].astype(np.float64) / 3
    with open_foreign(write(tmp_path, "npz", {"h.1": double})) as found:
        assert (found.dtype, found.found_dtype) == ("float32", "float64")
        ((_, rows),) = found.rows(slice(0, 7))
        assert (rows == double.astype(np.float32)).all()


def test_a_store_of_our_own_unless_it_is_unfinished(tmp_path: Path) -> None:
    samples = {"document": np.full(7, "d"), "start": np.arange(7), "end": np.arange(7) + 1}
    store = create_activations(
        tmp_path / "m.zarr",
        layers=[1, 2],
        width=5,
        dtype="bfloat16",
        samples=samples,
        attributes={},
        inputs={},
    )
    with (
        pytest.raises(EngramckaError, match="samples are missing in it"),
        open_foreign(str(store.path)),
    ):
        pass
    words = LAYERS["h.1"].astype(ml_dtypes.bfloat16).view(np.uint16)
    store.write(0, {1: words, 2: words})
    with open_foreign(str(store.path)) as found:
        assert (list(found.layers), found.dtype) == ([1, 2], "bfloat16")
        assert all((rows == words[1:4]).all() for _, rows in found.rows(slice(1, 4)))


def test_a_store_of_our_own_keeps_its_embedding_as_layer_0(tmp_path: Path) -> None:
    store = create_activations(
        tmp_path / "m.zarr",
        layers=[0, 1, 4],
        width=5,
        dtype="float32",
        samples={"document": np.full(7, "d"), "start": np.arange(7), "end": np.arange(7) + 1},
        attributes={},
        inputs={},
    )
    store.write(0, dict.fromkeys((0, 1, 4), LAYERS["h.1"]))
    with open_foreign(str(store.path)) as found:
        assert list(found.layers) == [0, 1, 4]


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"a": LAYERS["h.1"]}, "array 'a' has no layer number in its name; set layers"),
        ({"a1": LAYERS["h.1"], "b1": LAYERS["h.1"]}, "'a1' and 'b1' have the same number"),
        ({"h1": LAYERS["h.1"], "h2": LAYERS["h.1"][:3]}, r"has shape \(3, 5\), array 'h1' \(7, 5"),
        (
            {"h1": np.zeros((2, 3, 4), np.float32)},
            r"\(2, 3, 4\); say with layer_axis = 0 or 1 which",
        ),
        (
            dict.fromkeys(("h1", "h2"), np.zeros((2, 3, 4), np.float32)),
            r"expected \(samples, width",
        ),
        ({"h1": np.zeros((2, 3), np.int64)}, "holds int64; allowed: float16, bfloat16, float32"),
        ({"h1": np.array([["x"]], dtype=object)}, "cannot be read .*only pickle could read"),
        ({}, "holds no arrays"),
    ],
)
def test_arrays_that_do_not_go_together(arrays: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = write(tmp_path, "npz", arrays)
    with pytest.raises(EngramckaError, match=says) as error, open_foreign(path):
        pass
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


def test_what_is_not_there_or_broken(tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"PK no")
    (tmp_path / "states.pkl").write_bytes(b"x")
    for path, says in (
        ("nowhere.npz", "no arrays there"),
        ("broken.npz", "cannot be read"),
        ("states.pkl", "not one of the formats .npy, .npz"),
    ):
        with (
            pytest.raises(EngramckaError, match=says) as error,
            open_foreign(str(tmp_path / path)),
        ):
            pass
        assert error.value.exit_code == 2
    path = write(tmp_path, "npz", LAYERS)
    with (
        pytest.raises(EngramckaError, match=r"no array 'h\.3'; it has: h\.2"),
        open_foreign(path, ["h.3"]),
    ):
        pass


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('{"document": "a", "start": 0}', "no column 'end'; it has: document, start"),
        ('{"document": "a", "start": 0.5, "end": 1}', "'start' holds no whole numbers"),
        ('{"document": "a", "start": 0, "end": 1}\n[1]', "line 2: no JSON object"),
        ('{"document": "a", "start": 0, "end": 1, "x": [1]}', "'x' is not text or numbers"),
        ('{"document": "a", "start": 0, "end": 1}\n' * 3, "2 rows repeat the document"),
        ("{", "line 1: no JSON"),
        ("", "no column 'document'; it has: none"),
    ],
)
def test_a_bad_sample_table(lines: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text(lines)
    with pytest.raises(EngramckaError, match=says):
        read_samples(str(tmp_path / "s.jsonl"))
