"""What stands in the memory's place: as many parameters, and each does what its name says."""

from __future__ import annotations

import pytest
import torch
from families import tiny

from engramcka.config import EngramConfig
from engramcka.models import find_memories, graft, parameter_groups
from engramcka.models.allocation import ABLATIONS, ablated, engram_parameters

CONTROLS = ("one-row", "unkeyed-rows", "random-rows", "constant-gate", "no-table")
ENGRAM = EngramConfig(layers=(2,), table_size=300, d_mem=24, heads=2, orders=(2, 3))
IDS = torch.randint(3, 90, (2, 40), generator=torch.Generator().manual_seed(0))


def numbers(model) -> dict[str, int]:
    config = model.config.get_text_config(decoder=True)
    return {"hidden_size": config.hidden_size, "num_hidden_layers": config.num_hidden_layers,
            "hc_mult": getattr(config, "hc_mult", 1)}  # fmt: skip


def made(name: str, tokenizer, family: str = "llama"):
    backbone = tiny(family, len(tokenizer))
    engram = ablated(ENGRAM, numbers(backbone), name) if name else ENGRAM
    model = graft(backbone, engram, tokenizer).eval()
    for module in model.engrams.values():
        if hasattr(module.memory, "weight"):
            module.memory.weight.data.normal_()
    return model


def rows(model, ids: torch.Tensor) -> torch.Tensor:
    """(B, T, P) of the module."""
    hashing = model.hashing
    return hashing(hashing.canonical(ids, None, None), hashing.since(ids))[0]


@pytest.mark.parametrize("family", ["llama", "engramcka_hyper_deepseek"])
@pytest.mark.parametrize("name", CONTROLS)
def test_each_has_as_many_parameters_and_runs_cached(name: str, family: str, tokenizer) -> None:
    whole = sum(p.numel() for p in made("", tokenizer, family).engrams.parameters())
    model = made(name, tokenizer, family)
    found = sum(p.numel() for p in model.engrams.parameters())
    assert found == engram_parameters(model.config.modules, numbers(model))
    assert abs(found - whole) < 0.03 * whole  # a width or a prime at a time
    assert name in ABLATIONS
    with torch.no_grad():
        full = model(input_ids=IDS).logits
        first = model(input_ids=IDS[:, :17], use_cache=True)
        rest = model(input_ids=IDS[:, 17:], past_key_values=first.past_key_values).logits
    torch.testing.assert_close(rest, full[:, 17:], rtol=1e-4, atol=1e-4)
    loss = model.train()(input_ids=IDS, labels=IDS).loss
    loss.backward()
    learning = [n for n, p in model.engrams.named_parameters() if p.grad is not None]
    assert ("2.memory.weight" in learning) == (name not in ("random-rows", "no-table"))
    names = {group["name"] for group in parameter_groups(model, 1e-3, 0.1)}
    assert ("engram-tables" in names) == (name not in ("random-rows", "no-table"))


def test_one_row_is_found_by_all(tokenizer) -> None:
    model = made("one-row", tokenizer)
    found = rows(model, IDS)
    assert torch.equal(found, found[:1, :1].expand_as(found))
    assert torch.equal(found[0, 0], model.hashing.offsets[0])


def test_rows_without_a_key_do_not_come_back_with_their_ngram(tokenizer) -> None:
    keyed, unkeyed = made("", tokenizer), made("unkeyed-rows", tokenizer)
    ids = IDS.clone()
    ids[1, 20:24] = ids[0, 20:24]  # the same four tokens, after others
    assert torch.equal(*rows(keyed, ids)[:, 23])
    assert not torch.equal(*rows(unkeyed, ids)[:, 23])
    ids[1, 11:24] = ids[0, 11:24]  # the same twelve
    assert torch.equal(*rows(unkeyed, ids)[:, 23])
    assert find_memories(unkeyed)[2].hashed(IDS[0].numpy()) is None


def test_a_constant_gate_is_the_same_everywhere(tokenizer) -> None:
    model = made("constant-gate", tokenizer, "engramcka_hyper_deepseek")
    gate = model.module("2").gate
    gate.logit.data = torch.tensor([-1.0, 0.0, 1.0, 2.0])
    seen: list[torch.Tensor] = []
    handle = gate.register_forward_hook(lambda m, i, o: seen.append(o))
    model(input_ids=IDS)
    handle.remove()
    assert torch.equal(seen[0], gate.logit.sigmoid().expand(2, 40, 4))


def test_without_a_table_nothing_depends_on_token_ids_but_the_stream(tokenizer) -> None:
    model = made("no-table", tokenizer)
    module = model.module("2")
    hidden = torch.randn(2, 5, numbers(model)["hidden_size"])
    rows_of = torch.zeros(2, 5, 4, dtype=torch.int64)
    with torch.no_grad():
        one, other = module(hidden, rows_of)[0], module(hidden, rows_of + 7)[0]
        expected = torch.nn.functional.silu(hidden @ module.memory.project.weight.T)
        value = module.gate(hidden.unsqueeze(2), expected) * (expected @ module.value.weight.T)
    assert torch.equal(one, other)
    torch.testing.assert_close(one, value, rtol=1e-5, atol=1e-6)  # the convolution is zero
    memory = find_memories(model)[2]
    assert memory.table is None
    assert memory.table_parameters == memory.row_width == 0


def test_saved_controls_open_as_they_were(tokenizer, tmp_path) -> None:
    from engramcka.models import load_model

    for name in CONTROLS:
        model = made(name, tokenizer)
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        loaded, _ = load_model(str(tmp_path / name))
        with torch.no_grad():
            assert torch.equal(loaded(input_ids=IDS).logits, model(input_ids=IDS).logits)
