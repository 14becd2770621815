"""`engramcka import`: what was made elsewhere comes in whole, or is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from engramcka import figures, open_run
from engramcka.cli import export, importing
from engramcka.errors import EngramckaError
from engramcka.paper import published_maps, published_sweep
from engramcka.results import CkaMap
from engramcka.stores import results
from engramcka.tui import browse

RANDOM = np.random.default_rng(0)
POINTS = [
    {"layer": layer, "seed": seed, "loss": 2 + layer / 10 + seed / 100}
    for layer in (3, 1)
    for seed in (0, 4)
]


def take(file: Path, kind: str, run: Path, **options: Any) -> None:
    given = {"name": None, "y_label": "y", "x_label": "x", "tag": None, "force": False}
    given |= {"first_layer": None, **options}
    importing.command(file, kind, run, **given)


def refused(file: Path, kind: str, run: Path, **options: Any) -> str:
    with pytest.raises(EngramckaError) as caught:
        take(file, kind, run, **options)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert not run.exists()
    return str(caught.value)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_an_exported_sweep_comes_back(tmp_path: Path) -> None:
    sweep = published_sweep()
    file = write(tmp_path / "figure-5.csv", figures.to_csv(sweep))
    take(file, "sweep", tmp_path / "run")
    found = open_run(tmp_path / "run").sweep["figure-5"]
    assert found.layers == sweep.layers
    assert found.loss == pytest.approx(sweep.loss)
    assert found.baseline == pytest.approx(sweep.baseline)
    assert dict(found.variants) == pytest.approx(dict(sweep.variants))
    assert dict(found.reference) == pytest.approx(dict(sweep.reference))
    assert (found.label, found.baseline_label) == (sweep.label, sweep.baseline_label)
    assert found.provenance["file"] == str(file)
    assert figures.to_csv(found) == file.read_text()


def test_json_lines_with_seeds_a_hole_and_ablations(tmp_path: Path) -> None:
    rows = [
        *POINTS[:-1],
        *({"kind": "baseline", "seed": seed, "loss": 3 + seed} for seed in (0, 4)),
        *({"kind": "variant", "name": "no gate", "seed": s, "loss": 2.5 + s} for s in (4, 0)),
        {"kind": "reference", "name": "big", "loss": 1.5},
    ]
    file = write(tmp_path / "s.jsonl", "\n".join(map(json.dumps, rows)))
    take(file, "sweep", tmp_path / "run")
    found = open_run(tmp_path / "run").sweep["s"]
    assert found.layers == (1, 3)
    assert found.seeds == (0, 4)
    assert found.loss == pytest.approx(np.array([[2.1, np.nan], [2.3, 2.34]]), nan_ok=True)
    assert found.baseline.tolist() == [3, 7]
    assert dict(found.variant_losses) == {"no gate": (2.5, 6.5)}
    assert found.variants["no gate"] == 4.5
    assert dict(found.reference) == {"big": 1.5}
    assert found.reference_losses == {}
    assert found.warnings == ("layer 1, seed 4 is missing",)


def test_an_exported_map_comes_back_from_every_format(tmp_path: Path) -> None:
    cka = published_maps()["Engram-27B"]
    files = [
        write(tmp_path / "cells.csv", figures.to_csv(cka)),
        write(tmp_path / "bare.csv", "\n".join(",".join(map(str, r)) for r in cka.similarity)),
        tmp_path / "array.npy",
        tmp_path / "tensor.safetensors",
    ]
    np.save(files[2], cka.similarity)
    save_file({"similarity": cka.similarity, "ci_low": cka.similarity - 0.1}, files[3])
    for file in files:
        take(file, "cka", tmp_path / "run", y_label="MoE-27B", x_label="Engram-27B")
        found = open_run(tmp_path / "run").cka[file.stem]
        assert found.similarity.tolist() == cka.similarity.tolist()
        assert found.soft_alignment(5) == pytest.approx(cka.soft_alignment(5))
        assert (found.y_label, found.estimator) == ("MoE-27B", "unknown")
    assert open_run(tmp_path / "run").cka["tensor"].ci_low is not None


def test_a_map_with_the_embedding_comes_back_digit_for_digit(tmp_path: Path) -> None:
    similarity = RANDOM.uniform(-0.1, 1, (4, 3))
    similarity[2, 1] = np.nan
    cka = CkaMap(
        similarity,
        y_layers=(0, 1, 2, 5),
        x_layers=(0, 1, 2),
        ci_low=similarity - RANDOM.uniform(0, 3, (4, 3)),  # an interval may be wide
        ci_high=similarity + RANDOM.uniform(0, 3, (4, 3)),
    )
    results.open_root(tmp_path / "run/results.zarr")
    results.write_result(tmp_path / "run/results.zarr", "a", cka, {})
    exported = tmp_path / "a.csv"
    export.command(tmp_path / "run", exported, what="cka/a")
    tensors = {name: getattr(cka, name) for name in ("similarity", "ci_low", "ci_high")}
    layers = {name: np.array(getattr(cka, name)) for name in ("y_layers", "x_layers")}
    save_file({**tensors, **layers}, tmp_path / "b.safetensors")
    for file in (exported, tmp_path / "b.safetensors"):
        take(file, "cka", tmp_path / "again")
        found = open_run(tmp_path / "again").cka[file.stem]
        assert (found.y_layers, found.x_layers) == (cka.y_layers, cka.x_layers)
        for name, values in tensors.items():
            np.testing.assert_array_equal(getattr(found, name), values)
        assert figures.to_csv(found) == exported.read_text()


def test_a_map_without_layer_numbers_is_told_where_they_begin(tmp_path: Path) -> None:
    similarity = RANDOM.uniform(size=(3, 2))
    np.save(tmp_path / "a.npy", similarity)
    save_file({"similarity": similarity}, tmp_path / "b.safetensors")
    write(tmp_path / "c.csv", "\n".join(",".join(map(str, row)) for row in similarity))
    for name in ("a.npy", "b.safetensors", "c.csv"):
        for first in (None, 0, 1):
            take(tmp_path / name, "cka", tmp_path / "run", first_layer=first, force=True)
            found = open_run(tmp_path / "run").cka[name[0]]
            begin = 1 if first is None else first
            assert found.y_layers == tuple(range(begin, begin + 3))
            assert found.x_layers == tuple(range(begin, begin + 2))
            np.testing.assert_array_equal(found.similarity, similarity)
    cells = write(tmp_path / "d.csv", "y_layer,x_layer,similarity\n0,0,1\n")
    message = refused(cells, "cka", tmp_path / "new", first_layer=0)
    assert "says itself which y_layers and x_layers it has; leave out --first-layer" in message
    sweep = write(tmp_path / "s.csv", "layer,loss\n1,2\n")
    assert "--first-layer: is for maps" in refused(sweep, "sweep", tmp_path / "new", first_layer=0)


def test_what_was_imported_browses_and_exports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "s.jsonl", "\n".join(map(json.dumps, POINTS)))
    take(file, "sweep", tmp_path / "run")
    np.save(tmp_path / "m.npy", RANDOM.uniform(size=(3, 4)))
    take(tmp_path / "m.npy", "cka", tmp_path / "run", name="map")
    stored = open_run(tmp_path / "run")
    figures.save_sweep(stored.sweep["s"], tmp_path / "s.svg")
    figures.save_cka_map(stored.cka["map"], tmp_path / "m.svg")
    capsys.readouterr()
    browse([tmp_path / "run"], once=True)
    assert "map" in capsys.readouterr().out


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    run = tmp_path / "run"
    file = tmp_path / "m.npy"
    np.save(file, np.eye(3))
    take(file, "cka", run)
    np.save(file, np.eye(2))
    with pytest.raises(EngramckaError, match="has cka/m already"):
        take(file, "cka", run)
    assert open_run(run).cka["m"].similarity.shape == (3, 3)
    take(file, "cka", run, force=True)
    assert open_run(run).cka["m"].similarity.shape == (2, 2)
    with pytest.raises(EngramckaError, match="is no run"):
        take(file, "cka", tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.csv", "", "found nothing; needed: loss and layer"),
        ("s.csv", "layer,seed\n1,0\n", "found layer, seed; needed"),
        ("s.csv", "layer,loss\n1,low\n", "line 2: loss = 'low'; allowed: a number"),
        ("s.csv", "layer,loss\n1,inf\n", "line 2: loss = 'inf'"),
        ("s.csv", "layer,loss\n0,2\n", "line 2: layer = '0'; allowed: whole numbers from 1"),
        ("s.csv", "layer,loss\n1.5,2\n", "line 2: layer = '1.5'"),
        ("s.csv", "layer,loss\n1,2\n1,3\n", "line 3: the same point as in"),
        ("s.csv", "layer,loss\n1,2,3\n", "line 2: not as many values"),
        ("s.csv", "kind,layer,loss\nbase,1,2\n", "kind = 'base'; allowed: layer, baseline"),
        ("s.csv", "kind,layer,loss\nvariant,,2\n", "a variant needs a name"),
        ("s.csv", "kind,layer,loss\nbaseline,,2\n", "no loss of any layer"),
        ("s.csv", "\xff\x00layer,loss\n1,2\n", "found"),
        ("s.jsonl", '{"layer": 1, "loss": 2}\n{"layer"', "line 2: no JSON"),
        ("s.jsonl", "[1, 2]", "allowed: an object a line"),
        ("s.jsonl", '{"layer": true, "loss": 2}', "layer = 'True'"),
        ("s.txt", "layer,loss", "allowed: .csv, .jsonl, or TensorBoard"),
    ],
)
def test_a_bad_sweep_is_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    assert message in refused(write(tmp_path / name, text), "sweep", tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.npy", np.array([{}], dtype=object), "no plain .npy array"),
        ("m.npy", np.ones(3), "found shape (3,)"),
        ("m.npy", np.full((2, 2), 7.0), "7 in row 1, column 1; allowed: similarities"),
        ("m.npy", np.array([["a"]]), "found shape (1, 1) of <U1"),
        ("m.npy", b"\x93NUMPY\x01\x00", "no plain .npy array"),
        ("m.safetensors", b"\x00" * 20, "cannot be read"),
        ("m.safetensors", {"a": np.eye(2), "b": np.eye(2)}, "one called similarity"),
        ("m.csv", b"1,2\n3\n", "rows of different lengths"),
        ("m.csv", b"0.5,x\n", "line 1: could not convert"),
        ("m.csv", b"y_layer,x_layer,similarity\n1,1,0.5\n1,2,0.5\n2,1,0.5\n", "3 cells, 2 x 2"),
        ("m.csv", b"y_layer,x_layer,similarity\n-1,1,0.5\n", "layers -1 and 1; allowed: whole"),
        ("m.csv", b"y_layer,x_layer,similarity\n0.5,1,0.5\n", "layers 0.5 and 1; allowed: whole"),
        ("m.csv", b"y_layer,x_layer,similarity\ninf,1,0.5\n", "layers inf and 1; allowed: whole"),
        ("m.csv", b"y_layer,x_layer,similarity\n,1,0.5\n", "layers nan and 1; allowed: whole"),
        (
            "m.safetensors",
            {"similarity": np.eye(2), "y_layers": np.array([1, -1])},
            "y_layers: no list of layers; allowed: whole numbers from 0",
        ),
        (
            "m.safetensors",
            {"similarity": np.eye(2), "y_layers": np.array([1, 1])},
            "y_layers: names one twice",
        ),
        (
            "m.safetensors",
            {"similarity": np.eye(2), "y_layers": np.arange(3)},
            "y_layers names 3 layers, the map has 2",
        ),
        ("m.png", b"", "allowed: .npy, .safetensors, .csv"),
    ],
)
def test_a_bad_map_is_one_line(tmp_path: Path, name: str, content: Any, message: str) -> None:
    file = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(file, content, allow_pickle=True)
    elif isinstance(content, dict):
        save_file(content, file)
    else:
        file.write_bytes(content)
    assert message in refused(file, "cka", tmp_path / "run")


def test_event_files_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    logs = tmp_path / "logs"
    for point, loss in (("layer_02", 2.0), ("layer_07", 2.5), ("baseline", 3.0)):
        for seed in (0, 1):
            with SummaryWriter(str(logs / point / f"seed={seed}")) as writer:
                for step in (1, 2, 3):
                    writer.add_scalar("eval/loss", loss + seed + 3 - step, step)
                    writer.add_scalar("train/loss", 9.0, step)
    take(logs, "sweep", tmp_path / "run", tag="eval/loss")
    found = open_run(tmp_path / "run").sweep["logs"]
    assert found.layers == (2, 7)
    assert found.loss.tolist() == [[2, 3], [2.5, 3.5]]
    assert found.baseline.tolist() == [3, 4]
    assert "name the loss with --tag" in refused(logs, "sweep", tmp_path / "new")
    assert "no scalar 'lr'" in refused(logs, "sweep", tmp_path / "new", tag="lr")
    monkeypatch.setitem(__import__("sys").modules, "tensorboard.util.tensor_util", None)
    with pytest.raises(EngramckaError, match="pip install tensorboard"):
        take(logs, "sweep", tmp_path / "new", tag="eval/loss")
