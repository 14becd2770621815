"""Results come back as they went in, in a form that any Zarr reader opens."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from made_baseline import made_baseline
from made_matrix import made_matrix
from made_robustness import made_robustness

from engramcka import open_run
from engramcka.errors import StoreError
from engramcka.results import (
    AllocationSweep,
    CkaMap,
    GateMap,
    GateText,
    LayerDiagnostics,
    LensCurve,
    LossSweep,
    MemoryAblation,
    SimilarityMap,
    SlotSweep,
    TrainingCurve,
)
from engramcka.results.kinds import KINDS, kind_of
from engramcka.stores import (
    layout,
    manifest,
    read_cka,
    read_sweep,
    write_cka,
    write_result,
    write_sweep,
)
from engramcka.stores.results import open_root, read_inputs


def equal(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b, equal_nan=True)
    if isinstance(a, LayerDiagnostics):
        return all(equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return a == b


def a_map(rows: int = 3, columns: int = 4) -> CkaMap:
    random = np.random.default_rng(0)
    similarity = random.uniform(-0.1, 1.0, (rows, columns))
    similarity[1] = np.nan

    def diagnostics(layers: int) -> LayerDiagnostics:
        return LayerDiagnostics(*random.uniform(0, 1, (7, layers)), dropped=((1, 2),) * layers)

    return CkaMap(
        similarity,
        y_label="MoE",
        x_label="Engram [red] \x1b[31m",
        x_layers=(2, 4, 6, 8),
        ci_low=similarity - 0.1,
        ci_high=similarity + 0.1,
        jackknife=random.uniform(0, 1, (5, rows, columns)),
        null=random.uniform(0, 1, (7, rows, columns)),
        y_diagnostics=diagnostics(rows),
        x_diagnostics=diagnostics(columns),
        estimator="minibatch",
        batch_size=8,
        n_samples=64,
        warnings=("layer 2 is constant",),
        provenance={"versions": {"zarr": "3"}, "device": "cpu"},
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / layout.RESULTS
    open_root(path)
    return path


def test_a_map_comes_back_whole(results: Path) -> None:
    cka = a_map()
    write_cka(results, "a", cka, {"samples": 64})
    back = read_cka(results, "a")
    for field in fields(CkaMap):
        assert equal(getattr(cka, field.name), getattr(back, field.name)), field.name
    assert read_inputs(results, "cka", "a") == {"samples": 64}


def test_a_bare_map_comes_back_without_what_it_lacks(results: Path) -> None:
    write_cka(results, "a", CkaMap(np.eye(2)), {})
    back = read_cka(results, "a")
    assert back.ci_low is back.jackknife is back.null is back.y_diagnostics is None
    assert (back.similarity == np.eye(2)).all()


def test_a_sweep_comes_back_whole(results: Path) -> None:
    sweep = LossSweep(
        (1, 2, 4),
        np.array([[1.0, 1.1], [0.9, np.nan], [1.2, 1.3]]),
        np.array([2.0, 2.1]),
        seeds=(0, 7),
        label="Engram",
        reference={"layers 2 and 6": 0.8},
        variants={"without gating": 1.5, "4-grams": 0.9},
        variant_differences={"4-grams": (0.1, -0.05, 0.25)},
        whole="layer 2",
        difference_low=np.array([-1.1, -1.2, np.nan]),
        difference_high=np.array([-0.9, -1.0, np.nan]),
        provenance={"x": [1]},
    )
    write_sweep(results, "s", sweep, {})
    back = read_sweep(results, "s")
    for field in fields(LossSweep):
        assert equal(getattr(sweep, field.name), getattr(back, field.name)), field.name
    write_sweep(results, "bare", LossSweep((1,), [[1.0]], [2.0]), {})
    assert read_sweep(results, "bare").difference_low is None


def test_xarray_opens_both_with_names_and_coordinates(results: Path) -> None:
    cka = a_map()
    write_cka(results, "a", cka, {})
    write_sweep(results, "s", LossSweep((1, 3), np.ones((2, 1)), np.ones(1)), {})
    data = xarray.open_zarr(results, group="cka/a", consolidated=False)
    assert data["similarity"].dims == ("y_layer", "x_layer")
    assert data["x_layer"].values.tolist() == [2, 4, 6, 8]
    assert np.array_equal(data["soft_alignment"].values, cka.soft_alignment(), equal_nan=True)
    assert data.attrs["estimator"] == "minibatch"
    swept = xarray.open_zarr(results, group="sweep/s", consolidated=False)
    assert swept["loss"].dims == ("layer", "seed")


def test_writing_again_replaces_and_leaves_nothing_behind(results: Path) -> None:
    write_cka(results, "a", a_map(), {"v": 1})
    write_cka(results, "a", CkaMap(np.eye(3)), {"v": 2})
    assert (read_cka(results, "a").similarity == np.eye(3)).all()
    assert read_inputs(results, "cka", "a") == {"v": 2}
    assert [entry.name for entry in results.parent.iterdir()] == [layout.RESULTS]


def test_a_write_that_fails_leaves_the_old_result(results: Path, monkeypatch) -> None:
    write_cka(results, "a", CkaMap(np.eye(3)), {})

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("engramcka.stores.results.write_array", fail)
    with pytest.raises(OSError, match="disk full"):
        write_cka(results, "a", a_map(), {})
    assert (read_cka(results, "a").similarity == np.eye(3)).all()
    assert [entry.name for entry in results.parent.iterdir()] == [layout.RESULTS]


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_chunk_is_an_error_that_names_the_array(results: Path, damage: str) -> None:
    write_cka(results, "a", a_map(), {})
    chunk = next((results / "cka/a/similarity/c").rglob("*0"))
    chunk = chunk if chunk.is_file() else chunk / "0"
    data = bytearray(chunk.read_bytes())
    if damage == "flip":
        data[5] ^= 1
        chunk.write_bytes(data)
    elif damage == "cut":
        chunk.write_bytes(data[:-9])
    else:
        chunk.unlink()
    with pytest.raises(StoreError, match="similarity/c/0/0: cannot be read"):
        read_cka(results, "a")


def test_a_newer_version_and_another_type_are_refused_by_name(results: Path) -> None:
    write_cka(results, "a", a_map(), {})
    group = zarr.open_group(results / "cka/a", mode="r+")
    group.attrs["engramcka_version"] = 99
    manifest.finalize(results / "cka/a")
    with pytest.raises(StoreError, match="format version 99; this engramcka reads version 2"):
        read_cka(results, "a")
    group.attrs["engramcka_type"] = "sweep"
    manifest.finalize(results / "cka/a")
    with pytest.raises(StoreError, match="holds sweep, expected cka"):
        read_cka(results, "a")
    (results / "cka/a/zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"cka/a/zarr\.json: cannot be read"):
        read_cka(results, "a")


def test_open_run_reads_by_name_and_refuses_what_is_no_run(results: Path, tmp_path: Path) -> None:
    write_cka(results, "a", a_map(), {})
    run = open_run(results.parent)
    assert list(run.cka) == ["a"]
    assert len(run.sweep) == 0
    assert run.cka["a"].y_label == "MoE"
    with pytest.raises(KeyError, match="no cka/b; there is a"):
        run.cka["b"]
    with pytest.raises(StoreError, match="no such folder"):
        open_run(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="not a run directory"):
        open_run(tmp_path / "empty")


def test_every_kind_of_result_comes_back_whole(results: Path) -> None:
    random = np.random.default_rng(1)
    curve = {
        f"{reading}{end}": random.uniform(0, 1, 3)
        for reading in ("kl", "entropy", "top1")
        for end in ("", "_low", "_high")
    }
    gates = random.uniform(0, 1, (2, 1, 4))
    whole = [
        AllocationSweep(np.array([0.5, 1.0]), random.normal(size=(2, 3)), seeds=(0, 1, 2)),
        SlotSweep(
            np.array([10.0, 99.0]), random.normal(size=(2, 1)), np.array([1.5]), (4,), (7, 8)
        ),
        CkaMap(random.uniform(size=(2, 3)), "a", "b", jackknife=random.uniform(size=(4, 2, 3))),
        SimilarityMap(
            random.uniform(size=(2, 3)),
            measure="pwcca",
            variance=0.9,
            y_components=np.array([3.0, np.nan]),
            x_components=np.array([4.0, 5.0, 6.0]),
        ),
        LossSweep((1, 4), random.normal(size=(2, 1)), np.array([1.5]), variants={"x": 1.0}),
        TrainingCurve(*random.uniform(1, 9, (2, 5)), *random.uniform(1, 9, (2, 2)), label="MoE"),
        LensCurve((1, 2, 3), **curve, n_tokens=7, memory=False, warnings=("few tokens",)),
        LensCurve((1, 2), np.array([2.0, 0.0])),
        GateMap(
            (2,),
            ("all", "person"),
            gates,
            alpha_low=gates - 0.1,
            alpha_high=gates + 0.1,
            counts=(9, 4),
            orders=(2, 3),
            order_share=np.array([[0.4, 0.6]]),
            collisions=np.array([[0.0, 0.1]]),
            texts=(GateText(("a", " b"), random.uniform(0, 1, (2, 1, 4))),),
        ),
        MemoryAblation(("all", "inside"), np.array([1.0, 2.0]), np.array([2.0, 4.0])),
        made_robustness(),
        made_baseline(),
        made_matrix(),
    ]
    assert {kind_of(result).name for result in whole} == set(KINDS)
    for number, result in enumerate(whole):
        kind = kind_of(result).name
        write_result(results, str(number), result, {"v": number})
        back = open_run(results.parent).results(kind)[str(number)]
        assert type(back) is type(result)
        for entry in fields(result):
            if entry.name != "texts":
                assert equal(getattr(back, entry.name), getattr(result, entry.name)), entry.name
        for text, again in zip(
            getattr(result, "texts", ()), getattr(back, "texts", ()), strict=True
        ):
            assert text.tokens == again.tokens
            assert np.array_equal(text.alpha, again.alpha)
