"""Adapters of peft, trained here for a step: the model with one gives peft's own numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from families import tiny
from safetensors.torch import load_file, save_file

from engramcka.errors import EngramckaError
from engramcka.models import find_blocks, find_unembedding, load_model, require_stream
from engramcka.models.blocks import capture_points
from engramcka.models.loading import load_checkpoint

IDS = torch.arange(3, 14)[None]
LORA = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj", "up_proj"]}


def adapted(base: Path, folder: Path, kind: str = "LoraConfig", **settings: Any) -> Any:
    """An adapter of ``base``, moved from its start and saved; peft's own model of both."""
    peft = pytest.importorskip("peft", reason="needs the package peft")
    config = getattr(peft, kind)(**(settings or LORA), task_type="CAUSAL_LM")
    model = peft.get_peft_model(load_model(str(base))[0], config)
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        if weight.requires_grad:
            with torch.no_grad():
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.2)
    model.save_pretrained(folder)
    return model.eval()


@pytest.fixture
def base(tmp_path, tokenizer) -> Path:
    folder = tmp_path / "base"
    tiny("qwen3", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(base, tmp_path) -> Path:
    adapted(base, tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("LoraConfig", LORA),
        ("LoraConfig", {**LORA, "use_dora": True}),
        ("LoraConfig", {**LORA, "modules_to_save": ["lm_head"]}),
        ("LoraConfig", {"target_modules": ["q_proj"], "init_lora_weights": "pissa"}),
        ("LoraConfig", {"target_modules": ["q_proj", "lm_head", "embed_tokens"]}),
        ("IA3Config", {"target_modules": ["k_proj", "down_proj"],
                       "feedforward_modules": ["down_proj"]}),
        ("LoKrConfig", {"target_modules": ["q_proj"]}),
    ],
)  # fmt: skip
@torch.no_grad()
def test_a_model_with_its_adapter_is_peft_s_own(kind, settings, base, tmp_path):
    theirs = adapted(base, tmp_path / "adapter", kind, **settings)
    found = load_checkpoint(str(base), adapter=str(tmp_path / "adapter"))
    assert found.notes == ()
    ours = found.model(input_ids=IDS).logits
    assert torch.equal(ours, theirs(input_ids=IDS).logits)
    assert not torch.allclose(ours, load_model(str(base))[0](input_ids=IDS).logits, atol=1e-3)
    assert type(found.model).__name__ == "Qwen3ForCausalLM"
    assert not found.model.training
    assert find_blocks(found.model).path == "model.layers"
    find_unembedding(found.model)
    require_stream(found.model, capture_points(found.model), IDS[0].numpy(), is_chain=True)
    assert len(capture_points(found.model, "self_attn.q_proj")) == 3


def one_line(base: Path, adapter: Path) -> str:
    with pytest.raises(EngramckaError) as error:
        load_model(str(base), adapter=str(adapter))
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


def test_without_peft(base, monkeypatch):
    monkeypatch.setattr("engramcka.models.adapters.find_spec", lambda name: None)
    assert "adapter = 'a' needs peft; pip install 'engramcka[peft]'" in one_line(base, Path("a"))


def test_an_adapter_in_place_of_a_model_or_beside_one(base, adapter):
    with pytest.raises(EngramckaError) as error:
        load_model(str(adapter))
    assert "an adapter (adapter_config.json) and no model; give its base model" in str(error.value)
    for file in adapter.iterdir():
        shutil.copy(file, base)
    with pytest.raises(EngramckaError) as error:
        load_model(str(base))
    assert "a model and an adapter beside it (adapter_config.json), of which" in str(error.value)


def test_the_base_that_an_adapter_names_is_not_followed(base, adapter, tmp_path):
    """It is only remarked where it has another name."""
    file = adapter / "adapter_config.json"
    settings = {**json.loads(file.read_text()), "base_model_name_or_path": "evil/other"}
    file.write_text(json.dumps(settings))
    found = load_checkpoint(str(base), adapter=str(adapter))
    (note,) = found.notes
    assert note == f"the adapter {adapter} was made for evil/other and is applied to {base}"


