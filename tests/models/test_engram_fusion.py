"""One fusion after the pre-mapping of the hyper-connections (paper, section 6.2)."""

from __future__ import annotations

import naive_engram
import numpy as np
import pytest
import torch
from families import tiny
from torch import Tensor

from engramcka.config import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models import build_model, graft, memory_off, read_gates
from engramcka.models.engram import EngramModelConfig

ENGRAM = EngramConfig(layers=(2,), table_size=60, d_mem=16, heads=2, fusion="pre-mapping")
FAMILIES = ("engramcka_hyper_deepseek", "deepseek_v4")


def strong(family: str, tokenizer, engram: EngramConfig = ENGRAM):
    model = graft(tiny(family, len(tokenizer)), engram, tokenizer, seed=1).eval()
    torch.manual_seed(3)
    for parameter in model.engrams.parameters():
        parameter.data.normal_()
    return model


def some_ids() -> Tensor:
    return torch.randint(3, 300, (1, 12), generator=torch.Generator().manual_seed(1))


def pre_mapped(streams: Tensor, hyper, eps: float) -> np.ndarray:
    """sigmoid(scale x W RMSNorm(all streams) + base) + eps weighs the streams; (T, D) float64."""
    x = streams[0].double().numpy()
    flat = x.reshape(len(x), -1)
    normed = flat / np.sqrt((flat**2).mean(-1, keepdims=True) + eps)
    weight, base, scale = (p.detach().double().numpy() for p in (hyper.fn, hyper.base, hyper.scale))
    logits = normed @ weight[:4].T * scale[0] + base[:4]
    return ((1.0 / (1.0 + np.exp(-logits)) + hyper.hc_eps)[..., None] * x).sum(1)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_reads_the_pre_mapped_stream_with_the_memory_added(family, tokenizer):
    model = strong(family, tokenizer)
    block, module, seen = model.backbone.model.layers[1], model.module("2"), {}
    hooks = [
        block.register_forward_pre_hook(lambda m, args: seen.update(streams=args[0])),
        block.input_layernorm.register_forward_pre_hook(lambda m, args: seen.update(read=args[0])),
        block.register_forward_hook(lambda m, args, output: seen.update(after=output)),
    ]
    with torch.no_grad(), read_gates(model) as gates:
        model(input_ids=some_ids())
    streams = seen["streams"]
    assert streams.shape == (1, 12, 4, 32)
    hidden = pre_mapped(streams, block.attn_hc, model.config.text_config.rms_norm_eps)
    rows = model.hashing(model.hashing.canonical(some_ids(), None, None))[0, 0]
    weights = {
        "table": module.memory.weight,
        "value": module.value.weight,
        "key": module.gate.keys[0].weight[None],
        "query_norm": module.gate.query_norm,
        "key_norm": module.gate.key_norm,
        "conv": module.convolution.weight,
        "conv_norm": module.convolution.norm,
    }
    weights = {name: w.detach().double().numpy() for name, w in weights.items()}
    added = naive_engram.engram(
        hidden[:, None], rows.tolist(), weights, "signed-sqrt", True, dilation=3
    )
    expected = hidden + added[:, 0]
    error = np.abs(seen["read"][0].numpy() - expected).max()
    assert error < 1e-5 * np.abs(expected).max()
    assert np.abs(added).max() > 0.1
    assert gates[2][0].shape == (1, 12, 1)
    # What the block does with the streams themselves does not know of the memory.
    with_memory = seen["after"]
    for hook in hooks[:2]:
        hook.remove()
    with torch.no_grad(), memory_off(model):
        block.self_attn.register_forward_hook(lambda m, args, out: (out[0] * 0, *out[1:]))
        model(input_ids=some_ids())
        silent = seen["after"]
        assert not torch.equal(with_memory, silent)
    with torch.no_grad():
        model(input_ids=some_ids())
    assert torch.equal(seen["after"], silent)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_generates_and_is_silenced_like_others(family, tokenizer):
    model = strong(family, tokenizer)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    cached = model.generate(some_ids(), **options)
    assert torch.equal(cached, model.generate(some_ids(), use_cache=False, **options))
    with torch.no_grad():
        before = model(input_ids=some_ids()).logits
        with memory_off(model):
            silent = model(input_ids=some_ids()).logits
            expected = model.backbone(input_ids=some_ids()).logits
    assert torch.equal(silent, expected)
    assert not torch.equal(silent, before)


def test_on_one_stream_all_fusions_are_one(tokenizer):
    logits = []
    for fusion in ("streams", "pre-mapping", "mean"):
        model = strong("llama", tokenizer, ENGRAM.model_copy(update={"fusion": fusion}))
        with torch.no_grad():
            logits.append(model(input_ids=some_ids()).logits)
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


def test_what_cannot_be_done_is_refused(tokenizer):
    backbone = tiny("engramcka_hyper_deepseek", len(tokenizer))
    model = strong("engramcka_hyper_deepseek", tokenizer)
    with pytest.raises(ValueError, match="does not support"):
        model.gradient_checkpointing_enable()
    del backbone.model.layers[1].attn_hc
    with pytest.raises(ConfigError, match="has no hyper-connection attn_hc; allowed for it: 'str"):
        graft(backbone, ENGRAM, tokenizer)


def test_models_saved_before_there_were_these_keys_are_what_they_were(tokenizer):
    model = build_model("engram-tiny-hyper", None, tokenizer, 0)
    new = ("fusion", "gate_eps", "convolution_eps", "hashing", "documents")
    old = {key: value for key, value in model.config.engram.items() if key not in new}
    for multi_branch, fusion in ((True, "streams"), (False, "mean")):
        config = EngramModelConfig(
            text_config=model.config.text_config,
            engram={**old, "multi_branch": multi_branch},
            n_canonical_ids=300,
        )
        found = config.modules
        assert (found.fusion, found.documents, found.hashing) == (fusion, "joined", "own")
        assert (found.gate_eps, found.convolution_eps) == (1e-6, 1e-6)
        assert config.document_end_id is None
