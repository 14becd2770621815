"""What tasks are made from stays as it was: a change would compute every existing run again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from engramcka.config import load_config
from engramcka.pipeline import make_plan
from engramcka.stores.provenance import digest

CONFIG = """
[run]
dir = "run"
seed = 3

[data]
source = "text"
path = "text"
positions = "last"
samples = 8
vocabulary = 300
validation_share = 0.5

[training]
steps = 30
checkpoints = [10]

[models.hub]
source = "hf"
path = "model"
label = "H"

[models.own]
source = "python"
function = "own:make"

[models.files]
source = "activations"
path = "layer_1.npy"

[models.made]
source = "train"
engram = { layers = [1], d_mem = 32, heads = 2, table_size = 400 }

[[cka]]
name = "map"
y = "hub"
x = "own"

[[lens]]
models = ["made"]
memory_off = ["made"]

[[gates]]
models = ["made"]

[[sweep]]
name = "where"
model = "made"
layers = [2]

[[allocation]]
name = "shares"
model = "made"
rho = [1.0, 0.5]
"""
DIGESTS = {  # what a task makes -> a digest of what that is made from
    "tokenizer/text": "ec3ea3b3",
    "moe-tiny-engram1-seed3-ab0a3d24": "ab0a3d24",
    "extract/hub": "ec244c1c",
    "extract/own": "419c5d2c",
    "extract/files": "7d88c79b",
    "extract/made.step-000010": "cf5db5fa",
    "extract/made": "064ef814",
    "cka/map": "85c649ea",
    "lens/made": "241688f9",
    "lens/made.memory-off": "d956c674",
    "gates/made": "48121d29",
    "memory/made": "9e98b388",
    "moe-tiny-seed3-eb8ddf0d": "eb8ddf0d",
    "moe-tiny-engram2-seed3-90a8b4ef": "90a8b4ef",
    "sweep/where": "5e1495c1",
    "moe-tiny-experts5-engram1-seed3-11f1e649": "11f1e649",
    "allocation/shares": "a0bd2bae",
}
HUB = {  # what the hidden states of a model of source "hf" are made from
    "model": {
        "points": "block",
        "embedding": False,
        "streams": "mean",
        "source": "hf",
        "path": "model",
        "revision": None,
        "dtype": "auto",
        "attn_implementation": None,
        "quantization": "none",
        "trust_remote_code": False,
        "content": "03ddf95acdb6a95b",
    },
    "data": {
        "source": "text",
        "path": "text",
        "name": None,
        "split": None,
        "revision": None,
        "text_column": None,
        "entities_column": None,
        "documents": None,
        "positions": "last",
        "samples": 8,
        "passage_length": None,
        "max_length": 512,
        "validation_share": 0.5,
        "content": "9e920a76371ad16b",
    },
    "seed": 3,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("model", "text"):
        Path(name).mkdir()
    Path("model/config.json").write_text('{"model_type": "llama"}')
    Path("model/model.safetensors").write_bytes(bytes(range(256)))
    for number in range(10):
        Path(f"text/{number}.txt").write_text(f"text number {number}\n" * 30)
    Path("own.py").write_text("def make():\n    return None\n")
    np.save("layer_1.npy", np.arange(48, dtype=np.float32).reshape(8, 6))
    os.utime("layer_1.npy", ns=(10**18, 10**18))
    Path("c.toml").write_text(CONFIG)
    return tmp_path


def test_the_inputs_of_every_task(folder: Path) -> None:
    tasks = make_plan(load_config("c.toml", ()))
    inputs = {task.makes: task.inputs for task in tasks}
    assert inputs["extract/hub"] == inputs["cka/map"]["y"] == HUB
    assert {name: digest(values) for name, values in inputs.items()} == DIGESTS
