"""Models of every source through a whole run: loaded, of one's own code, imported, in a series."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from run_fixtures import config_text, refusal
from small_sources import RunConfig, save_tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from engramcka.config import load_config
from engramcka.errors import EngramckaError
from engramcka.pipeline import make_plan
from engramcka.stores.run import Run


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
    assert all(task.is_done() for task in make_plan(load_config(tmp_path / "config.toml")))
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
    assert all(task.is_done() for task in make_plan(load_config(tmp_path / "config.toml")))
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
        return all(task.is_done() for task in make_plan(load_config(tmp_path / "config.toml")))

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
    assert "delete it to copy it again" in line
    shutil.rmtree(tmp_path / "run/activations/a.zarr")
    after = run(text).cka["map"].similarity  # made again with it
    assert after[::-1].diagonal() == pytest.approx([1.0, 1.0], abs=1e-6)
    np.savez(tmp_path / "b.npz", h1=stack[0], h2=stack[1], h3=stack[1])
    (tmp_path / "b.npz").unlink()
    assert all(task.is_done() for task in make_plan(load_config(tmp_path / "config.toml")))


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
    assert all(task.is_done() for task in make_plan(load_config(tmp_path / "config.toml")))
