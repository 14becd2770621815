from __future__ import annotations

import copy
import inspect

import pytest
import torch
from families import FAMILIES, tiny
from torch import Tensor
from transformers import AutoModelForCausalLM

from engramcka.config import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models import build_model, graft, memory_off, parameter_groups, read_gates
from engramcka.models.engram import EngramForCausalLM, token_map

ENGRAM = EngramConfig(layers=(1, 2), table_size=60, d_mem=16, heads=2, orders=(2, 3))


def strong(backbone, tokenizer, engram=ENGRAM) -> EngramForCausalLM:
    """A grafted model whose Engram weights are all far from their start values."""
    model = graft(backbone, engram, tokenizer, seed=1).eval()
    torch.manual_seed(3)
    for parameter in model.engrams.parameters():
        parameter.data.normal_()
    return model


def some_ids(batch=2, tokens=12) -> Tensor:
    return torch.randint(3, 300, (batch, tokens), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model(tokenizer) -> EngramForCausalLM:
    return strong(tiny("deepseek_v3", len(tokenizer)), tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(family, tokenizer):
    model = strong(tiny(family, len(tokenizer)), tokenizer)
    ids, ones, zeros = some_ids(), torch.ones(2, 12).long(), torch.zeros(2, 4).long()
    pad = torch.full((2, 4), 9)
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        mask = torch.cat([zeros, ones], 1)
        left = model(
            input_ids=torch.cat([pad, ids], 1),
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp_min(0),
        ).logits[:, 4:]
        right = model(
            input_ids=torch.cat([ids, pad], 1), attention_mask=torch.cat([ones, zeros], 1)
        ).logits[:, :12]
        with memory_off(model):
            silent = model(input_ids=ids).logits
    torch.testing.assert_close(left, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(right, plain, rtol=1e-4, atol=1e-5)
    assert (silent - plain).abs().max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_steps_equal_the_full_pass(family, tokenizer):
    model = strong(tiny(family, len(tokenizer)), tokenizer)
    ids, mask = some_ids(), torch.ones(2, 12).long()
    mask[0, :3] = 0
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    with torch.no_grad():
        full = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        parts, cache = [], None
        for start, stop in [(0, 2), (2, 5), (5, 6), (6, 7), (7, 12)]:
            out = model(
                input_ids=ids[:, start:stop],
                attention_mask=mask[:, :stop],
                position_ids=positions[:, start:stop],
                past_key_values=cache,
                use_cache=True,
            )
            cache = out.past_key_values
            parts.append(out.logits)
    stepped = torch.cat(parts, 1)
    real = mask.bool()
    torch.testing.assert_close(stepped[real], full[real], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "deepseek_v4", "engramcka_hyper_deepseek"])
def test_saved_and_loaded_it_is_the_same(family, tokenizer, tmp_path):
    model = strong(tiny(family, len(tokenizer)), tokenizer)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=False)
    assert type(loaded) is EngramForCausalLM
    assert loaded.config.modules == ENGRAM
    assert type(loaded.config.text_config) is type(model.backbone.config)
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    with torch.no_grad():
        expected = model(input_ids=some_ids()).logits
        assert torch.equal(loaded(input_ids=some_ids()).logits, expected)


@pytest.mark.parametrize("beams", [1, 3])
def test_generation_with_cache_equals_without(model, tokenizer, beams):
    """Left-padded prompts of two lengths; beams need the tails reordered with the keys."""
    ids, mask = some_ids(), torch.ones(2, 12).long()
    ids[0, :5], mask[0, :5] = tokenizer.pad_token_id, 0
    options = {
        "attention_mask": mask,
        "max_new_tokens": 10,
        "min_new_tokens": 10,
        "num_beams": beams,
        "do_sample": False,
    }
    cached = model.generate(ids, use_cache=True, **options)
    assert torch.equal(cached, model.generate(ids, use_cache=False, **options))
    alone = model.generate(
        ids[:1, 5:], **{**options, "attention_mask": mask[:1, 5:]}, use_cache=True
    )
    assert torch.equal(alone[0], cached[0, 5:])
    with memory_off(model):
        assert not torch.equal(cached, model.generate(ids, use_cache=True, **options))


def test_generation_with_a_static_cache(model):
    """Such a cache turns the mask into a 4-D one before the model sees it."""
    ids, mask = some_ids(), torch.ones(2, 12).long()
    mask[0, :5] = 0
    options = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False}
    static = model.generate(ids, cache_implementation="static", **options)
    assert torch.equal(static, model.generate(ids, **options))


def test_memory_off_is_the_backbone_alone(tokenizer):
    backbone = tiny("deepseek_v3", len(tokenizer))
    with torch.no_grad():
        expected = backbone(input_ids=some_ids()).logits
        model = strong(backbone, tokenizer)
        with memory_off(model):
            assert torch.equal(model(input_ids=some_ids()).logits, expected)
        assert not torch.equal(model(input_ids=some_ids()).logits, expected)


@pytest.mark.parametrize(("family", "streams"), [("llama", 1), ("deepseek_v4", 4)])
def test_gates_are_read_out(family, streams, tokenizer):
    model = strong(tiny(family, len(tokenizer)), tokenizer)
    with torch.no_grad(), read_gates(model) as gates:
        model(input_ids=some_ids())
        model(input_ids=some_ids()[:, :4])
    assert {layer: [a.shape for a in found] for layer, found in gates.items()} == {
        layer: [(2, 12, streams), (2, 4, streams)] for layer in (1, 2)
    }
    alpha = gates[2][0]
    assert 0.0 < alpha.min() < alpha.max() < 1.0
    torch.testing.assert_close(alpha[:, :4], gates[2][1])
    with torch.no_grad():
        model(input_ids=some_ids())
    assert len(gates[1]) == 2


