"""Gates, orders, collisions and losses against slow second ways."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from families import tiny

from engramcka.config import EngramConfig
from engramcka.data import Document, train_tokenizer
from engramcka.data.documents import Entity
from engramcka.errors import ComparisonError, ConfigError
from engramcka.lens import (
    collision_shares,
    gate_map,
    memory_ablation,
    read_head,
    require_gates,
    token_gates,
    token_losses,
    token_texts,
)
from engramcka.models import find_memories, graft, memory_off, read_gates
from engramcka.results.statistics import clustered_mean

TEXT = "".join(
    f"value{n} = os.path.join(a{n}, b)\nif sys.argv[{n}]:\n    pass\n" for n in range(20)
)
TEXTS = [("a.py", TEXT[:70]), ("a.py", TEXT[70:120]), ("b.py", "naïve = os.sep\n")]
ENTITIES = [[Entity(9, 21, "call", "call")], [], [Entity(8, 14, "name", "")]]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([Document("a.py", TEXT)], 290)


@pytest.fixture(scope="module", params=["llama", "engramcka_hyper_deepseek"])
def model(tokenizer, request):
    engram = EngramConfig(layers=(1, 3), table_size=13, d_mem=12, heads=2, orders=(2, 3))
    found = graft(tiny(request.param, len(tokenizer)), engram, tokenizer).eval()
    for name in found.engrams:
        found.module(name).memory.weight.data.mul_(60.0)
    return found


@pytest.fixture(scope="module")
def texts(tokenizer):
    return token_texts(tokenizer, TEXTS, ENTITIES, 64)


@pytest.fixture(scope="module")
def batch(texts):
    longest = max(len(text.ids) for text in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text.ids)] = torch.from_numpy(text.ids)
        mask[row, : len(text.ids)] = 1
    return ids, mask


def test_tokens_know_their_entity_and_joined_give_the_text(texts, tokenizer) -> None:
    for text, (_, characters) in zip(texts, TEXTS, strict=True):
        assert "".join(text.pieces) == characters
        assert len(text.pieces) == len(text.ids)
    first = texts[0]
    inside = {first.text[a:b] for (a, b), kind in zip(first.spans, first.kind, strict=True) if kind}
    assert set("".join(inside)) <= set(" os.path.join")
    assert set(first.kind.tolist()) == {"", "call"}
    assert "name" in texts[2].kind  # the type, where there is no kind
    cut = token_texts(tokenizer, TEXTS[:1], [()], 5)[0]
    assert len(cut.ids) == 5
    assert TEXT.startswith("".join(cut.pieces))


def test_gates_are_those_of_each_text_alone(model, texts, batch) -> None:
    alpha, _, rows = token_gates(model, find_memories(model), *batch)
    expected = []
    for text in texts:
        with torch.no_grad(), read_gates(model) as gates:
            model(input_ids=torch.from_numpy(text.ids)[None])
        expected.append(torch.stack([gates[layer][0][0] for layer in (1, 3)], dim=1))
    torch.testing.assert_close(alpha, torch.cat(expected), rtol=1e-5, atol=1e-6)
    looked_up = [
        model.hashing(model.hashing.canonical(torch.from_numpy(text.ids)[None], None, None))[:, 0]
        for text in texts
    ]
    assert torch.equal(rows, torch.cat(looked_up, dim=1).transpose(0, 1))
    assert alpha.std() > 1e-3


def test_orders_add_up_to_the_values_squared_norm(model, texts, batch) -> None:
    _, shares, _ = token_gates(model, find_memories(model), *batch)
    done = 0
    for text in texts:
        ids = torch.from_numpy(text.ids)[None]
        rows = model.hashing(model.hashing.canonical(ids, None, None))
        for place, name in enumerate(model.engrams):
            module = model.module(name)
            with torch.no_grad():
                memory = module.memory(rows[place])
                value = module.value(memory)[0].double()
                for order in range(2):  # each order alone, the other's rows zero
                    alone = torch.zeros_like(memory)
                    alone[..., order * 6 : order * 6 + 6] = memory[..., order * 6 : order * 6 + 6]
                    part = (module.value(alone)[0].double() * value).sum(-1)
                    found = shares[done : done + len(text.ids), place, order]
                    torch.testing.assert_close(found, part, rtol=1e-4, atol=1e-4)
            total = shares[done : done + len(text.ids), place].sum(-1)
            torch.testing.assert_close(total, value.square().sum(-1), rtol=1e-4, atol=1e-4)
        done += len(text.ids)


def test_losses_are_the_models_own_with_memory_and_without(model, texts, batch) -> None:
    head = read_head(model, torch.from_numpy(texts[0].ids))
    for silent in (False, True):
        with memory_off(model) if silent else torch.no_grad():
            found = token_losses(model, head, *batch)
            expected = []
            for text in texts:
                ids = torch.from_numpy(text.ids)
                with torch.no_grad():
                    logits = model(input_ids=ids[None]).logits[0, :-1].double()
                loss = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
                expected += [torch.tensor([torch.nan], dtype=torch.float64), loss]
            torch.testing.assert_close(
                found, torch.cat(expected), rtol=1e-5, atol=1e-5, equal_nan=True
            )


def test_collisions_are_counted_pair_by_pair(model, texts, batch) -> None:
    memories = find_memories(model)
    rows = token_gates(model, memories, *batch)[2].numpy()
    found = collision_shares(memories, [text.ids for text in texts], rows)
    for place, _ in enumerate(model.engrams):
        for index, order in enumerate((2, 3)):
            grams: dict[tuple[int, ...], torch.Tensor] = {}
            for text in texts:
                ids = torch.from_numpy(text.ids)[None]
                canonical = model.hashing.canonical(ids, None, None)
                rows = model.hashing(canonical)[place, 0]
                for t in range(len(text.ids)):
                    key = tuple(canonical[0, t + 3 - order : t + 3].tolist())
                    grams[key] = rows[t, index * 2 : index * 2 + 2]
            shared = [set(), set()]
            for one, other in combinations(grams, 2):
                for head in range(2):
                    if grams[one][head] == grams[other][head]:
                        shared[head] |= {one, other}
            expected = np.mean([len(head) / len(grams) for head in shared])
            assert found[place, index] == pytest.approx(expected)
    assert 0 < found.min() < found.max() <= 1


def test_a_map_of_gates_averages_by_kind_and_over_documents(model, texts, batch) -> None:
    alpha, shares, _ = (value.numpy() for value in token_gates(model, find_memories(model), *batch))
    found = gate_map(texts, alpha, shares, layers=[1, 3], orders=[2, 3], label="m")
    assert found.types == ("all", "outside", "call", "name")
    kind = np.concatenate([text.kind for text in texts])
    document = np.concatenate([np.full(len(t.ids), t.document == "b.py", int) for t in texts])
    assert found.counts == tuple(
        int(mask.sum()) for mask in (kind == kind, kind == "", kind == "call", kind == "name")
    )
    assert found.alpha[2] == pytest.approx(alpha[kind == "call"].mean(axis=0))
    assert np.isnan(found.alpha_low[2]).all()  # one document only
    mean, low, high = clustered_mean(alpha.astype(float), document)
    assert found.alpha[0] == pytest.approx(mean)
    assert found.alpha_low[0] == pytest.approx(low)
    assert found.alpha_high[0] == pytest.approx(high)
    assert found.order_share.sum(axis=1) == pytest.approx(1.0)
    assert found.order_share == pytest.approx(shares.sum(0) / shares.sum(0).sum(1, keepdims=True))


def test_the_ablation_is_paired_by_token(texts) -> None:
    n = sum(len(text.ids) for text in texts)
    rng = np.random.default_rng(0)
    on = rng.normal(5, 3, n)
    firsts = np.cumsum([0] + [len(text.ids) for text in texts])[:-1]
    on[firsts] = np.nan
    kind = np.concatenate([text.kind for text in texts])
    off = on + np.where(kind == "", 0.25, 1.0)
    found = memory_ablation(texts, on, off, label="m")
    assert found.classes == ("all", "inside an entity", "outside")
    assert found.counts[0] == n - len(texts) == found.counts[1] + found.counts[2]
    assert found.loss_off - found.loss_on == pytest.approx(
        [0.25 + 0.75 * found.counts[1] / found.counts[0], 1.0, 0.25]
    )
    # However much tokens differ, a difference that is the same everywhere has no width.
    assert found.difference_low[2] == pytest.approx(0.25)
    assert found.difference_high[1] == pytest.approx(1.0)
    assert found.kept[2] == pytest.approx(np.exp(-0.25))
    with pytest.raises(ComparisonError, match="not all finite"):
        memory_ablation(texts, on, off * np.inf)


def test_models_without_gates_are_refused_in_one_line(tokenizer) -> None:
    with pytest.raises(ConfigError, match="base has no Engram modules"):
        require_gates(find_memories(tiny("llama", len(tokenizer))), "base")
    engram = EngramConfig(layers=(1,), table_size=13, d_mem=12, heads=2, gating="none")
    ungated = find_memories(graft(tiny("llama", len(tokenizer)), engram, tokenizer))
    with pytest.raises(ConfigError, match="gating = 'none'"):
        require_gates(ungated, "open")
