"""What leaves a block must be what enters the next; streams are taken however they lie."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tiny_types
import torch
from families import FAMILIES, tiny
from torch import nn

from engramcka.config import EngramConfig
from engramcka.errors import ConfigError
from engramcka.extraction.residual_stream import ResidualStream
from engramcka.models import find_memories, graft, require_stream
from engramcka.models.blocks import capture_points

TOKENS = np.arange(3, 20)


class Block(nn.Module):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * 1.5 + 1.0


class Own(nn.Module):
    """Three blocks; subclasses do something with the stream between them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def between(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden

    def forward(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        hidden = self.embedding(input_ids)
        for block in self.blocks:
            hidden = self.between(block(hidden))
        return hidden


class Scaled(Own):
    def between(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden / 2


class Twice(Own):
    def forward(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        return super().forward(input_ids) + super().forward(input_ids)


class Prefixed(Own):
    """Soft prompts before the tokens: rows are shifted, as cpmant's once were."""

    def forward(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        return super().forward(torch.cat([input_ids[:, :2], input_ids], dim=1))


class TokensFirst(Own):
    def forward(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        return super().forward(input_ids.T)


LAYOUTS = {  # how (batch, tokens, streams, width) is laid out, and back
    "behind the tokens": (lambda there: there, lambda there: there),
    "streams-first": (lambda there: there.movedim(2, 0), lambda there: there.movedim(0, 2)),
    "flattened": (lambda there: there.flatten(2), lambda there: there.unflatten(2, (3, 8))),
}


class StreamBlock(nn.Module):
    def __init__(self, layout: str) -> None:
        super().__init__()
        self.mix = nn.Linear(24, 24)
        self.lay_out, self.take_up = LAYOUTS[layout]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        streams = self.take_up(hidden)
        self.gave = streams + self.mix(streams.flatten(2)).unflatten(2, (3, 8))
        return self.lay_out(self.gave)


class Streams(Own):
    """Three residual streams, which begin as copies of the embedding."""

    def __init__(self, layout: str = "flattened") -> None:
        super().__init__()
        self.blocks = nn.ModuleList(StreamBlock(layout) for _ in range(3))

    def forward(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        hidden = self.embedding(input_ids).unsqueeze(2).repeat(1, 1, 3, 1)
        hidden = self.blocks[0].lay_out(hidden)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


class Projected(Own):
    """An embedding half as wide as the blocks: no streams."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 4)
        self.up = nn.Linear(4, 8)

    def forward(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        hidden = self.up(self.embedding(input_ids))
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


class Doubled(Own):
    """Twice as wide as the embedding, in which no copies can be seen."""

    def forward(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        there = self.embedding(input_ids)
        hidden = torch.cat([there, there.square()], dim=-1)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


class Mixed(Own):
    """Every token takes the mean over all, padding too."""

    def forward(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        hidden = self.embedding(input_ids)
        hidden = hidden + hidden.mean(1, keepdim=True)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


class Fails(Own):
    def forward(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        raise KeyError("inputs_embeds")


def check(model: nn.Module, is_chain: bool = True) -> None:
    model.eval()
    require_stream(model, capture_points(model, blocks="blocks.*"), TOKENS, is_chain)


def test_a_stream_that_is_one_passes() -> None:
    check(Own())


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Scaled, "Scaled: what leaves block 1 is not what enters block 2"),
        (Twice, "Twice: block 1 runs 2 times in a pass"),
        (Prefixed, r"leaves block 1 is \(2, 9, 8\), not \(batch, tokens, ..\) = \(2, 7\)"),
        (Doubled, "block 1: what passes there is 16 wide, 2 times its hidden size"),
        (Mixed, r"states of block 1 depend on the padding behind a passage \(by "),
        (Fails, "a forward pass over token ids fails"),
    ],
)
def test_another_stream_is_refused_with_what_to_write(model: type[Own], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        check(model())
    assert "\n" not in str(error.value)


def rows_of(model: nn.Module, streams: str, embedding: bool = False) -> dict:
    """What is stored of the token at (1, 4), a layer each."""
    model.eval()
    points = capture_points(model, blocks="blocks.*", embedding=embedding)
    stream = ResidualStream(require_stream(model, points, TOKENS, is_chain=True), streams)
    at = torch.tensor([4])
    with torch.no_grad(), stream.capture(torch.tensor([1]), at, at):
        model(torch.from_numpy(TOKENS[:12].reshape(2, 6)))
    return {number: rows[0] for number, rows in stream.selected.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_streams_are_made_one_as_asked_however_they_lie(layout: str) -> None:
    model = Streams(layout)
    made = {
        "mean": lambda there: there.mean(0),
        "sum": lambda there: there.sum(0),
        "concat": lambda there: there.flatten(),
        "0": lambda there: there[0],
        "2": lambda there: there[2],
    }
    for streams, one in made.items():
        rows = rows_of(model, streams, embedding=True)
        copies = model.embedding.weight[TOKENS[10]].expand(3, 8)
        torch.testing.assert_close(rows[0], one(copies))
        for number, block in enumerate(model.blocks, start=1):
            torch.testing.assert_close(rows[number], one(block.gave[1, 4]))
    with pytest.raises(ConfigError, match="the model has 3 residual streams; allowed: '0' to '2'"):
        rows_of(model, "3")


def test_one_stream_has_no_second() -> None:
    model = Own()
    for streams in ("0", "sum", "concat"):
        assert torch.equal(rows_of(model, streams)[3], rows_of(model, "mean")[3])
    with pytest.raises(ConfigError, match="streams = '1': what is stored of this model is one"):
        rows_of(Own(), "1")


def test_tokens_before_the_batch_are_turned() -> None:
    model, turned = Own(), TokensFirst()
    turned.load_state_dict(model.state_dict())
    for number, row in rows_of(model, "mean").items():
        assert torch.equal(rows_of(turned, "mean")[number], row)


def test_an_embedding_that_is_projected_up_is_one_stream() -> None:
    assert len(rows_of(Projected(), "mean")[1]) == 8


def test_a_config_says_how_wide_one_stream_is() -> None:
    model = Doubled()
    model.config = SimpleNamespace(hidden_size=16)
    assert len(rows_of(model, "mean")[1]) == 16


def test_parts_of_blocks_are_no_stream() -> None:
    """An MLP's middle is four times as wide in many models."""
    model = tiny("gpt2", 90)
    points = capture_points(model, "mlp.c_fc")
    assert require_stream(model, points, TOKENS, is_chain=False) == points


def test_qwen4s_flattened_streams() -> None:
    """Of transformers' own states, (batch, tokens, streams x width)."""
    model = tiny_types.build("qwen4_exp_text")
    ids = torch.from_numpy(TOKENS)[None]
    at = torch.tensor([4])
    with torch.no_grad():
        states = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    points = require_stream(model, capture_points(model), TOKENS, is_chain=True)
    for streams, one in (("mean", torch.mean), ("sum", torch.sum)):
        stream = ResidualStream(points, streams)
        with torch.no_grad(), stream.capture(torch.tensor([0]), at, at):
            model(input_ids=ids, use_cache=False)
        for number in (1, 2):
            expected = one(states[number][0, 4].view(4, 32), dim=0)
            torch.testing.assert_close(stream.selected[number][0], expected)


def test_the_stream_around_qwen4s_memory_is_flattened_too() -> None:
    model = tiny_types.build("qwen4_exp_text")
    ids = torch.from_numpy(TOKENS)[None]
    at = torch.tensor([4])
    with torch.no_grad():
        states = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    around = {}
    for where in ("engram-in", "engram-out"):
        points = capture_points(model, where, memories=find_memories(model))
        points = require_stream(model, points, TOKENS, is_chain=False)
        stream = ResidualStream(points, "1")
        with torch.no_grad(), stream.capture(torch.tensor([0]), at, at):
            model(input_ids=ids, use_cache=False)
        around[where] = stream.selected[2][0]
    torch.testing.assert_close(around["engram-in"], states[1][0, 4].view(4, 32)[1])
    assert around["engram-out"].shape == (32,)
    assert not torch.allclose(around["engram-in"], around["engram-out"])


def test_modules_that_a_user_names_need_not_follow_each_other() -> None:
    check(Scaled(), is_chain=False)
    with pytest.raises(ConfigError, match="runs 2 times"):
        check(Twice(), is_chain=False)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_passes(family: str) -> None:
    model = tiny(family, 90)
    require_stream(model, capture_points(model), TOKENS, is_chain=True)


def test_a_memory_before_a_block_is_no_break_of_the_stream(tokenizer) -> None:
    backbone = tiny("llama", len(tokenizer))
    model = graft(backbone, EngramConfig(layers=(2,), d_mem=8, heads=2), tokenizer).eval()
    for parameter in model.engrams.parameters():  # a zero module would change nothing
        parameter.data.normal_()
    require_stream(model, capture_points(model), TOKENS, is_chain=True)
