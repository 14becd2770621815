"""What `check` says of the machine that a run needs, from config files without weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_sources import save_tiny_llama
from transformers import AutoTokenizer, LlamaConfig
from typer.testing import CliRunner

from engramcka.cli.app import app

WIDTH, INNER, LAYERS, VOCABULARY = 8192, 28672, 80, 128256
CONFIG = """
[run]
dir = "run"
[data]
samples = 4096
[models.large]
source = "hf"
path = "large"
parallel = "auto"
[[lens]]
models = ["large"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config of 70B parameters and a tokenizer, and no weights."""
    save_tiny_llama(tmp_path / "small", seed=0, vocabulary=330)
    AutoTokenizer.from_pretrained(tmp_path / "small").save_pretrained(tmp_path / "large")
    LlamaConfig(
        hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=64, num_key_value_heads=8, vocab_size=VOCABULARY,
        architectures=["LlamaForCausalLM"], dtype="bfloat16",
    ).save_pretrained(tmp_path / "large")  # fmt: skip
    (tmp_path / "c.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*options: str) -> str:
    result = CliRunner().invoke(app, ["check", "c.toml", *options], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_gpus_and_hours_of_a_model_without_weights(folder: Path) -> None:
    block = 2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH // 8 + 3 * WIDTH * INNER + 2 * WIDTH
    parameters = LAYERS * block + 2 * VOCABULARY * WIDTH + WIDTH
    assert round(parameters / 1e9, 1) == 70.6
    text = said()
    assert "large: 70.6B parameters, 69.5B active; 141 GB of weights: 3 GPUs of 80 GB or " in text
    assert "or 2 GPUs of 141 GB" in text
    hours = float(text.split("hours: about ")[1].split()[0])
    assert 141 / 3600 < hours < 0.5  # to read the weights at 1 GB a second takes 141 s


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"quant_method": "gptq", "bits": 8}, "; 70.6 GB of weights: one GPU of 141 GB"),
        # Made whole while it is loaded, so that it needs what it would without.
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "; 141 GB of weights: 3 GPUs"),
    ],
)
def test_a_quantised_checkpoint_needs_what_it_is_held_in(
    settings: dict[str, object], says: str, folder: Path
) -> None:
    file = folder / "large" / "config.json"
    config = json.loads(file.read_text())
    config["quantization_config"] = settings
    file.write_text(json.dumps(config))
    assert says in said()
