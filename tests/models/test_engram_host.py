"""Rows in host memory. Streams need a GPU; everything else of the path is tried on the CPU."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from families import tiny

from engramcka.config import EngramConfig
from engramcka.models import graft
from engramcka.models.engram.tables import EngramMemory, Fetch, HostLookup

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ENGRAM = EngramConfig(layers=(1, 3), table_size=60, d_mem=16, heads=2, host_memory=True)


def test_fetched_rows_and_their_gradient_are_the_lookups():
    table = torch.randn(50, 6, requires_grad=True)
    rows = torch.randint(0, 50, (2, 7, 4))
    weight = torch.randn(2, 7, 4, 6)
    (HostLookup.apply(table, *Fetch(table, rows).result()) * weight).sum().backward()
    other = table.detach().clone().requires_grad_()
    (F.embedding(rows, other) * weight).sum().backward()
    assert table.grad.is_sparse
    assert table.grad.coalesce().indices().tolist() == [sorted(set(rows.flatten().tolist()))]
    assert torch.equal(table.grad.to_dense(), other.grad)
    found, _ = Fetch(table, rows).result()
    assert torch.equal(found, table[rows])


def test_table_stays_on_the_host_and_follows_the_dtype():
    memory = EngramMemory(20, 4, on_host=True)
    torch.nn.init.normal_(memory.weight)
    before = memory.weight.detach().clone()
    assert memory.to(torch.bfloat16).weight.dtype == torch.bfloat16
    assert torch.equal(memory.weight, before.to(torch.bfloat16))
    assert memory.to("meta").weight.is_meta
    assert memory.to_empty(device="cpu").weight.shape == (20, 4)


def test_a_model_with_host_tables_is_the_same_model(tokenizer):
    ids = torch.randint(3, 300, (2, 12))
    there, here = (
        graft(
            tiny("llama", len(tokenizer)),
            ENGRAM.model_copy(update={"host_memory": host}),
            tokenizer,
        )
        for host in (True, False)
    )
    with torch.no_grad():
        assert torch.equal(there(input_ids=ids).logits, here(input_ids=ids).logits)


@NEEDS_GPU
@pytest.mark.parametrize("checkpointing", [False, True])
def test_on_a_gpu_host_tables_give_the_same_numbers(tokenizer, checkpointing):
    ids = torch.randint(3, 300, (2, 12), device="cuda")
    models = []
    for host in (True, False):
        engram = ENGRAM.model_copy(update={"host_memory": host})
        model = graft(tiny("llama", len(tokenizer)), engram, tokenizer).to("cuda").train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        assert model.engrams["1"].memory.weight.is_cuda == (not host)
        for _ in range(3):
            model.zero_grad()
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
        models.append((model, loss))
    (there, loss), (here, expected) = models
    torch.testing.assert_close(loss, expected)
    for name, parameter in here.named_parameters():
        found = there.get_parameter(name).grad
        assert found.is_sparse == name.endswith("memory.weight")
        found = found.to_dense().cpu()
        torch.testing.assert_close(found, parameter.grad.cpu(), rtol=1e-4, atol=1e-5)
