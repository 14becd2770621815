"""Steps with a cache are held against the full pass, for each kind of cache and of use."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from families import FAMILIES, tiny
from torch import Tensor
from transformers import CompileConfig, DynamicCache, PreTrainedModel, StaticCache

from engramcka.config import EngramConfig
from engramcka.models import graft, memory_off
from engramcka.models.caches import EngramCacheLayer

PROMPT, NEW = 12, 6
KINDS = ("dynamic", "static")
MODELS = (
    "llama at 2 and 9",
    "qwen3",
    "deepseek_v3",
    "hyper",
    "hyper at 1 and 2",
    "hyper after the pre-mapping",
    "windows of 4 at 1 and 2",
)


def grafted(
    backbone: PreTrainedModel, tokenizer, layers=(1, 2), fusion="streams"
) -> PreTrainedModel:
    """With Engram weights far from their start values."""
    engram = EngramConfig(
        layers=layers, table_size=60, d_mem=16, heads=2, orders=(2, 3), fusion=fusion
    )
    model = graft(backbone, engram, tokenizer, seed=1).eval()
    torch.manual_seed(3)
    for parameter in model.engrams.parameters():
        parameter.data.normal_()
    return model


@pytest.fixture(params=MODELS)
def any_model(request, tokenizer, monkeypatch) -> PreTrainedModel:
    size = len(tokenizer)
    if request.param.startswith("llama"):
        monkeypatch.setitem(FAMILIES, "llama", {**FAMILIES["llama"], "num_hidden_layers": 10})
        return grafted(tiny("llama", size), tokenizer, (2, 9))
    if request.param.startswith("windows"):
        monkeypatch.setitem(FAMILIES, "mistral", {"sliding_window": 4})
        return grafted(tiny("mistral", size), tokenizer)
    if request.param in ("qwen3", "deepseek_v3"):
        return grafted(tiny(request.param, size), tokenizer)
    backbone = tiny("engramcka_hyper_deepseek", size)
    if request.param == "hyper":
        return backbone
    fusion = "pre-mapping" if "pre-mapping" in request.param else "streams"
    return grafted(backbone, tokenizer, fusion=fusion)


@pytest.fixture
def model(tokenizer) -> PreTrainedModel:
    return grafted(tiny("llama", len(tokenizer)), tokenizer)


def some_ids(tokens: int = PROMPT) -> Tensor:
    return torch.randint(3, 300, (2, tokens), generator=torch.Generator().manual_seed(1))


def some_mask(n_padded: int, tokens: int = PROMPT) -> Tensor:
    """With padding at the left of the first row."""
    mask = torch.ones(2, tokens).long()
    mask[0, :n_padded] = 0
    return mask


def new_cache(kind: str, model: PreTrainedModel):
    config = model.config.get_text_config(decoder=True)
    if kind == "dynamic":
        return DynamicCache(config=config)
    return StaticCache(config=config, max_cache_len=PROMPT + NEW + 4)


@torch.no_grad()
def full_pass(model: PreTrainedModel, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """Logits (2, tokens, vocabulary), without any cache."""
    mask = torch.ones_like(ids) if mask is None else mask
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    return model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-4)


@torch.no_grad()
def stepped(model: PreTrainedModel, ids: Tensor, cache, name: str = "cache") -> Tensor:
    """Logits of a first piece of 5 tokens, one of 3, and then one by one; no mask is given."""
    edges = [0, 5, *range(8, ids.shape[1] + 1)]
    parts = [
        model(input_ids=ids[:, start:stop], use_cache=True, **{name: cache}).logits
        for start, stop in pairwise(edges)
    ]
    return torch.cat(parts, 1)


@pytest.mark.parametrize("padded", [0, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_generated_logits_are_the_full_passes(any_model, kind, padded):
    mask = some_mask(padded)
    made = any_model.generate(
        some_ids(),
        attention_mask=mask,
        use_cache=True,
        cache_implementation=kind,
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    mask = torch.cat([mask, torch.ones(2, NEW).long()], 1)
    full = full_pass(any_model, made.sequences, mask)[:, PROMPT - 1 : -1]
    assert_close(torch.stack(made.logits, 1), full)
    assert full.std() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_of_several_documents_goes_on_from_the_last(any_model, tokenizer, kind):
    """N-grams and convolution are cut at its end-of-text tokens, the last one included."""
    ids = some_ids()
    ids[0, 4] = ids[1, 7] = ids[1, -1] = tokenizer.eos_token_id
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False}
    made = any_model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        cache_implementation=kind,
        return_dict_in_generate=True,
        output_logits=True,
        **options,
    )
    full = full_pass(any_model, made.sequences)[:, PROMPT - 1 : -1]
    assert_close(torch.stack(made.logits, 1), full)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_by_hand_are_the_full_pass_under_both_names(any_model, kind, name):
    ids = some_ids(PROMPT + NEW)
    found = stepped(any_model, ids, new_cache(kind, any_model), name)
    assert_close(found, full_pass(any_model, ids))


@pytest.mark.parametrize("kind", KINDS)
def test_beams_take_the_state_with_them(any_model, kind):
    options = {
        "attention_mask": some_mask(4),
        "max_new_tokens": NEW,
        "min_new_tokens": NEW,
        "num_beams": 3,
        "do_sample": False,
    }
    cached = any_model.generate(some_ids(), cache_implementation=kind, **options)
    assert torch.equal(cached, any_model.generate(some_ids(), use_cache=False, **options))


def test_rows_are_reordered_selected_and_repeated(model):
    ids = some_ids(PROMPT + 1)
    rows = torch.tensor([1, 0, 1])
    full = full_pass(model, ids)[:, -1]
    for change, order in [
        (lambda cache: cache.batch_select_indices(rows), rows),
        (lambda cache: cache.batch_select_indices(torch.tensor([False, True])), [1]),
        (lambda cache: cache.reorder_cache(torch.tensor([1, 0])), [1, 0]),
        (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1]),
    ]:
        cache = new_cache("dynamic", model)
        stepped(model, ids[:, :-1], cache)
        change(cache)
        with torch.no_grad():
            last = model(input_ids=ids[order, -1:], cache=cache).logits[:, -1]
        assert_close(last, full[order])


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_goes_on_from_its_cache(any_model, kind):
    options = {"max_new_tokens": 2, "min_new_tokens": 2, "do_sample": False}
    cache = new_cache(kind, any_model)
    first = any_model.generate(some_ids(), past_key_values=cache, **options)
    prompt = torch.cat([first, some_ids(3)], 1)
    second = any_model.generate(
        prompt,
        past_key_values=cache,
        return_dict_in_generate=True,
        output_logits=True,
        **options,
    )
    full = full_pass(any_model, second.sequences)[:, prompt.shape[1] - 1 : -1]
    assert_close(torch.stack(second.logits, 1), full)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_that_was_reset_is_a_new_one(model, kind):
    cache, ids = new_cache(kind, model), some_ids(PROMPT + NEW)
    stepped(model, some_ids(9), cache)
    cache.reset()
    assert_close(stepped(model, ids, cache), full_pass(model, ids))


def test_a_cache_given_is_kept_though_none_is_asked_for(tokenizer):
    """GPT-2 fills such a cache and does not return it."""
    model, ids = grafted(tiny("gpt2", len(tokenizer)), tokenizer), some_ids(PROMPT)
    cache = new_cache("dynamic", model)
    with torch.no_grad():
        first = model(input_ids=ids[:, :5], cache=cache, use_cache=False).logits
        rest = model(input_ids=ids[:, 5:], cache=cache, use_cache=False).logits
    assert_close(torch.cat([first, rest], 1), full_pass(model, ids))


def test_the_state_is_no_layer_of_keys(model):
    cache = new_cache("static", model)
    stepped(model, some_ids(9), cache)
    assert isinstance(cache.layers[-1], EngramCacheLayer)
    assert cache.is_compileable
    assert not cache.is_croppable
    assert cache.is_dummy == [False, False, False, True]
    dynamic = new_cache("dynamic", model)
    stepped(model, some_ids(9), dynamic)
    assert not dynamic.is_compileable


def test_generate_does_not_compile_the_modules(model, monkeypatch):
    monkeypatch.setattr(model, "get_compiled_call", lambda config: pytest.fail("compiled"))
    compiled = CompileConfig()
    compiled._compile_all_devices = True
    options = {"max_new_tokens": 3, "do_sample": False, "cache_implementation": "static"}
    made = model.generate(some_ids(), compile_config=compiled, **options)
    assert torch.equal(made, model.generate(some_ids(), **options))


def test_a_cache_that_was_cut_back_is_refused(model):
    cache, ids = new_cache("dynamic", model), some_ids()
    stepped(model, ids, cache)
    with pytest.raises(NotImplementedError, match="an Engram model's cache cannot be cut back"):
        cache.crop(-2)
    with pytest.raises(ValueError, match="holds keys of 10 tokens but Engram state of 12"):
        model(input_ids=ids[:, :1], cache=cache)
    cache = new_cache("dynamic", model)
    stepped(model, ids, cache)
    cache.crop(0)
    with memory_off(model), torch.no_grad():
        model.backbone(input_ids=ids[:, :1], past_key_values=cache)
    with pytest.raises(ValueError, match="holds keys of 13 tokens but Engram state of 12"):
        model(input_ids=ids[:, :1], cache=cache)


def test_guesses_that_may_be_taken_back_are_refused(model, tokenizer):
    other = tiny("llama", len(tokenizer))
    for options in ({"prompt_lookup_num_tokens": 2}, {"assistant_model": copy.deepcopy(other)}):
        with pytest.raises(ValueError, match="not supported with stateful models"):
            model.generate(some_ids()[:1], max_new_tokens=4, do_sample=False, **options)
    with pytest.raises(NotImplementedError, match="cannot be cut back"):
        other.generate(some_ids()[:1], max_new_tokens=NEW, do_sample=False, assistant_model=model)
    with pytest.raises(NotImplementedError, match="no continuous batching"):
        model.generate_batch([[5, 6, 7]])


@pytest.mark.parametrize("family", ["engramcka_hyper_deepseek", "llama"])
def test_a_cache_that_would_not_be_used_is_refused(family, tokenizer):
    backbone = tiny(family, len(tokenizer))
    model = backbone.model if family.startswith("engramcka") else grafted(backbone, tokenizer)
    ids, one, two = some_ids(), *(new_cache("dynamic", model) for _ in range(2))
    with pytest.raises(ValueError, match="are two names of one argument"):
        model(input_ids=ids, cache=one, past_key_values=two)
    with pytest.raises(ValueError, match="a cache was given as 'state'"):
        model(input_ids=ids, state=one)
    with pytest.raises(ValueError, match="the cache is a tuple; a transformers Cache is needed"):
        model(input_ids=ids, past_key_values=((torch.zeros(1), torch.zeros(1)),))


def test_hyper_connected_models_refuse_what_they_do_not_know(tokenizer):
    model = tiny("engramcka_hyper_deepseek", len(tokenizer))
    with pytest.raises(ValueError, match="HyperDeepseekModel does not know hiden_states"):
        model(input_ids=some_ids(), hiden_states=True)
    with torch.no_grad():
        found = model(input_ids=some_ids(), output_hidden_states=True)
    assert len(found.hidden_states) == 4


def test_backbones_that_keep_no_keys_are_refused_with_a_cache(tokenizer, monkeypatch):
    monkeypatch.setitem(FAMILIES, "mamba", {"state_size": 8})
    model = grafted(tiny("mamba", len(tokenizer)), tokenizer)
    options = {"max_new_tokens": 4, "do_sample": False}
    with pytest.raises(ValueError, match=r"[lL]inear ?[aA]ttention"):
        model.generate(some_ids(), **options)
    assert model.generate(some_ids(), use_cache=False, **options).shape == (2, PROMPT + 4)
