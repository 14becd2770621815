"""Models of every source through a whole run: loaded, of one's own code, imported, in a series."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_sources import RunConfig, save_tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from engramcka.config import load_config
from engramcka.errors import EngramckaError
from engramcka.pipeline import make_plan
from engramcka.pipeline.estimate import estimate
from engramcka.stores.run import Run

HEAD = """
[run]
dir = "run"
device = "cpu"

[data]
source = "few-nerd"
path = "{sources}/few-nerd"
samples = 40
positions = "{positions}"
"""
CKA = """
[[cka]]
name = "map"
y = "a"
x = "b"
batch_size = 20
"""


def config_text(sources: Path, models: str, positions: str = "entity-last", cka: str = CKA) -> str:
    return (HEAD + models + cka).format(sources=sources, positions=positions)


def refusal(tmp_path: Path, text: str, *overrides: str) -> str:
    """The one line that a plan of this config is refused with."""
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(EngramckaError) as error:
        make_plan(load_config(tmp_path / "c.toml", overrides))
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


def hidden(folder: Path, done: Run, store: str, layer: int) -> np.ndarray:
    """(samples, width) means over each stored sample's tokens, a passage at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    from engramcka.config import DataTable
    from engramcka.data import load_corpus

    table = done.activations(store).samples
    texts = load_corpus(DataTable.model_validate(done.config["data"]))
    rows = []
    for row in range(len(table["start"])):
        text = texts.validation_text(table["document"][row])
        encoded = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
        offsets = encoded.pop("offset_mapping")[0]
        inside = (offsets[:, 1] > table["start"][row]) & (offsets[:, 0] < table["end"][row])
        with torch.no_grad():
            states = model(**encoded, output_hidden_states=True).hidden_states[layer][0]
        rows.append(states[inside].mean(0).numpy())
    return np.stack(rows)


def test_means_over_entities_with_the_embedding_by_two_ways(sources: Path, run: RunConfig) -> None:
    models = """
[models.a]
source = "hf"
path = "{sources}/first"
embedding = true
attn_implementation = "eager"

[models.b]
source = "hf"
path = "{sources}/second"
points = "mlp"
"""
    done = run(config_text(sources, models, "mean"))
    store = done.activations("a")
    assert list(store.layers) == [0, 1, 2, 3]
    assert store.attributes["points"] == "block"
    for layer in (0, 2):
        expected = hidden(sources / "first", done, "a", layer)
        assert np.abs(store.layers[layer][0:40] - expected).max() < 1e-5
    assert list(done.activations("b").layers) == [1, 2, 3]
    cka = done.cka["map"]
    assert (cka.y_layers, cka.x_layers, cka.n_samples) == ((0, 1, 2, 3), (1, 2, 3), 40)


OWN = """
from pathlib import Path
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = Path(__file__).parent / "weights"

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = AutoModelForCausalLM.from_pretrained(FOLDER)

    def forward(self, input_ids, attention_mask=None):
        return self.body(input_ids=input_ids, attention_mask=attention_mask)

def make():
    return Own(), AutoTokenizer.from_pretrained(FOLDER)

def half():
    return Own()

def fails():
    raise RuntimeError("no weights here\\nnor there")
"""


