"""Memory modules of others: found, read and silenced, against hooks and sums of this file."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import tiny_types
import torch
from foreign_memory import (
    HEADS,
    ORDERS,
    VOCABULARY,
    WIDTH,
    DeepSeekLike,
    Described,
)
from pydantic import ValidationError
from torch import nn

from engramcka.config.memory_tables import MemoryTable
from engramcka.errors import ConfigError
from engramcka.extraction.residual_stream import ResidualStream
from engramcka.lens import collision_shares, require_gates, token_gates
from engramcka.models import find_memories, memory_off
from engramcka.models.blocks import OwnModel, capture_points
from engramcka.models.memory import require_memories

IDS = torch.randint(0, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(3))
MASK = torch.ones_like(IDS)
MASK[1, 6:] = 0
EVERY = tuple(torch.arange(2).repeat_interleave(9) if at == 0 else torch.arange(9).repeat(2)
              for at in (0, 1, 1))  # fmt: skip
TABLE = MemoryTable(module="engrams.*", gate="gate", table="rows", value="out", orders=(2,),
                    token_map="none")  # fmt: skip


@pytest.fixture
def deepseek() -> nn.Module:
    torch.manual_seed(0)
    return DeepSeekLike().eval()


def described(place: str, whole: bool = False) -> tuple[nn.Module, MemoryTable]:
    torch.manual_seed(1)
    module = "blocks.*.memory" if place == "inside" else "engrams.*"
    changes = {"module": module, "gives": "stream" if whole else "addition"}
    return OwnModel(Described(place, whole)).eval(), TABLE.model_copy(update=changes)


def captured(model: nn.Module, points: str, **options) -> dict[int, torch.Tensor]:
    stream = ResidualStream(capture_points(model, points, **options), "concat")
    with torch.no_grad(), stream.capture(*EVERY):
        model(input_ids=IDS, use_cache=False)
    return stream.selected


def test_a_module_of_deepseeks_parts_is_found_in_the_block_it_stands_in(deepseek) -> None:
    memories = find_memories(deepseek, blocks="layers.*")
    assert list(memories) == [2, 3]  # 1 and 2 from 0
    assert [memory.name for memory in memories.values()] == ["layers.1.engram", "layers.2.engram"]
    assert memories[2].orders == ORDERS
    assert memories[2].table_parameters == deepseek.layers[1].engram.embed.weight.numel()
    require_memories(deepseek, memories, "layers.*", in_stream=True)


def test_gates_of_deepseeks_parts_are_those_of_its_own_forward(deepseek) -> None:
    memories = find_memories(deepseek, blocks="layers.*")
    alpha, shares, rows = token_gates(deepseek, memories, IDS, MASK)
    with torch.no_grad():
        deepseek(input_ids=IDS)
        own = [deepseek.layers[at].engram.last_alpha[MASK.bool()] for at in (1, 2)]
        torch.testing.assert_close(alpha, torch.stack(own, 1), rtol=1e-5, atol=1e-6)
        looked_up = torch.stack(deepseek.rows(IDS), 2)[MASK.bool()]
        assert torch.equal(rows, looked_up)
        memory = deepseek.layers[2].engram
        found = memory.embed(looked_up[:, 1]).flatten(1)
        weight = memory.wkv.weight[-WIDTH:].double()
        value = found.double() @ weight.T
        for place in range(len(ORDERS)):
            columns = slice(place * HEADS * 6, (place + 1) * HEADS * 6)
            part = found[:, columns].double() @ weight[:, columns].T
            torch.testing.assert_close(shares[:, 1, place], (part * value).sum(1), rtol=1e-4,
                                       atol=1e-5)  # fmt: skip


def test_collisions_of_deepseeks_parts_count_folded_ids(deepseek) -> None:
    memories = find_memories(deepseek, blocks="layers.*")
    rows = token_gates(deepseek, memories, IDS, MASK)[2].numpy()
    passages = [IDS[0].numpy(), IDS[1, :6].numpy()]
    found = collision_shares(memories, passages, rows)
    for place, order in enumerate(ORDERS):
        grams: dict[tuple[int, ...], np.ndarray] = {}
        start = 0
        for ids in passages:
            folded = (ids // 2).tolist()
            for t in range(order - 1, len(ids)):
                at = rows[start + t, 0, place * HEADS : (place + 1) * HEADS]
                grams[tuple(folded[t - order + 1 : t + 1])] = at
            start += len(ids)
        expected = []
        for head in range(HEADS):
            numbers = [at[head] for at in grams.values()]
            expected.append(np.mean([numbers.count(number) > 1 for number in numbers]))
        assert found[0, place] == pytest.approx(np.mean(expected))


def test_the_stream_around_deepseeks_parts_and_without_them(deepseek) -> None:
    memories = find_memories(deepseek, blocks="layers.*")
    blocks = captured(deepseek, "block", blocks="layers.*")
    before, after = (
        captured(deepseek, point, blocks="layers.*", memories=memories)
        for point in ("engram-in", "engram-out")
    )
    assert torch.equal(before[2], blocks[1])
    assert torch.equal(before[3], blocks[2])
    assert not torch.allclose(before[2], after[2])
    with memory_off(deepseek, memories):
        silent = captured(deepseek, "engram-out", blocks="layers.*", memories=memories)
        last = captured(deepseek, "block", blocks="layers.*")[4]
    assert torch.equal(silent[2], before[2])
    with torch.no_grad():
        hidden = deepseek.embedding(IDS).unsqueeze(2).repeat(1, 1, 4, 1)
        for block in deepseek.layers:
            hidden = hidden + torch.tanh(block.inner(hidden))
    assert torch.equal(last, hidden.flatten(2).flatten(0, 1))
    assert not torch.allclose(blocks[4], last)
    assert torch.equal(captured(deepseek, "block", blocks="layers.*")[4], blocks[4])


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("place", ["dict", "list", "inside"])
def test_a_described_module_belongs_to_the_block_it_runs_before(place: str, whole: bool) -> None:
    model, table = described(place, whole)
    memories = find_memories(model, table, "blocks.*")
    assert list(memories) == [2, 3]  # whatever their keys say
    require_memories(model, memories, "blocks.*", in_stream=True)
    blocks = captured(model, "block", blocks="blocks.*")
    before, after = (
        captured(model, point, blocks="blocks.*", memories=memories)
        for point in ("engram-in", "engram-out")
    )
    given: list[torch.Tensor] = []
    handle = memories[3].module.register_forward_hook(lambda m, i, o: given.append(o))
    full = model(input_ids=IDS)
    handle.remove()
    added = given[0] - before[3].view(2, 9, -1) if whole else given[0]
    torch.testing.assert_close(after[3].view(2, 9, -1), before[3].view(2, 9, -1) + added)
    for layer in (2, 3):
        assert torch.equal(before[layer], blocks[layer - 1])
    with memory_off(model, memories):
        silent = model(input_ids=IDS)
    hidden = model.inner.embedding(IDS)
    for block in model.inner.blocks:
        hidden = hidden + block.mix(block.norm(hidden))
    assert torch.equal(silent, hidden)
    assert not torch.allclose(silent, full)
    assert torch.equal(model(input_ids=IDS), full)


def test_gates_of_a_described_module_are_what_its_part_gives() -> None:
    model, table = described("dict")
    memories = find_memories(model, table, "blocks.*")
    alpha, shares, rows = token_gates(model, memories, IDS, MASK)
    seen: list[torch.Tensor] = []
    handle = memories[2].module.gate.register_forward_hook(lambda m, i, o: seen.append(o))
    model(input_ids=IDS)
    handle.remove()
    assert torch.equal(alpha[:, :1], seen[0][MASK.bool()][:, None])
    assert alpha.shape[1:] == (2, 1)
    module = memories[2].module
    value = module.rows(rows[:, 0, 0]) @ module.out.weight.T
    torch.testing.assert_close(shares[:, 0, 0], value.square().sum(1).double(), rtol=1e-4, atol=0)
    passages = [IDS[0].numpy(), IDS[1, :6].numpy()]
    found = collision_shares(memories, passages, rows.numpy())
    grams = {pair for ids in passages for pair in pairwise(ids.tolist())}
    at = [((b * 7) ^ (a * 13)) % 97 for a, b in grams]
    assert found[0, 0] == pytest.approx(np.mean([at.count(number) > 1 for number in at]))


def test_ids_that_are_not_those_hashed_are_noticed() -> None:
    model, table = described("dict")
    model.inner.folds = torch.arange(VOCABULARY) // 2
    told = table.model_copy(update={"token_map": "folds"})
    memories = find_memories(model, told, "blocks.*")
    rows = token_gates(model, memories, IDS, MASK)[2].numpy()
    passages = [np.array([2, 4, 3, 4, 2, 4, 3, 5, 2]), np.array([2, 5, 3, 4, 2, 5])]
    rows = token_gates(model, memories, torch.tensor([passages[0].tolist()]),
                       torch.ones(1, 9))[2].numpy()  # fmt: skip
    with pytest.raises(ConfigError, match="one 2-gram of the ids that are said to be hashed has"):
        collision_shares(memories, passages[:1], rows)
    untold = table.model_copy(update={"token_map": None})
    assert collision_shares(find_memories(model, untold, "blocks.*"), passages[:1], rows) is None


@pytest.mark.parametrize(
    ("whole", "changes", "says"),
    [
        (True, {"gives": "addition"}, "handed on as it is, and nothing is seen to add it"),
        (False, {"gives": "stream"}, "does not take the stream and hand it on"),
    ],
)
def test_what_a_module_gives_is_checked_against_a_pass(whole, changes, says) -> None:
    model, table = described("dict", whole)
    memories = find_memories(model, table.model_copy(update=changes), "blocks.*")
    with pytest.raises(ConfigError, match=says):
        require_memories(model, memories, "blocks.*", in_stream=False)


def test_a_part_inside_a_module_is_no_place_in_the_stream() -> None:
    model, table = described("dict")
    inner = table.model_copy(update={"module": "engrams.*.out", "gate": None})
    memories = find_memories(model, inner, "blocks.*")
    require_memories(model, memories, "blocks.*", in_stream=False)
    with pytest.raises(ConfigError, match="is not seen to take the stream"):
        require_memories(model, memories, "blocks.*", in_stream=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"module": "engrams.*.nothing"}, r"'engrams.\*.nothing' names no module of Described"),
        ({"module": "engrams.1.*"}, "both stand in block 2; engram.module may name one"),
        ({"gate": "gates"}, "has no module 'gates' inside; allowed: rows, gate"),
        ({"gate": "out"}, "gives .* a gate is"),
        ({"gate": None}, "engrams.1 has no gate"),
        ({"value": "gate"}, "a Sequential is no linear layer, so the parts of the orders"),
        ({"value": "rows"}, "engram.value does not take the rows of a token, 16 numbers"),
        ({"table": "spare"}, "what gives its rows does not run in a pass"),
    ],
)
def test_a_wrong_description_is_refused_in_one_line(changes, says) -> None:
    model, table = described("dict")
    if changes.get("table") == "spare":
        for memory in model.inner.engrams.values():
            memory.spare = nn.Embedding(3, WIDTH)

    def use() -> None:
        memories = find_memories(model, table.model_copy(update=changes), "blocks.*")
        require_gates(memories, "m")
        token_gates(model, memories, IDS, MASK)

    with pytest.raises(ConfigError, match=says) as error:
        use()
    assert "\n" not in str(error.value)


def test_qwen4s_layer_is_read_as_its_own_forward_computes_it(qwen4) -> None:
    memories = find_memories(qwen4)
    assert list(memories) == [2, 3]
    require_memories(qwen4, memories, None, in_stream=True)
    ids = IDS.clone()
    ids[0, 4] = 7  # an eos, which no n-gram reaches back over
    alpha, shares, rows = token_gates(qwen4, memories, ids, MASK)
    module, looked = memories[2].module, {}
    parts = {"in": module, "key": module.norm_key, "value": module.value_proj}
    parts |= {"conv": module.norm_conv, "rows": module.ple_embedding.ngram_embedding}
    handles = [
        part.register_forward_hook(lambda m, i, o, name=name: looked.update({name: (i[0], o)}))
        for name, part in parts.items()
    ]
    with torch.no_grad():
        qwen4(input_ids=ids, attention_mask=MASK, use_cache=False)
    for handle in handles:
        handle.remove()
    real = MASK.bool()
    # What the convolution is given is alpha x the value, so their quotient is alpha.
    value = looked["value"][1]
    quotient = looked["conv"][0].unflatten(-1, (4, 32)) / value.unsqueeze(2)
    torch.testing.assert_close(alpha[:, 0], quotient.median(-1).values[real], rtol=1e-3, atol=1e-4)
    assert torch.equal(rows[:, 0], looked["rows"][0][real])
    torch.testing.assert_close(
        shares[:, 0].sum(-1), value[real].square().sum(-1).double(), rtol=1e-4, atol=1e-6
    )
    passages = [ids[0].numpy(), ids[1, :6].numpy()]
    assert collision_shares(memories, passages, rows.numpy()).shape == (2, 2)  # windows fit rows


def test_the_stream_around_qwen4s_layer_and_without_it(qwen4) -> None:
    memories = find_memories(qwen4)
    blocks = captured(qwen4, "block")
    before, after = (captured(qwen4, p, memories=memories) for p in ("engram-in", "engram-out"))
    assert list(before) == list(after) == [2, 3]
    assert torch.equal(before[2], blocks[1])
    assert not torch.allclose(before[2], after[2])
    with memory_off(qwen4, memories):
        silent = captured(qwen4, "block")
    for block in qwen4.model.layers:
        block.ple = None
    bare = captured(qwen4, "block")
    for layer in (1, 2, 3):
        assert torch.equal(silent[layer], bare[layer])
    assert not torch.allclose(blocks[3], bare[3])


@pytest.mark.parametrize("kind", ["gemma3n_text", "gemma4_text"])
def test_per_layer_embeddings_are_silenced_by_the_part_whose_output_is_added(kind: str) -> None:
    model = tiny_types.build(kind)
    table = MemoryTable(module="**.layers.*.post_per_layer_input_norm")
    memories = find_memories(model, table)
    assert list(memories) == [1, 2, 3]
    require_memories(model, memories, None, in_stream=False)
    with pytest.raises(ConfigError, match="is not seen to take the stream"):
        require_memories(model, memories, None, in_stream=True)
    ids = torch.from_numpy(tiny_types.IDS)[None]

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=ids, use_cache=False).logits

    for name, weight in model.named_parameters():
        if "altup" in name:  # their weights start at zero, and streams are then not mixed
            weight.data.normal_(std=0.3)
    full = logits()
    with memory_off(model, memories):
        silent = logits()
    for name, module in model.named_modules():
        if name.endswith("per_layer_projection"):
            module.weight.data.zero_()
    torch.testing.assert_close(silent, logits(), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(silent, full, atol=1e-3)


class Once(nn.Module):
    """A memory of one table row a token, whose output is what ``give`` makes of it."""

    def __init__(self, give) -> None:
        super().__init__()
        self.give, self.rows = give, nn.Embedding(97, WIDTH)
        self.gate = nn.Sequential(nn.Linear(WIDTH, 1), nn.Sigmoid())

    def forward(self, hidden: torch.Tensor, ids: torch.Tensor):
        before = torch.nn.functional.pad(ids, (1, 0))[:, :-1]
        found = self.rows(((ids * 7) ^ (before * 13)).remainder(97))  # (batch, tokens), one a token
        return self.give(self.gate(hidden) * found)


class Named(NamedTuple):
    added: torch.Tensor
    other: int = 0


def one_memory(give, shared: bool = False) -> tuple[nn.Module, MemoryTable]:
    torch.manual_seed(5)
    inner = Described("list")
    memory = Once(give)
    inner.engrams = nn.ModuleList([memory, memory if shared else Once(give)])

    def forward(input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        hidden = inner.embedding(input_ids)
        for number, block in enumerate(inner.blocks):
            if number:
                given = inner.engrams[number - 1](hidden, input_ids)
                given = given[0] if isinstance(given, tuple) else given
                hidden = hidden + (given["added"] if isinstance(given, dict) else given)
            hidden = block(hidden, input_ids)
        return hidden

    inner.forward = forward
    return OwnModel(inner).eval(), TABLE.model_copy(update={"value": None})


def test_one_row_a_token_is_the_plainest_table() -> None:
    model, table = one_memory(lambda added: added)
    memories = find_memories(model, table, "blocks.*")
    require_memories(model, memories, "blocks.*", in_stream=True)
    rows = token_gates(model, memories, IDS, MASK)[2]
    assert rows.shape[1:] == (2, 1)
    passages = [IDS[0].numpy(), IDS[1, :6].numpy()]
    assert collision_shares(memories, passages, rows.numpy()).shape == (2, 1)


def test_a_memory_may_give_a_named_tuple_and_no_dictionary() -> None:
    model, table = one_memory(Named)
    memories = find_memories(model, table, "blocks.*")
    require_memories(model, memories, "blocks.*", in_stream=False)
    with memory_off(model, memories), torch.no_grad():
        silent = model(input_ids=IDS)
        hidden = model.inner.embedding(IDS)
        for block in model.inner.blocks:
            hidden = block(hidden, IDS)
    assert torch.equal(silent, hidden)
    model, table = one_memory(lambda added: {"added": added})
    memories = find_memories(model, table, "blocks.*")
    with pytest.raises(ConfigError, match="gives a dict; name a part that gives a tensor"):
        require_memories(model, memories, "blocks.*", in_stream=False)


def test_one_module_in_two_blocks_is_refused() -> None:
    model, table = one_memory(lambda added: added, shared=True)
    memories = find_memories(model, table, "blocks.*")
    with pytest.raises(ConfigError, match="runs more than once in a pass"):
        require_memories(model, memories, "blocks.*", in_stream=False)


def test_orders_have_to_rise() -> None:
    with pytest.raises(ValidationError, match="which has to be rising"):
        MemoryTable(module="m", table="t", orders=(3, 2))


def test_what_runs_after_the_last_block_is_no_memory_of_one() -> None:
    model, table = described("dict")
    model.inner.last = nn.LayerNorm(WIDTH)
    model.inner.register_forward_hook(lambda module, _, out: module.last(out))
    with pytest.raises(ConfigError, match="last runs after the last block"):
        find_memories(model, table.model_copy(update={"module": "last"}), "blocks.*")


def test_a_pass_that_fails_is_one_line() -> None:
    model, table = described("dict")
    model.inner.blocks[0].mix = nn.Linear(WIDTH + 1, WIDTH)
    with pytest.raises(
        ConfigError, match="Described: a forward pass over token ids fails"
    ) as error:
        find_memories(model, table, "blocks.*")
    assert "\n" not in str(error.value)
