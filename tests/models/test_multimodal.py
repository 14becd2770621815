"""Models that take pictures or sound beside text, opened for text alone without their towers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_types
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMultimodalLM, PreTrainedModel

from engramcka.errors import ConfigError
from engramcka.lens import read_head
from engramcka.models import find_blocks, load_model, require_stream
from engramcka.models.architectures import Unloaded
from engramcka.models.blocks import capture_points
from engramcka.models.loading import load_checkpoint

IDS = torch.from_numpy(tiny_types.IDS)[None]
SMALL = {
    "image_size": 28,
    "patch_size": 14,
    "depth": 2,
    "num_heads": 4,
    "out_hidden_size": 32,
    "embed_dim": 32,
}
LISTS = {"image_size": [28, 28], "patch_size": [14, 14]}
KINDS: dict[str, list[str]] = {  # type -> its towers; none where text has a class of its own
    "aria": ["model.vision_tower"],
    "deepseek_vl_hybrid": ["model.high_res_vision_model", "model.vision_model"],
    "gemma3": ["model.vision_tower"],
    "granite_speech": ["model.encoder", "model.projector.qformer"],
    "internvl": ["model.vision_tower"],
    "llama4": [],
    "llava": ["model.vision_tower"],
    "mistral3": ["model.vision_tower"],
    "mllama": [],
    "paligemma": ["model.vision_tower"],
    "qwen2_5_vl": ["model.visual"],
    "qwen2_audio": ["model.audio_tower"],
    "qwen2_vl": ["model.visual"],
    "qwen3_5": [],
    "qwen3_5_moe": [],
    "qwen3_omni_moe_thinker": ["model.audio_tower", "model.visual"],
    "qwen3_vl": ["model.visual"],
    "qwen3_vl_moe": ["model.visual"],
    "qwen4_exp": [],
    "voxtral": ["model.audio_tower"],
}
WITHOUT_LENS = {"qwen4_exp"}  # no final norm beside its blocks that would be one


def tiny_whole(kind: str, vocabulary: int) -> PreTrainedModel:
    """A random model of a type, with all its towers, in eval mode."""
    config: Any = AutoConfig.for_model(kind)
    tiny_types.shrink(config)
    text = config.get_text_config(decoder=True)
    text.vocab_size = vocabulary
    tower = getattr(config, "vision_config", None)
    for key in SMALL.keys() & vars(tower or config).keys():
        setattr(tower, key, (LISTS if kind == "internvl" else SMALL).get(key, SMALL[key]))
    if "qwen" in kind:
        config.vision_start_token_id = 5
    rope = getattr(text, "rope_parameters", None)
    if isinstance(rope, dict) and (kind.startswith("qwen2_") or "mrope_section" in rope):
        half = text.hidden_size // text.num_attention_heads // 2
        rope["mrope_section"] = [1, 1, half - 2]
    torch.manual_seed(0)
    return AutoModelForMultimodalLM.from_config(config).eval()


def logits(model: Any) -> torch.Tensor:
    """Of some token ids, by the whole of a model; Llama4's own pass fails in transformers 5.24."""
    model = model.language_model if "Llama4ForConditional" in type(model).__name__ else model
    with torch.no_grad():
        found: torch.Tensor = model(
            input_ids=IDS, attention_mask=torch.ones_like(IDS), use_cache=False
        ).logits
    return found


@pytest.fixture(params=KINDS)
def whole(request, tmp_path, tokenizer) -> tuple[str, PreTrainedModel, Path]:
    model = tiny_whole(request.param, len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return request.param, model, tmp_path


def test_text_gives_the_logits_of_the_whole(whole):
    """Bit for bit, from weights without the towers, whose blocks are those of the decoder."""
    kind, model, folder = whole
    found = load_checkpoint(str(folder))
    loaded = found.model
    assert found.notes == ()
    towers = [name for name, part in loaded.named_modules() if isinstance(part, Unloaded)]
    assert towers == KINDS[kind]
    if towers:
        names = set(dict(model.named_parameters()))
        assert {name for name in names if not name.startswith(tuple(towers))} == set(
            dict(loaded.named_parameters())
        )
    assert len(list(loaded.parameters())) < len(list(model.parameters()))
    assert torch.equal(logits(loaded), logits(model))
    blocks = loaded.get_submodule(find_blocks(loaded).path)
    assert any(part is blocks for part in loaded.get_decoder().modules())
    require_stream(loaded, capture_points(loaded), tiny_types.IDS, is_chain=True)
    if kind not in WITHOUT_LENS:
        read_head(loaded, IDS[0])


@pytest.mark.parametrize("kind", ["qwen3_5", "llama4", "mistral3"])
@pytest.mark.parametrize("names", [[], ["SomebodysForConditionalGeneration"]])
def test_the_name_of_the_saved_class_does_not_matter(kind, names, tmp_path, tokenizer):
    """Where two classes could be meant, it is the one whose weights are all there."""
    model = tiny_whole(kind, len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "architectures": names}))
    loaded, _ = load_model(str(tmp_path))
    assert torch.equal(logits(loaded), logits(model))


def test_one_without_its_head_is_an_encoder(tmp_path, tokenizer):
    whole = tiny_whole("qwen2_vl", len(tokenizer))
    whole.model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, _ = load_model(str(tmp_path))
    assert type(loaded).__name__ == "Qwen2VLModel"
    assert isinstance(loaded.visual, Unloaded)
    with torch.no_grad():
        found = loaded(input_ids=IDS, use_cache=False).last_hidden_state
        expected = whole.model(input_ids=IDS, use_cache=False).last_hidden_state
    assert torch.equal(found, expected)


def test_a_picture_is_refused(tmp_path, tokenizer):
    tiny_whole("qwen2_vl", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, _ = load_model(str(tmp_path), dtype="bfloat16")
    assert loaded.model.visual.dtype == torch.bfloat16
    assert loaded.model.visual.device.type == "cpu"
    with pytest.raises(ConfigError, match="only text can be fed"):
        loaded.model.visual(torch.zeros(4, 1176), grid_thw=torch.tensor([[1, 2, 2]]))


@pytest.mark.parametrize("kind", ["qwen3_5", "llama4", "mllama"])
def test_what_neither_text_nor_pictures_need_is_said(kind, tmp_path, tokenizer):
    tiny_whole(kind, len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["secret_gate.weight"] = torch.ones(3)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (note,) = load_checkpoint(str(tmp_path)).notes
    assert note.startswith("one weight of the checkpoint is not part of the model")
    assert "secret_gate.weight" in note
