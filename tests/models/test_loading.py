from __future__ import annotations

import json

import pytest
import tiny_types
import torch
from families import tiny
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    T5Config,
    T5ForConditionalGeneration,
)

from engramcka.config import EngramConfig
from engramcka.errors import ConfigError, StoreError
from engramcka.models import find_blocks, graft, load_model, require_stream
from engramcka.models.blocks import capture_points
from engramcka.models.loading import require_offsets


@pytest.fixture
def saved(tokenizer, tmp_path):
    folder = tmp_path / "model"
    tiny("llama", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_loads_in_eval_mode_and_keeps_the_dtype(saved, tokenizer):
    model, loaded = load_model(str(saved))
    assert not model.training
    assert model.dtype == torch.float32
    assert loaded("import os")["input_ids"] == tokenizer("import os")["input_ids"]
    assert loaded("os", return_offsets_mapping=True)["offset_mapping"]
    half, _ = load_model(str(saved), dtype="bfloat16", device="cpu")
    assert half.dtype == torch.bfloat16


def test_loads_a_grafted_model(saved, tokenizer, tmp_path):
    backbone, _ = load_model(str(saved))
    engram = EngramConfig(layers=(2,), d_mem=8, heads=2, table_size=50)
    model = graft(backbone, engram, tokenizer)
    model.save_pretrained(tmp_path / "grafted")
    tokenizer.save_pretrained(tmp_path / "grafted")
    loaded, _ = load_model(str(tmp_path / "grafted"))
    ids = torch.randint(3, 300, (1, 9))
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert len(find_blocks(loaded).modules) == 3
    half, _ = load_model(str(tmp_path / "grafted"), dtype="bfloat16")
    assert half.module("2").memory.weight.dtype == torch.bfloat16
    for name, buffer in half.hashing.named_buffers():
        assert torch.equal(buffer, model.hashing.get_buffer(name))


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(StoreError) as error:
        load_model(str(tmp_path / "nowhere"))
    assert "no such folder" in one_line(error)
    with pytest.raises(StoreError) as error:
        load_model(str(tmp_path))
    assert "no config.json" in one_line(error)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError) as error:
        load_model(str(tmp_path / "file"))
    assert "a file" in one_line(error)


def test_broken_weights(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(StoreError) as error:
        load_model(str(saved))
    assert "the checkpoint is incomplete" in one_line(error)


def test_missing_weights_are_not_made_up(saved):
    """transformers would fill them with random numbers and go on."""
    from safetensors.torch import load_file, save_file

    weights = load_file(saved / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StoreError) as error:
        load_model(str(saved))
    assert "model.layers.1.mlp.up_proj.weight" in one_line(error)


def test_neither_a_causal_lm_nor_an_encoder(saved, tmp_path, tokenizer):
    folder = tmp_path / "translator"
    t5 = T5Config(vocab_size=400, d_model=16, d_ff=16, d_kv=8, num_layers=2, num_heads=2)
    T5ForConditionalGeneration(t5).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with pytest.raises(ConfigError) as error:
        load_model(str(folder))
    assert "T5ForConditionalGeneration, which is neither a causal" in one_line(error)
    settings = json.loads((saved / "config.json").read_text())
    settings["model_type"] = "never_heard_of"
    (saved / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError) as error:
        load_model(str(saved))
    assert "never_heard_of" in one_line(error)


def test_no_tokenizer(saved):
    for file in saved.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(StoreError) as error:
        load_model(str(saved))
    assert "tokenizer" in one_line(error)


def test_loads_across_devices_and_with_another_attention(saved):
    plain, _ = load_model(str(saved))
    spread, _ = load_model(str(saved), parallel="auto", attn_implementation="eager")
    assert spread.config._attn_implementation == "eager"
    ids = torch.randint(3, 300, (1, 9))
    with torch.no_grad():
        found = spread(input_ids=ids.to(spread.device)).logits.cpu()
        assert torch.allclose(found, plain(input_ids=ids).logits, atol=1e-4)


def test_quantization_without_its_package(saved, monkeypatch):
    monkeypatch.setattr("engramcka.models.loading.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        load_model(str(saved), quantization="4bit")
    assert "quantization = '4bit' needs bitsandbytes" in one_line(error)


def test_a_checkpoint_that_is_quantised_already_is_not_moved(saved, monkeypatch):
    """Its own quantization_config is honoured; without its package that is one line."""
    settings = json.loads((saved / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (saved / "config.json").write_text(json.dumps(settings))
    with pytest.raises((StoreError, ConfigError)) as error:
        load_model(str(saved))
    assert "cannot be loaded" in one_line(error)
    with pytest.raises(ConfigError) as error:
        load_model(str(saved), parallel="tp")
    assert "its weights are quantised, and parallel = 'tp' shares out whole ones" in one_line(error)


def test_a_tokenizer_without_offsets():
    class Slow:
        is_fast = False

    with pytest.raises(ConfigError) as error:
        require_offsets("m", Slow())
    assert "m: Slow is not a fast tokenizer and gives no character offsets" in one_line(error)


@pytest.mark.parametrize("kind", ["gemma3", "qwen3_5"])
def test_a_model_for_text_and_pictures_opens_as_its_decoder(kind, tmp_path, tokenizer):
    """Saved as ForConditionalGeneration; fed with text alone it gives the logits of the whole."""
    config = AutoConfig.for_model(kind)
    tiny_types.shrink(config)
    config.text_config.vocab_size = len(tokenizer)
    small = {"image_size": 28, "patch_size": 14, "depth": 2, "num_heads": 4, "out_hidden_size": 32}
    for key in small.keys() & vars(config.vision_config).keys():
        setattr(config.vision_config, key, small[key])
    torch.manual_seed(0)
    whole = AutoModelForImageTextToText.from_config(config).eval()
    whole.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert type(whole).__name__.endswith("ForConditionalGeneration")
    loaded, _ = load_model(str(tmp_path), dtype="float32")
    require_stream(loaded, capture_points(loaded), tiny_types.IDS, is_chain=True)
    ids = torch.from_numpy(tiny_types.IDS)[None]
    with torch.no_grad():
        found = loaded(input_ids=ids, use_cache=False).logits
        assert torch.equal(found, whole(input_ids=ids, use_cache=False).logits)
