"""A sequence that holds several documents gives each the numbers that it gives alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import tiny
from torch import Tensor

from engramcka.config import EngramConfig
from engramcka.models import find_memories, graft
from engramcka.models.engram.documents import FAR, since_start
from engramcka.models.engram.hashing import NgramHash
from engramcka.models.engram.module import CausalTaps, Engram

END = 2
LENGTHS = (5, 1, 9, 4, 12)
ENGRAM = EngramConfig(layers=(1, 2), table_size=60, d_mem=24, heads=2, orders=(2, 3, 4))


def packed(rows: int = 2) -> tuple[Tensor, Tensor]:
    """Token ids (rows, 31) with an end of text after each document, and positions in them."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 300, (rows, sum(LENGTHS)), generator=generator)
    ids[:, np.cumsum(LENGTHS) - 1] = END
    positions = torch.cat([torch.arange(n) for n in LENGTHS]).expand(rows, -1)
    return ids, positions


def documents(whole: Tensor) -> list[Tensor]:
    """Stretches of (B, T, ..) that are one document each."""
    return list(whole.split(LENGTHS, dim=1))


def strong(family: str, tokenizer, engram: EngramConfig = ENGRAM):
    model = graft(tiny(family, len(tokenizer)), engram, tokenizer, seed=1).eval()
    torch.manual_seed(3)
    for parameter in model.engrams.parameters():
        parameter.data.normal_()
    return model


def test_the_first_tokens_of_documents_are_counted():
    ids = torch.tensor([[7, END, 8, 9, END, END, 5], [1, 3, 4, 5, 6, 7, END]])
    found = since_start(ids, END, None, goes_on=False)
    assert found.tolist() == [[FAR, FAR, 0, 1, 2, 0, 0], [FAR] * 7]
    assert since_start(ids[1:], END, None, goes_on=True) is None
    assert since_start(ids, None, None, goes_on=False) is None
    positions = torch.tensor([[4, 5, 0, 1, 0, 1, 2]])
    by_positions = since_start(ids, None, positions, goes_on=True)
    assert by_positions.tolist() == [[FAR, FAR, 0, 1, 0, 1, 2]] * 2
    assert since_start(ids, None, torch.arange(7)[None], goes_on=False) is None
    assert since_start(ids, None, torch.arange(7)[None], goes_on=True)[0, 0] == 0


@pytest.mark.parametrize("by", ["end", "positions"])
def test_rows_and_values_are_those_of_each_document_alone(by):
    torch.manual_seed(0)
    hashing = NgramHash(ENGRAM, torch.arange(300), 300, 0, END if by == "end" else None)
    module = Engram(ENGRAM, 12, 1, hashing.rows_per_layer[1]).double()
    for parameter in module.parameters():
        parameter.data.normal_()
    ids, positions = packed()
    hidden = torch.randn(*ids.shape, 12, dtype=torch.float64)
    since = hashing.since(ids, positions if by == "positions" else None)
    rows = hashing(hashing.canonical(ids, None, None), since)[0]
    found, _ = module(hidden, rows, since=since)
    for part, stream, own_rows, own in zip(
        *map(documents, (ids, hidden, rows, found)), strict=True
    ):
        alone = hashing(hashing.canonical(part, None, None))[0]
        assert torch.equal(own_rows, alone)
        torch.testing.assert_close(own, module(stream, alone)[0], rtol=0, atol=1e-12)
    joined, _ = module(hidden, hashing(hashing.canonical(ids, None, None))[0])
    assert (joined - found).abs().max() > 0.1


