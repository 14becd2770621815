"""Checkpoints of quantised weights, made here by hand: the right numbers, or one line."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from families import tiny
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from engramcka.errors import EngramckaError
from engramcka.models import load_model
from engramcka.models.loading import load_checkpoint

E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]  # values of four bits, without the sign
BLOCK = 16
PACKAGES = {  # a message -> what it says is missing
    "optimum": "optimum",
    "pip install gptqmodel": "gptqmodel",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed_tensors",
    "pip install torchao": "torchao",
    "HQQ": "hqq",
    "pip install optimum-quanto": "optimum",
    "pip install aqlm": "aqlm",
}
FP8 = {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK], "activation_scheme": "dynamic"}


def save(folder: Path, tokenizer: Any, family: str) -> dict[str, torch.Tensor]:
    """A tiny model's checkpoint; its weights."""
    tiny(family, len(tokenizer)).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def rewrite(folder: Path, weights: dict[str, torch.Tensor], **settings: Any) -> None:
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def one_line(folder: Path, **options: Any) -> EngramckaError:
    with pytest.raises(EngramckaError) as error:
        load_model(str(folder), **options)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return error.value


def to_fp8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Its values in fp8, the scale of each block, and what both together stand for."""
    rows, columns = (size // BLOCK for size in weight.shape)
    blocks = weight.float().reshape(rows, BLOCK, columns, BLOCK)
    scales = blocks.abs().amax((1, 3), keepdim=True) / 448
    values = (blocks / scales).to(torch.float8_e4m3fn)
    whole = (values.float() * scales).reshape(weight.shape)
    return values.reshape(weight.shape), scales.reshape(rows, columns), whole


@pytest.fixture
def fp8(tmp_path, tokenizer) -> tuple[Path, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A checkpoint with fp8 weights in its blocks, what is stored, and what that stands for."""
    weights = save(tmp_path, tokenizer, "llama")
    stored, whole = {}, {}
    for name, weight in weights.items():
        stored[name] = whole[name] = weight
        if "_proj" in name:
            stored[name], stored[f"{name}_scale_inv"], whole[name] = to_fp8(weight)
    rewrite(tmp_path, stored, quantization_config=FP8)
    return tmp_path, stored, whole


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_fp8_weights_are_what_they_stand_for(fp8, dtype):
    folder, _, whole = fp8
    found = load_checkpoint(str(folder), dtype=dtype)
    kept = torch.bfloat16 if dtype == "auto" else torch.float32
    for name, weight in whole.items():
        assert torch.equal(found.model.state_dict()[name], weight.to(kept)), name
    assert found.notes == (
        "its fp8 weights were dequantised while they were loaded, and what enters them is not "
        "rounded as fp8 kernels would",
    )
    with torch.no_grad():
        assert found.model(input_ids=torch.arange(3, 9)[None]).logits.dtype == kept


def test_fp8_weights_without_their_scale(fp8):
    folder, stored, _ = fp8
    del stored["model.layers.1.mlp.up_proj.weight_scale_inv"]
    rewrite(folder, stored)
    line = str(one_line(folder))
    assert "model.layers.1.mlp.up_proj.weight is F8_E4M3 and has no scale" in line


def test_fp8_blocks_that_do_not_fill_a_weight(fp8):
    """48 rows in blocks of 32 have two rows of scales; read as blocks of 24 they would be wrong."""
    folder, stored, _ = fp8
    name = "model.layers.0.mlp.up_proj.weight"
    assert stored[name].shape == (48, 32)
    rewrite(folder, {**stored, f"{name}_scale_inv": torch.ones(2, 1)})
    line = str(one_line(folder))
    assert f"{name} is (48, 32) with scales (2, 1), and transformers reads only blocks" in line


@pytest.mark.parametrize("method", [None, {"quant_method": "modelopt"}])
def test_fp8_weights_of_which_the_config_says_nothing_that_is_known(fp8, method):
    """transformers would take them for the weights themselves, without their scales."""
    folder, stored, _ = fp8
    rewrite(folder, stored, quantization_config=method)
    line = str(one_line(folder))
    if method is None:
        assert "holds quantised weights that its config.json does not say how to read" in line
        assert "the first is model.layers.0.mlp.down_proj.weight_scale_inv (21 in all)" in line
    else:
        assert "quantised by modelopt, which transformers" in line