def test_a_model_of_ones_own_code(sources: Path, run: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(sources / "first", tmp_path / "code" / "weights")
    (tmp_path / "code" / "my_own_model.py").write_text(OWN)
    models = """
[models.a]
source = "hf"
path = "{sources}/first"

[models.b]
source = "python"
function = "my_own_model:make"
path = "code"
blocks = "body.model.layers.*"
"""
    done = run(config_text(sources, models))
    a, b = done.activations("a"), done.activations("b")
    for layer in (1, 2, 3):
        assert (a.layers[layer][0:40] == b.layers[layer][0:40]).all()
    for function, says in (
        ("my_own_model:half", "my_own_model:half returned Own; allowed: (a torch module"),
        ("my_own_model:fails", "my_own_model:fails failed (RuntimeError: no weights here)"),
        ("my_own_model:nothing", "cannot be imported (AttributeError"),
        ("no_such_module:make", "cannot be imported (ModuleNotFoundError"),
    ):
        with pytest.raises(EngramckaError) as error:
            run(
                config_text(sources, models),
                "run.dir=other",
                f"models.b.function={function}",
            )
        assert says in str(error.value)
        assert error.value.exit_code == 2
    code = tmp_path / "code" / "my_own_model.py"
    code.rename(tmp_path / "elsewhere.py")  # gone: what it made may be used
    assert all(piece.is_done() for piece in make_plan(load_config(tmp_path / "config.toml")))
    code.write_text(OWN.replace("Own(), Auto", "Own().double(), Auto"))
    line = refusal(tmp_path, (tmp_path / "config.toml").read_text())
    assert "b.zarr: made with model.code = " in line


def test_imported_rows_are_compared_in_order(sources: Path, run: RunConfig, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"layer{n}": rng.standard_normal((50, 6)).astype(np.float32) for n in (1, 2)}
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez(tmp_path / "b.npz", **{f"h_{n}": arrays["layer1"] @ np.eye(6)[::-1] for n in (0, 7)})
    models = """
[models.a]
source = "activations"
path = "a.npz"

[models.b]
source = "activations"
path = "b.npz"
"""
    text = config_text(sources, models).replace("{sources}/few-nerd", "nowhere")
    line = refusal(tmp_path, text)
    assert "line 18, models.b.path: b.npz: arrays are numbered from 0 ('h_0' to 'h_7'); say" in line
    text = text.replace('"b.npz"', '"b.npz"\nfirst_layer = 0')
    blocks = run(text, "run.dir=blocks", "models.b.first_layer=1").cka["map"]
    assert blocks.x_layers == (1, 8)
    done = run(text)
    cka = done.cka["map"]
    assert (cka.y_layers, cka.x_layers, cka.n_samples) == ((1, 2), (0, 7), 50)
    assert cka.similarity[0] == pytest.approx([1.0, 1.0], abs=1e-6)
    (tmp_path / "a.npz").unlink()
    assert all(piece.is_done() for piece in make_plan(load_config(tmp_path / "config.toml")))
    np.savez(tmp_path / "c.npz", layer1=arrays["layer1"][:30])
    with pytest.raises(EngramckaError, match="row by row and have 30 and 50 rows"):
        run(text, "run.dir=other", "models.a.path=c.npz", "models.a.first_layer=1")
    mixed = models.replace('"activations"\npath = "b.npz"', '"hf"\npath = "{sources}/first"')
    line = refusal(tmp_path, config_text(sources, mixed), "models.a.path=c.npz")
    assert "cka[0].y" in line
    assert "give models.a a samples file" in line
    line = refusal(tmp_path, config_text(sources, models), "run.dir=third")
    assert "models.a.path: a.npz: no arrays there" in line


def test_imported_rows_with_a_sample_table_meet_extracted_ones(
    sources: Path, run: RunConfig, tmp_path: Path
) -> None:
    models = """
[models.a]
source = "hf"
path = "{sources}/first"

[models.b]
source = "activations"
path = "b"
samples = "b.jsonl"
"""
    alone = models.partition("[models.b]")[0]
    first = run(config_text(sources, alone, cka=""), "run.dir=first").activations("a")
    order = np.random.default_rng(0).permutation(40)[:30]
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "b" / "layer_2.npy", first.layers[2][0:40][order])
    table = first.samples
    rows = [
        {
            "document": str(table["document"][row]),
            "start": int(table["start"][row]),
            "end": int(table["end"][row]),
        }
        for row in order
    ]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    cka = run(config_text(sources, models)).cka["map"]
    assert cka.n_samples == 30
    assert cka.similarity[1, 0] == pytest.approx(1.0, abs=1e-6)
    assert cka.provenance["unmatched_samples"] == 10