def test_an_adapter_that_changes_nothing_is_remarked(base, adapter):
    weights = load_file(adapter / "adapter_model.safetensors")
    nothing = {n: w * 0 if "lora_B" in n else w for n, w in weights.items()}
    save_file(nothing, adapter / "adapter_model.safetensors")
    (note,) = load_checkpoint(str(base), adapter=str(adapter)).notes
    assert note == f"the adapter {adapter} changes nothing of {base}"


def test_an_adapter_of_another_model(base, adapter, tmp_path, tokenizer):
    weights = load_file(adapter / "adapter_model.safetensors")
    name = "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight"
    fewer = {key: value for key, value in weights.items() if key != name}
    save_file(fewer, adapter / "adapter_model.safetensors")
    assert f"it has no {name} (1 such weights); it is an adapter of another" in one_line(
        base, adapter
    )
    more = {**weights, name.replace("layers.2", "layers.7"): weights[name].clone()}
    save_file(more, adapter / "adapter_model.safetensors")
    assert "it has a base_model.model.model.layers.7." in one_line(base, adapter)
    save_file({**weights, name: torch.ones(4, 5)}, adapter / "adapter_model.safetensors")
    assert f"peft cannot apply it to {base} (" in one_line(base, adapter)
    gpt2 = tmp_path / "gpt2"
    tiny("gpt2", len(tokenizer)).save_pretrained(gpt2)
    tokenizer.save_pretrained(gpt2)
    save_file(weights, adapter / "adapter_model.safetensors")
    assert f"peft cannot apply it to {gpt2} (Target modules" in one_line(gpt2, adapter)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "has megatron_config"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "has layer_replication"),
        ({"alora_invocation_tokens": [5]}, "has alora_invocation_tokens"),
        ({"peft_type": "NEVER_HEARD_OF"}, "peft cannot apply it"),
        ({"peft_type": None}, "peft cannot apply it"),
        ({"r": "many"}, "peft cannot apply it"),
    ],
)
def test_what_no_adapter_should_ask_for(settings, says, base, adapter):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    assert says in one_line(base, adapter)


def test_tokens_before_the_text_are_no_change_of_the_model(base, tmp_path):
    adapted(base, tmp_path / "prompt", "PromptTuningConfig", num_virtual_tokens=3)
    line = one_line(base, tmp_path / "prompt")
    assert "PROMPT_TUNING puts tokens before the text and leaves the model as it is" in line


def test_a_folder_without_an_adapter(base, adapter, tmp_path):
    assert "nowhere: no adapter_config.json there" in one_line(base, tmp_path / "nowhere")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "no adapter_model.safetensors there; allowed" in one_line(base, adapter)


LOAD = """
import sys
from engramcka.errors import EngramckaError
from engramcka.models.loading import load_checkpoint
try:
    found = load_checkpoint(sys.argv[1], adapter=sys.argv[2] or None)
except EngramckaError as error:
    sys.exit(str(error))
print(any("lora" in name for name, _ in found.model.named_modules()), found.notes)
"""


def from_cache(cache: Path, path: str, adapter: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", LOAD, path, adapter],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_an_adapter_on_the_hub(base, adapter, tmp_path):
    """Given as path, it would pull the base that it names; given as adapter, it is applied."""
    place = tmp_path / "cache/hub/models--user--lora"
    shutil.copytree(adapter, place / "snapshots/0123")
    (place / "refs").mkdir()
    (place / "refs/main").write_text("0123")
    refused = from_cache(tmp_path / "cache", "user/lora", "")
    assert refused.returncode == 1
    assert "user/lora: an adapter (adapter_config.json) and no model" in refused.stderr
    applied = from_cache(tmp_path / "cache", str(base), "user/lora")
    assert applied.stdout == "True ()\n", applied.stderr
    gone = from_cache(tmp_path / "cache", str(base), "user/gone")
    assert "user/gone: the adapter cannot be fetched (" in gone.stderr