def test_mxfp4_experts_are_what_they_stand_for(tmp_path, tokenizer):
    """Two values of four bits a byte, the first in the low ones; 32 share a power of two."""
    config = tiny("gpt_oss", len(tokenizer)).config
    config.intermediate_size = 64
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    stored, whole = {}, {}
    for name, weight in weights.items():
        stored[name] = whole[name] = weight
        if not name.endswith(("gate_up_proj", "down_proj")):
            continue
        experts, inside, outside = weight.shape
        shape = (experts, outside, inside // 32, 16)
        blocks = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        scales = torch.randint(120, 130, shape[:-1], generator=generator, dtype=torch.uint8)
        signed = torch.tensor([*E2M1, *(-value for value in E2M1)])
        pairs = torch.stack([signed[(blocks & 15).long()], signed[(blocks >> 4).long()]], -1)
        values = pairs.flatten(-2) * 2.0 ** (scales[..., None].float() - 127)
        whole[name] = values.flatten(-2).transpose(1, 2)
        del stored[name]
        stored |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    rewrite(tmp_path, stored, quantization_config={"quant_method": "mxfp4"})
    found = load_checkpoint(str(tmp_path))
    for name, weight in whole.items():
        assert torch.equal(found.model.state_dict()[name], weight.to(torch.bfloat16)), name
    assert found.notes[0].startswith("its mxfp4 weights were dequantised")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"quant_method": "gptq", "bits": 4}, "optimum"),
        ({"quant_method": "awq", "bits": 4}, "pip install gptqmodel"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes"),
        ({"quant_method": "compressed-tensors", "format": "dense"}, "compressed-tensors"),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "pip install torchao"),
        ({"quant_method": "hqq", "quant_config": {}}, "HQQ"),
        ({"quant_method": "quanto", "weights": "int8"}, "pip install optimum-quanto"),
        ({"quant_method": "eetq"}, "set trust_remote_code = true if you trust that"),
        ({"quant_method": "fbgemm_fp8"}, "set trust_remote_code = true if you trust that"),
        ({"quant_method": "aqlm"}, "pip install aqlm"),
        ({"quant_method": "exl3"}, "quantised by exl3, which transformers"),
        ({"bits": 4}, "by a method that it does not name"),
        ([4], "not a model that can be loaded"),
    ],
)
def test_what_is_missing_to_read_it_is_one_line(settings, says, tmp_path, tokenizer):
    weights = save(tmp_path, tokenizer, "llama")
    rewrite(tmp_path, weights, quantization_config=settings)
    if says in PACKAGES and find_spec(PACKAGES[says]) is not None:
        pytest.skip(f"{PACKAGES[says]} is installed here")
    assert says in str(one_line(tmp_path))


def test_quantising_what_is_quantised(fp8):
    folder, _, _ = fp8
    line = str(one_line(folder, quantization="4bit"))
    assert "its weights are quantised by fp8 already; leave quantization = '4bit' out" in line


def test_packed_integers_are_what_they_stand_for(tmp_path, tokenizer):
    """compressed-tensors' most usual form: eight values of four bits in an int32, 16 a scale."""
    pytest.importorskip("compressed_tensors", reason="needs the package compressed-tensors")
    weights = save(tmp_path, tokenizer, "llama")
    stored, whole = {}, {}
    for name, weight in weights.items():
        stored[name] = whole[name] = weight
        if "_proj" not in name:
            continue
        groups = weight.float().reshape(len(weight), -1, BLOCK)
        scales = (groups.abs().amax(-1, keepdim=True) / 7).to(torch.bfloat16)
        values = (groups / scales).round().clamp(-8, 7)
        whole[name] = (values * scales).reshape(weight.shape)
        nibbles = (values.reshape(len(weight), -1, 8) + 8).to(torch.int32)
        packed = torch.zeros(nibbles.shape[:2], dtype=torch.int32)
        for place in range(8):
            packed |= nibbles[..., place] << (4 * place)
        del stored[name]
        stored |= {
            f"{name}_packed": packed,
            f"{name}_scale": scales.squeeze(-1),
            f"{name}_shape": torch.tensor(weight.shape),
        }
    numbers = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group"}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {"targets": ["Linear"], "weights": {**numbers, "group_size": BLOCK}}
        },
    }
    # Without a status, transformers alone leaves them unread.
    for status in ({"quantization_status": "compressed"}, {}):
        rewrite(tmp_path, stored, quantization_config={**settings, **status})
        found = load_checkpoint(str(tmp_path))
        for name, weight in whole.items():
            here = found.model.state_dict()[name].float()
            assert torch.allclose(here, weight.float(), rtol=1e-2)
        assert found.notes[0].startswith("its compressed-tensors weights were dequantised")
