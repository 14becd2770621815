"""An encoder in a folder is compared by its blocks; a lens of it is refused beforehand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import here
from transformers import BertConfig, BertForMaskedLM, BertModel, T5Config, T5EncoderModel

from engramcka import open_run
from engramcka.data import train_tokenizer
from engramcka.data.documents import Document
from engramcka.errors import ConfigError
from engramcka.models import find_blocks, find_unembedding, load_model, require_stream
from engramcka.models.blocks import capture_points
from engramcka.models.kinds import opens_as

CONFIG = """
[run]
dir = "run"

[data]
documents = 60
samples = 32
per_document = 8
passage_length = 120

[models.one]
source = "hf"
path = "one"

[models.other]
source = "hf"
path = "other"

[[cka]]
name = "map"
y = "one"
x = "other"
batch_size = 16
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, and the same saved as a masked LM, which has no pooler."""
    folder = tmp_path_factory.mktemp("encoders")
    text = "import os.path\nfrom json import loads\n" * 20
    tokenizer = train_tokenizer([Document("a", text)], 280)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4,
    )  # fmt: skip
    one = BertModel(config)
    other = BertForMaskedLM(config)
    other.bert.load_state_dict(one.state_dict(), strict=False)
    for name, model in (("one", one), ("other", other)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    (folder / "config.toml").write_text(CONFIG)
    return folder


def test_two_folders_of_one_encoder_are_alike(folder: Path) -> None:
    result = here("run", "config.toml", cwd=folder)
    assert result.returncode == 0, result.stderr
    cka = open_run(folder / "run").cka["map"]
    assert cka.similarity.shape == (3, 3)
    np.testing.assert_allclose(np.diag(cka.similarity), 1.0, atol=1e-6)
    again = here("run", "config.toml", cwd=folder)
    assert "nothing to do" in again.stdout + again.stderr


def test_a_lens_of_an_encoder_is_one_line(folder: Path) -> None:
    (folder / "lens.toml").write_text(CONFIG + '[[lens]]\nmodels = ["one"]\n')
    result = here("check", "lens.toml", cwd=folder)
    assert result.returncode == 2
    assert "lens[0].models: 'one' is an encoder, so there is no LM head" in result.stderr


def test_only_the_pooler_may_be_missing(folder: Path) -> None:
    model, _ = load_model(str(folder / "other"))
    assert type(model) is BertModel
    assert len(find_blocks(model).modules) == 3
    with pytest.raises(ConfigError, match="no unembedding"):
        find_unembedding(model)


@pytest.mark.parametrize(
    ("names", "kind", "opened"),
    [
        ([], "llama", "causal"),
        (["LlamaForCausalLM"], "llama", "causal"),
        (["SomebodysForCausalLM"], "theirs", "causal"),
        (["BertModel"], "bert", "encoder"),
        (["ModernBertForMaskedLM"], "modernbert", "encoder"),
        (["Gemma3ForConditionalGeneration"], "gemma3", "multimodal"),
        (["T5ForConditionalGeneration"], "t5", ""),
        (["SomebodysModel"], "theirs", ""),
    ],
)
def test_what_a_checkpoint_is_opened_as(names: list[str], kind: str, opened: str) -> None:
    assert opens_as(names, kind) == opened


OWN = """
from transformers import AutoModel, AutoTokenizer
from torch import nn

class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = AutoModel.from_pretrained("one")

    def forward(self, input_ids, attention_mask=None):
        return self.bert(input_ids=input_ids, attention_mask=attention_mask)

def whole():
    return AutoModel.from_pretrained("one"), AutoTokenizer.from_pretrained("one")

def bare():
    return Bare(), AutoTokenizer.from_pretrained("one")
"""
BY_PYTHON = """source = "python"
function = "my_encoders:whole\"
"""


def test_an_encoder_by_ones_own_function_is_compared_and_has_no_lens(folder: Path) -> None:
    (folder / "my_encoders.py").write_text(OWN)
    config = CONFIG.replace('source = "hf"\npath = "other"', BY_PYTHON)
    config = config.replace('dir = "run"', 'dir = "own"')
    (folder / "own.toml").write_text(config)
    result = here("run", "own.toml", cwd=folder)
    assert result.returncode == 0, result.stderr
    cka = open_run(folder / "own").cka["map"]
    np.testing.assert_allclose(np.diag(cka.similarity), 1.0, atol=1e-6)
    for function, blocks, says in (
        ("whole", "", "BertModel has no unembedding (LM head); load it as a causal LM, or leave"),
        ("bare", 'blocks = "bert.encoder.layer.*"', "Bare is no model of transformers, so its LM"),
    ):
        model = f"[models.mine]\n{BY_PYTHON}{blocks}\n".replace("whole", function)
        lens = config.split("[models.one]")[0] + model + '[[lens]]\nmodels = ["mine"]\n'
        (folder / "lens.toml").write_text(lens.replace('dir = "own"', f'dir = "{function}"'))
        result = here("run", "lens.toml", cwd=folder)
        assert result.returncode == 2
        assert f"lens of 'mine': {says}" in result.stderr
        assert not (folder / function / "activations/mine.zarr").exists()  # before any pass


def test_the_encoder_half_of_an_encoder_decoder_is_an_encoder(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4)
    T5EncoderModel(config).save_pretrained(tmp_path / "half")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / "one" / name, tmp_path / "half" / name)
    assert opens_as(["T5EncoderModel"], "t5") == "encoder half"
    assert opens_as(["T5ForConditionalGeneration"], "t5") == ""
    model, _ = load_model(str(tmp_path / "half"))
    points = capture_points(model)
    assert list(points) == [1, 2, 3]
    require_stream(model, points, np.arange(3, 12), is_chain=True)
    text = CONFIG.replace('path = "one"', f'path = "{tmp_path / "half"}"')
    (tmp_path / "config.toml").write_text(
        text.replace('path = "other"', f'path = "{folder / "other"}"')
    )
    result = here("run", "config.toml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert open_run(tmp_path / "run").cka["map"].similarity.shape == (3, 3)
