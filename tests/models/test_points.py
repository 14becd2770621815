"""Hidden states are captured where the config says, in every family, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES, tiny
from torch import nn

from engramcka.config import EngramConfig
from engramcka.errors import ConfigError
from engramcka.extraction.residual_stream import ResidualStream
from engramcka.models import find_memories, find_unembedding, graft
from engramcka.models.blocks import capture_points, matches
from engramcka.models.hooks import CapturePoint

IDS = torch.arange(3, 15).reshape(2, 6)
ROWS = (torch.tensor([0, 1, 1]), torch.tensor([5, 0, 3]), torch.tensor([5, 0, 3]))


def captured(model: nn.Module, points: str, streams: str = "mean", **options) -> dict:
    chosen = capture_points(model, points, memories=find_memories(model), **options)
    stream = ResidualStream(chosen, streams)
    with torch.no_grad(), stream.capture(*ROWS):
        model(input_ids=IDS, use_cache=False)
    return stream.selected


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_gives_its_own_hidden_states_and_its_blocks_parts(family: str) -> None:
    model = tiny(family, 359)
    blocks = captured(model, "block", embedding=True)
    attention, mlp = captured(model, "attention"), captured(model, "mlp")
    assert list(blocks) == [0, 1, 2, 3]
    assert list(attention) == list(mlp) == [1, 2, 3]
    before_norm: list[torch.Tensor] = []
    parts = find_unembedding(model)
    handle = parts.steps[-1].register_forward_pre_hook(lambda m, i: before_norm.append(i[0]))
    with torch.no_grad():
        hidden = model(input_ids=IDS, output_hidden_states=True, use_cache=False).hidden_states
    handle.remove()
    if len(parts.steps) == 1:
        assert torch.equal(blocks[3], before_norm[0][ROWS[0], ROWS[1]])
    at = hidden[0][ROWS[0], ROWS[1]]
    assert torch.equal(blocks[0], at.mean(1) if at.dim() == 3 else at)
    for layer in (1, 2):  # after the last block transformers has normed already
        there = hidden[layer][ROWS[0], ROWS[1]]
        assert torch.equal(blocks[layer], there.mean(1) if there.dim() == 3 else there)
    if family not in ("gemma3_text", "deepseek_v4", "engramcka_hyper_deepseek"):
        # What they give is added to the stream as it is: three families norm or mix it first.
        for layer in (1, 2, 3):
            sums = blocks[layer - 1] + attention[layer] + mlp[layer]
            assert torch.allclose(sums, blocks[layer], rtol=1e-4, atol=1e-4)


def test_a_pattern_names_one_module_in_each_block_that_has_it() -> None:
    model = tiny("deepseek_v3", 359)  # block 1 is dense, the others have experts
    assert list(capture_points(model, "mlp.shared_experts")) == [2, 3]
    assert list(capture_points(model, "self_attn.o_proj", embedding=True)) == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match=r"names .*q_a_proj, .* in block 1; name one"):
        capture_points(model, "self_attn.*")
    with pytest.raises(ConfigError, match=r"names nothing in a block of .* allowed: self_attn,"):
        capture_points(model, "self_attn.qkv")
    with pytest.raises(ConfigError, match=r"layer 2: what passes there is \(12, 4\), not"):
        captured(model, "mlp.gate")


@pytest.mark.parametrize(
    ("pattern", "name", "is_match"),
    [
        ("h.*", "h.0", True),
        ("h.*", "h.0.attn", False),
        ("h.**", "h.0.attn", True),
        ("**.attn", "x.h.0.attn", True),
        ("h.0", "hx0", False),
        (r"^h\.\d+$", "h.12", True),
        (r"^h\.\d", "h.12", False),
    ],
)
def test_patterns(pattern: str, name: str, is_match: bool) -> None:
    assert matches(pattern, name) is is_match


def test_before_and_after_an_engram_module(tokenizer) -> None:
    backbone = tiny("llama", len(tokenizer))
    model = graft(backbone, EngramConfig(layers=(1, 3), d_mem=8, heads=2, table_size=50), tokenizer)
    for engram in model.engrams.values():
        engram.memory.weight.data.normal_()
    model.eval()
    before, after = captured(model, "engram-in"), captured(model, "engram-out")
    blocks = captured(model, "block", embedding=True)
    assert list(before) == list(after) == [1, 3]
    assert torch.equal(before[3], blocks[2])
    assert torch.equal(before[1], blocks[0])
    assert not torch.allclose(before[3], after[3])
    given: list[torch.Tensor] = []
    handle = model.engrams["3"].register_forward_hook(lambda m, i, o: given.append(o[0]))
    captured(model, "engram-out")
    handle.remove()
    assert torch.allclose(after[3], before[3] + given[0][ROWS[0], ROWS[1]], atol=1e-6)
    with pytest.raises(ConfigError, match="LlamaForCausalLM has no Engram module that is known"):
        capture_points(backbone, "engram-in")


def test_streams_are_made_one_as_asked() -> None:
    model = tiny("engramcka_hyper_deepseek", 359)
    found = {
        name: captured(model, "block", name)[2] for name in ("mean", "sum", "concat", "0", "3")
    }
    width = found["mean"].shape[1]
    assert found["concat"].shape == (3, 4 * width)
    streams = found["concat"].unflatten(1, (4, width))
    assert torch.equal(streams[:, 0], found["0"])
    assert torch.equal(streams[:, 3], found["3"])
    assert torch.allclose(streams.sum(1), found["sum"], atol=1e-5)
    assert torch.allclose(streams.mean(1), found["mean"], atol=1e-5)
    with pytest.raises(ConfigError, match="has 4 residual streams; allowed: '0' to '3'"):
        captured(model, "block", "4")


class Own(nn.Module):
    """An architecture of somebody's own, with a part that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.steps = nn.ModuleDict({"a": nn.Linear(8, 8), "b": nn.Linear(8, 8)})
        self.spare = nn.Linear(8, 8)

    def forward(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        hidden = self.embed(input_ids)
        for step in self.steps.values():
            hidden = hidden + step(hidden)
        return self.steps["a"](hidden)


def test_blocks_by_pattern() -> None:
    model = Own()
    points = capture_points(model, blocks="steps.*")
    assert [point.module for point in points.values()] == list(model.steps.values())
    with pytest.raises(ConfigError, match=r"blocks = 'layers.\*' names no module of Own; its mod"):
        capture_points(model, blocks="layers.*")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("steps.b", "spare"), "layers 2: their modules do not run"),
        (("steps.a", "spare"), "layer 1: its module runs more than once"),
    ],
)
def test_a_module_that_does_not_run_once_is_refused(names: tuple[str, str], says: str) -> None:
    model = Own()
    stream = ResidualStream(
        {n: CapturePoint(model.get_submodule(m)) for n, m in enumerate(names, 1)}
    )
    with pytest.raises(ConfigError, match=says), stream.capture(*ROWS):
        model(input_ids=IDS)
