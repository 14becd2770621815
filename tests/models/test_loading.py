from __future__ import annotations

import json

import pytest
import torch
from families import tiny
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

from engramcka.config import EngramConfig
from engramcka.errors import ConfigError, StoreError
from engramcka.models import find_blocks, graft, load_model
from engramcka.models.describing import require_offsets
from engramcka.models.loading import load_checkpoint


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


def changed(folder, change):
    """A checkpoint's weights after ``change(weights)``."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_missing_weights_are_not_made_up(saved):
    """transformers would fill them with random numbers and go on."""
    changed(saved, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(StoreError) as error:
        load_model(str(saved))
    assert "model.layers.1.mlp.up_proj.weight" in one_line(error)


def test_weights_without_a_place_are_said(saved):
    changed(saved, lambda weights: weights.update({"secret_gate.weight": torch.ones(3)}))
    assert load_checkpoint(str(saved)).notes == (
        "one weight of the checkpoint is not part of the model that was opened "
        "(secret_gate.weight)",
    )
    changed(saved, lambda weights: weights.update({"model.hidden.bias": torch.ones(2)}))
    (note,) = load_checkpoint(str(saved)).notes
    assert note.startswith("2 weights of the checkpoint are not part of the model")
    assert "(the first is model.hidden.bias)" in note


def test_weights_that_transformers_makes_itself_are_not_said(saved):
    inside = {f"model.layers.{n}.self_attn.rotary_emb.inv_freq": torch.ones(4) for n in range(3)}
    changed(saved, lambda weights: weights.update(inside))
    assert load_checkpoint(str(saved)).notes == ()


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_fewer_blocks_than_the_checkpoint_holds(family, tokenizer, tmp_path):
    tiny(family, len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    key = "n_layer" if family == "gpt2" else "num_hidden_layers"
    assert settings[key] == 3
    settings[key] = 2
    settings.pop("layer_types", None)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(StoreError) as error:
        load_model(str(tmp_path))
    assert "its config.json says 2 blocks, and its weights are of 3" in one_line(error)
    assert error.value.exit_code == 2


def test_a_block_for_drafts_may_stand_behind_the_last(saved):
    """DeepSeek-V3 and others predict further tokens with a block that is not run here."""

    def draft(weights):
        inside = [name for name in weights if name.startswith("model.layers.2.")]
        weights.update({n.replace("layers.2", "layers.3"): weights[n].clone() for n in inside})

    changed(saved, draft)
    with pytest.raises(StoreError, match="says 3 blocks, and its weights are of 4"):
        load_model(str(saved))
    settings = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**settings, "num_nextn_predict_layers": 1}))
    (note,) = load_checkpoint(str(saved)).notes
    assert "model.layers.3." in note


def test_another_shape_is_named(saved):
    name = "model.layers.0.input_layernorm.weight"
    changed(saved, lambda weights: weights.update({name: torch.ones(7)}))
    with pytest.raises(StoreError) as error:
        load_model(str(saved))
    assert f"{name} is (7,) in the checkpoint and (32,) by its config.json" in one_line(error)
    assert error.value.exit_code == 2


def test_a_model_without_a_head_that_is_missing_one(saved, tokenizer, tmp_path):
    folder = tmp_path / "headless"
    tiny("qwen3", len(tokenizer)).model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**settings, "architectures": ["Qwen3ForCausalLM"]})
    )
    with pytest.raises(StoreError) as error:
        load_model(str(folder))
    assert "1 weights are not in the checkpoint, the first is lm_head.weight" in one_line(error)


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
    with pytest.raises(ConfigError) as error:
        load_model(str(saved))
    assert "no tokenizer in this folder (tokenizer.json, " in one_line(error)
    assert "copy those files from the model that this one was made of" in one_line(error)


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
    with pytest.raises(ConfigError) as error:
        load_model(str(saved))
    assert "quantised by gptq, which cannot be read here (" in one_line(error)
    assert "pip install" in one_line(error)
    settings["quantization_config"] = {"quant_method": "fp8"}
    (saved / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError) as error:
        load_model(str(saved), parallel="tp")
    assert "its weights are quantised, and parallel = 'tp' shares out whole ones" in one_line(error)


def test_a_tokenizer_without_offsets():
    class Slow:
        is_fast = False

    with pytest.raises(ConfigError) as error:
        require_offsets("m", Slow())
    assert "m: Slow is not a fast tokenizer and gives no character offsets" in one_line(error)


class _Device:
    """What `from_pretrained` is told of a device, with the CPU in its place."""

    def __init__(self, monkeypatch) -> None:
        self.maps = []
        real = PreTrainedModel.from_pretrained.__func__

        def read(cls, *args, device_map=None, **kwargs):
            if device_map == "meta":  # a look at what is there
                return real(cls, *args, device_map=device_map, **kwargs)
            self.maps.append(device_map)
            place = None if device_map is None else "cpu"
            return real(cls, *args, device_map=place, **kwargs)

        monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(read))
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
        monkeypatch.setattr(torch.nn.Module, "to", lambda self, *args, **kwargs: self)


def test_a_rank_reads_a_model_onto_its_own_gpu_tensor_by_tensor(saved, monkeypatch):
    """Eight ranks of one machine would else hold eight copies in its memory."""
    expected, _ = load_model(str(saved))
    seen = _Device(monkeypatch)
    model, _ = load_model(str(saved), device="cuda")
    assert seen.maps == ["cuda:3"]
    for name, weight in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)
    for name, buffer in expected.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer)


def test_a_model_with_tables_in_host_memory_is_read_there(saved, tokenizer, tmp_path, monkeypatch):
    engram = EngramConfig(layers=(2,), d_mem=8, heads=2, table_size=50)
    for host, expected in ((True, None), (False, "cuda:3")):
        backbone, _ = load_model(str(saved))
        model = graft(backbone, engram.model_copy(update={"host_memory": host}), tokenizer)
        folder = tmp_path / f"grafted-{host}"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        with monkeypatch.context() as patched:
            seen = _Device(patched)
            loaded, _ = load_model(str(folder), device="cuda")
            assert seen.maps == [expected]
        ids = torch.randint(3, 300, (1, 9))
        with torch.no_grad():
            assert torch.equal(loaded(input_ids=ids).logits, model.eval()(input_ids=ids).logits)
