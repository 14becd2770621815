"""GGUF files, written here by the package of llama.cpp: weights, config and tokenizer in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import tiny

from engramcka.errors import EngramckaError
from engramcka.models import load_model
from engramcka.models.loading import load_checkpoint

gguf = pytest.importorskip("gguf", reason="needs the package gguf")

NAMES = {  # of transformers -> of llama.cpp, within a block
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a head's halves in turns, as llama.cpp rotates them."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write(file: Path, tokenizer: Any, kind: Any) -> dict[str, torch.Tensor]:
    """A tiny llama's file with matrices of a kind; the weights that they stand for."""
    model = tiny("llama", len(tokenizer))
    config = model.config
    out = gguf.GGUFWriter(str(file), "llama")
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_vocab_size(len(tokenizer))
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    out.add_tokenizer_model("gpt2")
    out.add_token_list(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    special = {*tokenizer.all_special_ids}
    types = [3 if number in special else 1 for number in range(len(tokenizer))]
    out.add_token_types(types)
    out.add_token_merges([" ".join(pair) for pair in backend["model"]["merges"]])
    for key in ("bos", "eos", "pad"):
        number = getattr(tokenizer, f"{key}_token_id")
        if number is not None:
            getattr(out, f"add_{key}_token_id")(number)
    whole = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        array, inside = weight.numpy(), name.removesuffix(".weight")
        if inside.startswith("model.layers."):
            _, _, number, part = inside.split(".", 3)
            heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
            called = NAMES[part]
            array = interleaved(array, heads[called]) if called in heads else array
            called = f"blk.{number}.{called}"
        else:
            called = OUTSIDE[inside]
        stored = kind if array.ndim == 2 and array.shape[1] % 32 == 0 else None
        data = array if stored is None else gguf.quantize(array, stored)
        out.add_tensor(f"{called}.weight", data, raw_dtype=stored)
        read = data if stored is None else gguf.dequantize(data, stored)
        if called.endswith("attn_q") or called.endswith("attn_k"):
            halves = read.reshape(heads[called.split(".")[-1]], -1, 2, read.shape[1])
            read = halves.swapaxes(1, 2).reshape(read.shape)
        whole[name] = torch.from_numpy(np.ascontiguousarray(read))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return whole


@pytest.mark.parametrize("kind", [None, "Q8_0", "Q4_0"])
def test_a_gguf_file_is_what_it_stands_for(kind, tmp_path, tokenizer):
    stored = None if kind is None else gguf.GGMLQuantizationType[kind]
    whole = write(tmp_path / "tiny.gguf", tokenizer, stored)
    found = load_checkpoint(str(tmp_path / "tiny.gguf"))
    weights = found.model.state_dict()
    for name, weight in whole.items():
        assert torch.equal(weights[name], weight), name
    assert found.model.dtype == torch.float32
    assert found.notes == ("its GGUF weights were dequantised while they were loaded",)
    text = "import os.path\nfrom json"
    given = found.tokenizer(text, return_offsets_mapping=True)
    assert given["input_ids"] == tokenizer(text)["input_ids"]
    assert given["offset_mapping"] == tokenizer(text, return_offsets_mapping=True)["offset_mapping"]


def test_what_lies_beside_a_gguf_file_is_no_part_of_it(tmp_path, tokenizer):
    write(tmp_path / "tiny.gguf", tokenizer, None)
    before, _ = load_model(str(tmp_path / "tiny.gguf"))
    tiny("llama", 50, seed=3).save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 3}')
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "../elsewhere"}')
    after, tokenizer = load_model(str(tmp_path / "tiny.gguf"))
    same = zip(before.parameters(), after.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in same)
    assert tokenizer.model_max_length != 3


@pytest.mark.parametrize(
    ("name", "content", "options", "says"),
    [
        ("gone.gguf", None, {}, "gone.gguf: No such file"),
        ("text.gguf", b"not one", {}, "no GGUF file, it does not begin with GGUF"),
        ("cut.gguf", b"GGUF\x03\x00\x00\x00", {}, "transformers cannot read it"),
        ("a-00001-of-00003.gguf", b"GGUF", {}, "one of 3 parts; join them"),
        ("a.gguf", b"GGUF", {"quantization": "8bit"}, "leave quantization = '8bit' out"),
    ],
)
def test_what_is_no_gguf_file_is_one_line(name, content, options, says, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EngramckaError) as error:
        load_model(str(tmp_path / name), **options)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr("engramcka.models.gguf_files.find_spec", lambda name: None)
    with pytest.raises(EngramckaError, match=r"needs gguf; pip install 'engramcka\[gguf\]'"):
        load_model(str(tmp_path / "a.gguf"))