def test_weights_and_text_that_change_after_the_extraction_are_noticed(
    sources: Path, run: RunConfig, tmp_path: Path
) -> None:
    shutil.copytree(sources / "first", tmp_path / "model")
    lines = [json.dumps({"text": f"{words} number {n}"}) for n, words in enumerate("abcdefgh" * 5)]
    (tmp_path / "text.jsonl").write_text("\n".join(lines))
    text = """
[run]
dir = "run"
device = "cpu"

[data]
source = "jsonl"
path = "text.jsonl"
positions = "last"
samples = 20

[models.a]
source = "hf"
path = "model"
"""
    run(text)

    def done() -> bool:
        return all(piece.is_done() for piece in make_plan(load_config(tmp_path / "config.toml")))

    for place in (tmp_path / "model" / "model.safetensors", tmp_path / "text.jsonl"):
        os.utime(place, (1, 1))  # as a copy has another time
    assert done()
    (tmp_path / "model").rename(tmp_path / "moved")  # gone: what was made with it may be used
    assert done()
    save_tiny_llama(tmp_path / "model", seed=5)
    assert "a.zarr: made with model.content = " in refusal(tmp_path, text)
    shutil.rmtree(tmp_path / "model")
    (tmp_path / "moved").rename(tmp_path / "model")
    assert done()
    (tmp_path / "text.jsonl").write_text("\n".join(lines).replace("number 7", "number 8"))
    assert "a.zarr: made with data.content = " in refusal(tmp_path, text)


