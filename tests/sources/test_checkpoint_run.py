"""What is odd about a checkpoint reaches the log, the summary and the results, or ends the run."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from command import here
from run_fixtures import config_text, refusal
from safetensors.torch import load_file, save_file
from small_sources import RunConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from engramcka import open_run
from engramcka.config import load_config
from engramcka.pipeline import make_plan

MODELS = """
[models.a]
source = "hf"
path = "{sources}/first"

[models.b]
source = "hf"
path = "model"
"""
LENS = """
[[lens]]
models = ["a", "b"]
"""
NOTE = (
    "b: one weight of the checkpoint is not part of the model that was opened (secret_gate.weight)"
)


@pytest.fixture
def model(sources: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sources / "first", tmp_path / "model"))


def with_weight(folder: Path, name: str, weight: torch.Tensor) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, name: weight}, folder / "model.safetensors", metadata={"format": "pt"})


def command(name: str, text: str, folder: Path) -> str:
    """What a command that is refused says, in one line."""
    (folder / "c.toml").write_text(text)
    done = here(name, "c.toml", cwd=folder)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_weight_without_a_place_is_said_everywhere(
    sources: Path, model: Path, tmp_path: Path
) -> None:
    with_weight(model, "secret_gate.weight", torch.ones(3))
    (tmp_path / "c.toml").write_text(config_text(sources, MODELS) + LENS)
    checked = here("check", "c.toml", cwd=tmp_path)
    assert f"Note: models.{NOTE}." in checked.stdout
    done = here("run", "c.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace("\n", " ").count("warning: b: one weight of the checkpoint") == 2
    found = open_run(tmp_path / "run")
    assert found.cka["map"].warnings[0] == NOTE
    assert NOTE in found.lens["b"].warnings
    assert NOTE not in found.lens["a"].warnings
    logged = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert any(NOTE in line.get("info", "") for line in logged if line["event"] == "warning")


@pytest.mark.parametrize("name", ["check", "run"])
def test_fewer_blocks_than_are_saved(name: str, sources: Path, model: Path, tmp_path: Path) -> None:
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": 2}))
    line = command(name, config_text(sources, MODELS), tmp_path)
    assert "model: its config.json says 2 blocks, and its weights are of 3" in line
    assert not (tmp_path / "run/activations/b.zarr").exists()


@pytest.mark.parametrize("name", ["check", "run"])
def test_no_tokenizer(name: str, sources: Path, model: Path, tmp_path: Path) -> None:
    for file in model.glob("tokenizer*"):
        file.unlink()
    line = command(name, config_text(sources, MODELS), tmp_path)
    assert "model: no tokenizer in this folder (tokenizer.json, tokenizer_config.json, ..)" in line


@pytest.mark.skipif(find_spec("gptqmodel") is not None, reason="gptqmodel is installed here")
def test_a_package_that_this_machine_lacks(sources: Path, model: Path, tmp_path: Path) -> None:
    """`check` remarks it, since the run may be for another machine."""
    settings = json.loads((model / "config.json").read_text())
    quantised = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    (model / "config.json").write_text(json.dumps({**settings, **quantised}))
    line = command("run", config_text(sources, MODELS), tmp_path)
    assert "model: its weights are quantised by gptq, which cannot be read here (" in line
    checked = here("check", "c.toml", cwd=tmp_path)
    assert checked.returncode == 0
    said = checked.stdout.replace("\n", " ")
    assert "Note: models.b: its weights are quantised by gptq, which this machine cannot" in said


@pytest.fixture
def more_tokens(model: Path) -> Path:
    """A tokenizer with two more tokens than the model has rows: one stands in the text."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = AutoModelForCausalLM.from_pretrained(model).get_input_embeddings().num_embeddings
    assert len(tokenizer) == rows
    tokenizer.add_tokens(["Monaco", "never_there"])
    tokenizer.save_pretrained(model)
    return model


def test_a_token_without_a_row(sources: Path, more_tokens: Path, tmp_path: Path) -> None:
    text = config_text(sources, MODELS)
    line = command("run", text, tmp_path)
    assert "models.b: its tokenizer makes 'Monaco' = 330 of the text, and its embedding has" in line
    assert "resize it where" in line.replace("the embedding ", "it ")
    assert not (tmp_path / "run/activations/b.zarr").exists()
    checked = here("check", "c.toml", cwd=tmp_path)
    assert checked.returncode == 0
    said = checked.stdout.replace("\n", " ")
    assert (
        "models.b: its tokenizer has 2 tokens that its embedding of 330 rows has none for" in said
    )
    assert "the first is 'Monaco' = 330" in said