def test_gradients_are_those_of_each_document_alone():
    torch.manual_seed(0)
    hashing = NgramHash(ENGRAM, torch.arange(300), 300, 0, END)
    module = Engram(ENGRAM, 12, 1, hashing.rows_per_layer[1]).double()
    for parameter in module.parameters():
        parameter.data.normal_()
    ids, _ = packed()
    hidden = torch.randn(*ids.shape, 12, dtype=torch.float64)
    weight = torch.randn_like(hidden)
    since = hashing.since(ids)
    (
        module(hidden, hashing(hashing.canonical(ids, None, None), since)[0], since=since)[0]
        * weight
    ).sum().backward()
    together = {name: p.grad.clone() for name, p in module.named_parameters()}
    module.zero_grad()
    for part, stream, factor in zip(*map(documents, (ids, hidden, weight)), strict=True):
        rows = hashing(hashing.canonical(part, None, None))[0]
        (module(stream, rows)[0] * factor).sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad, rtol=1e-9, atol=1e-11)


def test_the_cut_convolutions_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    padded = torch.randn(2, 5 + 6, 2, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    since = torch.tensor([[FAR, 0, 1, 2, 3], [FAR, FAR, FAR, 0, 0]])
    assert torch.autograd.gradcheck(
        lambda x, w: CausalTaps.apply(x, w, 2, since), (padded, weight), check_batched_grad=False
    )


@pytest.mark.parametrize("family", ["llama", "qwen3", "deepseek_v3", "engramcka_hyper_deepseek"])
def test_with_positions_that_begin_again_the_whole_model_keeps_documents_apart(family, tokenizer):
    """transformers masks attention between documents where positions begin again."""
    model = strong(family, tokenizer)
    assert model.config.document_end_id == END == tokenizer.eos_token_id
    ids, positions = packed()
    with torch.no_grad():
        found = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        for part, own in zip(documents(ids), documents(found), strict=True):
            alone = model(input_ids=part, use_cache=False).logits
            torch.testing.assert_close(own, alone, rtol=1e-4, atol=1e-4 * float(alone.abs().max()))
        joined = strong(family, tokenizer, ENGRAM.model_copy(update={"documents": "joined"}))
        other = joined(input_ids=ids, position_ids=positions, use_cache=False).logits
    first = LENGTHS[0]
    torch.testing.assert_close(other[:, :first], found[:, :first], rtol=1e-4, atol=1e-4)
    assert (other[:, first:] - found[:, first:]).abs().max() > 0.1


@pytest.mark.parametrize("cuts", [(5, 6, 7), (4, 16), (6, 20, 30)])
@pytest.mark.parametrize("with_positions", [False, True])
def test_pieces_with_a_cache_are_the_full_pass(cuts, with_positions, tokenizer):
    """Also where a document ends with a piece, or begins in the middle of one."""
    model = strong("llama", tokenizer)
    if with_positions:
        model.hashing.end_id = None
    ids, positions = packed()
    mask = torch.ones_like(ids)  # attention reaches across in both, as with any mask given
    extra = {"position_ids": positions} if with_positions else {}
    with torch.no_grad():
        full = model(input_ids=ids, attention_mask=mask, use_cache=False, **extra).logits
        cache, parts = None, []
        for start, stop in zip((0, *cuts), (*cuts, ids.shape[1]), strict=True):
            some = {name: given[:, start:stop] for name, given in extra.items()}
            out = model(
                input_ids=ids[:, start:stop],
                attention_mask=mask[:, :stop],
                past_key_values=cache,
                use_cache=True,
                **some,
            )
            cache = out.past_key_values
            parts.append(out.logits)
    torch.testing.assert_close(torch.cat(parts, 1), full, rtol=1e-4, atol=1e-4)


def test_the_windows_that_are_counted_are_those_that_are_hashed(tokenizer):
    model = strong("llama", tokenizer)
    ids, _ = packed(1)
    windows = find_memories(model)[1].hashed(ids[0].numpy())
    assert windows.shape == (sum(LENGTHS), 4)
    pad, folded = model.hashing.pad_id, model.hashing.token_map[ids[0]].tolist()
    at = LENGTHS[0] + LENGTHS[1]
    assert windows[at].tolist() == [pad, pad, pad, folded[at]]
    assert windows[at + 2].tolist() == [pad, *folded[at : at + 3]]
    assert windows[at - 1].tolist() == [pad, pad, pad, folded[at - 1]]