def test_files_that_change_after_their_import_are_noticed(
    sources: Path, run: RunConfig, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    stack = rng.standard_normal((2, 30, 6)).astype(np.float32)
    np.save(tmp_path / "a.npy", stack)
    np.savez(tmp_path / "b.npz", h1=stack[0], h2=stack[1])
    models = """
[models.a]
source = "activations"
path = "a.npy"
layer_axis = 0

[models.b]
source = "activations"
path = "b.npz"
"""
    text = config_text(sources, models).replace("{sources}/few-nerd", "nowhere")
    before = run(text).cka["map"].similarity
    assert before.diagonal() == pytest.approx([1.0, 1.0], abs=1e-6)
    os.utime(tmp_path / "a.npy", (1, 1))
    assert "a.zarr: a.npy has changed since it was copied from there (then bytes" in refusal(
        tmp_path, text
    )
    np.save(tmp_path / "a.npy", stack[::-1])
    line = refusal(tmp_path, text)
    assert "delete it to copy it anew" in line
    shutil.rmtree(tmp_path / "run/activations/a.zarr")
    after = run(text).cka["map"].similarity  # made anew with it
    assert after[::-1].diagonal() == pytest.approx([1.0, 1.0], abs=1e-6)
    np.savez(tmp_path / "b.npz", h1=stack[0], h2=stack[1], h3=stack[1])
    (tmp_path / "b.npz").unlink()
    assert all(piece.is_done() for piece in make_plan(load_config(tmp_path / "config.toml")))


def test_the_store_of_another_run_meets_extracted_ones(
    sources: Path, run: RunConfig, tmp_path: Path
) -> None:
    models = """
[models.a]
source = "hf"
path = "{sources}/first"
embedding = true

[models.b]
source = "activations"
path = "first/activations/a.zarr"
"""
    alone = models.partition("[models.b]")[0]
    first = run(config_text(sources, alone, cka=""), "run.dir=first").activations("a")
    done = run(config_text(sources, models))
    cka, store = done.cka["map"], done.activations("b")
    assert (cka.n_samples, cka.y_layers, cka.x_layers) == (40, (0, 1, 2, 3), (0, 1, 2, 3))
    assert cka.similarity.diagonal() == pytest.approx([1.0] * 4, abs=1e-6)
    assert store.attributes["corpus"] == first.attributes["corpus"]
    assert {k: v.tolist() for k, v in store.samples.items()} == {
        k: v.tolist() for k, v in first.samples.items()
    }
    with pytest.raises(EngramckaError, match="were extracted from other text"):
        run(config_text(sources, models), "run.dir=other", "data.documents=20", "data.samples=30")
    os.utime(tmp_path / "first/activations/a.zarr/layer_01/zarr.json")  # the manifest tells
    assert all(piece.is_done() for piece in make_plan(load_config(tmp_path / "config.toml")))


def test_a_series_over_checkpoints_gives_a_map_a_step(
    sources: Path, run: RunConfig, tmp_path: Path
) -> None:
    for step in (5, 100, 20):
        save_tiny_llama(tmp_path / "ck" / f"step-{step}", seed=step)
    models = """
[models.a]
source = "hf"
path = "{sources}/first"

[models.b]
source = "hf"
path = "ck/step-*"
"""
    done = run(config_text(sources, models))
    assert done.models == ["a", "b.step-000005", "b.step-000020", "b.step-000100"]
    assert list(done.cka) == ["map", "map.step-000005", "map.step-000020"]
    found = {cka.step: cka for cka in done.cka.values()}
    assert list(found) == [100, 5, 20]
    assert {cka.series for cka in found.values()} == {"map"}
    assert not np.allclose(found[5].similarity, found[100].similarity)
    assert done.activations("b.step-000020").attributes["model"]["path"] == "ck/step-20"
    both = config_text(sources, models).replace("{sources}/first", "ck/step-*")
    again = run(both, "models.a.path=ck/step-*0", "run.dir=both")
    assert sorted(cka.step for cka in again.cka.values()) == [20, 100]
    assert again.cka["map"].similarity.diagonal() == pytest.approx([1.0] * 3, abs=1e-6)
    line = refusal(tmp_path, both, "models.a.path=ck/step-5*", "models.b.path=ck/step-2*")
    assert "'a' has steps 5, 'b' has 20; two series are paired by step" in line
    assert "no checkpoint matches 'ck/none-*'" in refusal(tmp_path, both, "models.a.path=ck/none-*")
    (tmp_path / "ck" / "v2-step-5").symlink_to(tmp_path / "ck" / "step-5")
    assert "has the number of" in refusal(tmp_path, both, "models.a.path=ck/*5")
    plan = make_plan(load_config(tmp_path / "config.toml"))
    costs = estimate(load_config(tmp_path / "config.toml"), plan)
    assert all(cost.flops for p, cost in zip(plan, costs, strict=True) if p.stage == "extract")


def test_checkpoints_of_a_training_are_a_series(sources: Path, run: RunConfig) -> None:
    done = run(
        f"""
[run]
dir = "run"
device = "cpu"

[data]
source = "few-nerd"
path = "{sources}/few-nerd"
validation_share = 0.5
samples = 16
vocabulary = 300

[models.m]
source = "train"
embedding = true

[training]
steps = 3
checkpoints = [1, 2]
batch_size = 1
sequence_length = 8
warmup_steps = 1
validation_sequences = 1

[[cka]]
name = "self"
y = "m"
x = "m"
batch_size = 8

[[lens]]
models = ["m"]
checkpoints = true
"""
    )
    assert done.models == ["m", "m.step-000001", "m.step-000002"]
    assert list(done.lens) == done.models
    config = load_config(Path("config.toml"))
    plan = make_plan(config)
    costs = {piece.makes: cost for piece, cost in zip(plan, estimate(config, plan), strict=True)}
    assert costs["extract/m.step-000001"].flops == costs["extract/m"].flops > 0
    assert costs["lens/m.step-000001"].flops == 0  # read in the extraction's pass
    for name, curve in done.lens.items():
        kl = done.activations(name).readouts["lens_kl_final_layer"][0:16].astype(np.float64)
        assert curve.kl == pytest.approx(kl.mean(axis=0))
    assert [curve.label for curve in done.lens.values()] == ["m", "m, step 1", "m, step 2"]
    assert not np.allclose(done.lens["m"].kl, done.lens["m.step-000001"].kl, rtol=1e-3)
    assert {name: cka.step for name, cka in done.cka.items()} == {
        "self": 3,
        "self.step-000001": 1,
        "self.step-000002": 2,
    }
    first, last = (done.activations(name).layers[0][0:16] for name in ("m.step-000001", "m"))
    assert not np.allclose(first, last)