def gradients(model, ids) -> dict[str, Tensor]:
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(model, reentrant):
    model.train()
    plain = gradients(model, some_ids())
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    checkpointed = gradients(model, some_ids())
    assert all(module.gradient_checkpointing for module in model.engrams.values())
    assert plain.keys() == checkpointed.keys()
    assert any("memory" in name for name in plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)


def test_bfloat16_autocast_trains(model):
    model.train()
    exact = model(input_ids=some_ids(), labels=some_ids()).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=some_ids(), labels=some_ids()).loss
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(torch.isfinite(p.grad).all() for p in model.engrams.parameters())


def test_a_copy_is_a_model_of_its_own(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        expected = model(input_ids=some_ids()).logits
        for parameter in model.engrams.parameters():
            parameter.zero_()
        assert torch.equal(other(input_ids=some_ids()).logits, expected)


def test_backbone_weights_are_used_as_they_are(tokenizer):
    backbone = tiny("llama", len(tokenizer)).to(torch.bfloat16)
    before = {name: w.clone() for name, w in backbone.state_dict().items()}
    model = graft(backbone, ENGRAM, tokenizer)
    assert not model.training
    assert all(torch.equal(model.backbone.state_dict()[n], w) for n, w in before.items())
    assert {w.dtype for w in model.engrams.parameters()} == {torch.bfloat16}
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_start_weights_depend_on_the_seed_alone(tokenizer):
    one, two, other = (build_model("moe-tiny", ENGRAM, tokenizer, seed) for seed in (5, 5, 6))
    plain = build_model("moe-tiny", None, tokenizer, 5)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name])
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, one.backbone.state_dict()[name])
    for name in ("backbone.model.layers.3.mlp.gate.weight", "engrams.2.memory.weight"):
        assert not torch.equal(one.state_dict()[name], other.state_dict()[name])
    moved = build_model("moe-tiny", ENGRAM.model_copy(update={"layers": (3, 5)}), tokenizer, 5)
    assert torch.equal(moved.module("3").value.weight, one.module("1").value.weight)
    assert not torch.equal(moved.module("3").value.weight, moved.module("5").value.weight)


def test_table_parameters_learn_faster_and_undecayed(model):
    groups = {g["name"]: g for g in parameter_groups(model, 1e-3, 0.1)}
    tables = groups["engram-tables"]
    assert {id(p) for p in tables["params"]} == {
        id(module.memory.weight) for module in model.engrams.values()
    }
    assert (tables["lr"], tables["weight_decay"]) == (5e-3, 0.0)
    assert (groups["matrices"]["lr"], groups["matrices"]["weight_decay"]) == (1e-3, 0.1)
    assert groups["rest"]["weight_decay"] == 0.0
    matrices = {id(p) for p in groups["matrices"]["params"]}
    assert id(model.engrams["1"].value.weight) in matrices
    assert id(model.engrams["1"].gate.query_norm) not in matrices
    assert id(model.engrams["1"].convolution.weight) not in matrices
    grouped = sum(p.numel() for g in groups.values() for p in g["params"])
    assert grouped == sum(p.numel() for p in model.parameters())


def test_without_a_pad_token_the_start_has_an_id_of_its_own(tokenizer):
    padless = copy.deepcopy(tokenizer)
    padless.pad_token = None
    config = graft(tiny("llama", len(tokenizer)), ENGRAM, padless).config
    ids, n_ids = token_map(tokenizer, len(tokenizer))
    assert config.pad_canonical_id == n_ids == config.n_canonical_ids - 1
    padded = graft(tiny("llama", len(tokenizer)), ENGRAM, tokenizer).config
    assert padded.pad_canonical_id == ids[tokenizer.pad_token_id]


def test_refuses_what_it_cannot_do_right(model, tokenizer):
    with pytest.raises(ConfigError, match="it has Engram modules already"):
        graft(model, ENGRAM, tokenizer)
    with pytest.raises(ConfigError, match=r"layers = \[9\]: the model has blocks 1 to 3"):
        graft(tiny("llama", len(tokenizer)), EngramConfig(layers=(9,), d_mem=8, heads=2), tokenizer)
    with pytest.raises(ConfigError, match="vocabulary only 100"):
        graft(tiny("llama", 100), ENGRAM, tokenizer)
    with pytest.raises(ValueError, match="needs input_ids"):
        model(inputs_embeds=torch.randn(1, 3, 32))
    with pytest.raises(ValueError, match="token_mask"):
        model(input_ids=some_ids(), attention_mask=torch.ones(2, 1, 12, 12))
    with pytest.raises(RuntimeError, match="outside its model's forward"):
        model.backbone(input_ids=some_ids())
    with memory_off(model):
        cache = model.backbone(input_ids=some_ids(), use_cache=True).past_key_values
    with pytest.raises(ValueError, match="no Engram state"):
        model(input_ids=some_ids(), past_key_values=cache)


def test_trainer_and_generate_find_the_names_they_look_for(model):
    names = set(inspect.signature(model.forward).parameters)
    assert {"labels", "position_ids", "use_cache", "logits_to_keep"} <= names
    with torch.no_grad():
        last = model(input_ids=some_ids(), logits_to_keep=1).logits
        torch.testing.assert_close(last, model(input_ids=some_ids()).logits[:, -1:])


def test_compiles(model):
    """Hashing and hooks go through dynamo; the backend is the eager one, which needs no C++."""
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        expected = model(input_ids=some_ids()).logits
        torch.testing.assert_close(compiled(input_ids=some_ids()).logits, expected)