def test_a_token_without_a_row_that_is_never_met(
    sources: Path, model: Path, run: RunConfig
) -> None:
    """Some models are published so: nothing is wrong with what they read."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["never_there"])
    tokenizer.save_pretrained(model)
    cka = run(config_text(sources, MODELS)).cka["map"]
    assert cka.similarity.diagonal() == pytest.approx([1.0] * 3, abs=1e-6)


OWN = """
from pathlib import Path
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = Path(__file__).parent / "model"

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        body = AutoModelForCausalLM.from_pretrained(FOLDER).model
        self.places = nn.Embedding(1000, 32)
        self.tokens, self.layers, self.rope = body.embed_tokens, body.layers, body.rotary_emb

    def forward(self, input_ids):
        import torch
        place = torch.arange(input_ids.shape[1])[None]
        hidden = self.tokens(input_ids) + 0 * self.places(place)
        for layer in self.layers:
            hidden = layer(hidden, position_embeddings=self.rope(hidden, place))
        return hidden

def make():
    return Own(), AutoTokenizer.from_pretrained(FOLDER)
"""


def test_a_token_without_a_row_of_ones_own_model(
    sources: Path, more_tokens: Path, tmp_path: Path
) -> None:
    (tmp_path / "own_rows.py").write_text(OWN)
    own = '[models.b]\nsource = "python"\nfunction = "own_rows:make"\nblocks = "layers.*"\n'
    line = command("run", config_text(sources, MODELS.partition("[models.b]")[0] + own), tmp_path)
    assert "models.b: its tokenizer makes 'Monaco' = 330 of the text, and its embedding has" in line
    assert not (tmp_path / "run/activations/b.zarr").exists()


def test_an_adapter_is_compared_with_its_base(
    sources: Path, model: Path, run: RunConfig, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft", reason="needs the package peft")
    config = peft.LoraConfig(r=2, target_modules=["down_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
    for weight in adapted.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight)
    adapted.save_pretrained(tmp_path / "adapter")
    text = config_text(sources, MODELS + 'adapter = "adapter"\n')
    done = run(text)
    states = done.activations("b")
    assert states.attributes["model"]["adapter"] == "adapter"
    assert not (states.layers[1][0:40] == done.activations("a").layers[1][0:40]).all()
    merged = adapted.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    for file in model.glob("tokenizer*"):
        shutil.copy(file, tmp_path / "merged")
    whole = run(config_text(sources, MODELS), "run.dir=whole", "models.b.path=merged")
    for layer in (1, 2, 3):
        ours = torch.from_numpy(states.layers[layer][0:40])
        theirs = torch.from_numpy(whole.activations("b").layers[layer][0:40])
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
    adapter = tmp_path / "adapter/adapter_model.safetensors"
    weights = load_file(adapter)
    save_file({name: weight * 2 for name, weight in weights.items()}, adapter)
    assert "b.zarr: made with model.adapter_content = " in refusal(tmp_path, text)


def test_keys_that_do_not_go_with_an_adapter(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = config_text(sources, MODELS + 'adapter = "nowhere"\n').replace('"model"', '"{}/first"')
    text = text.format(sources)
    monkeypatch.setattr("engramcka.pipeline.sources.hf.find_spec", lambda name: None)
    assert "models.b.adapter: found 'nowhere', peft is not installed here" in refusal(
        tmp_path, text
    )
    monkeypatch.setattr("engramcka.pipeline.sources.hf.find_spec", lambda name: name)
    line = refusal(tmp_path, text, "models.b.adapter=./nowhere")
    assert "models.b.adapter=./nowhere: ./nowhere: no adapter_config.json there" in line
    (tmp_path / "c.toml").write_text(text.replace("adapter =", 'parallel = "tp"\nadapter ='))
    with pytest.raises(ValueError, match="does not share out an adapter"):
        load_config(tmp_path / "c.toml")


def test_an_adapter_as_path(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/adapter_config.json").write_text("{}")
    line = refusal(tmp_path, config_text(sources, MODELS.replace('"model"', '"./model"')))
    assert "models.b.path: ./model: an adapter (adapter_config.json) and no model; give" in line


def test_stores_of_before_adapters_are_kept(sources: Path, model: Path, run: RunConfig) -> None:
    done = run(config_text(sources, MODELS))
    assert "adapter" not in done.activations("b").attributes["inputs"]["model"]
    assert all(task.is_done() for task in make_plan(load_config(Path("config.toml"))))
