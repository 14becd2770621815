"""What leaves a block must be what enters the next one, or the model is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import FAMILIES, tiny
from torch import nn

from engramcka.config import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models import graft
from engramcka.models.blocks import capture_points, require_stream

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
        (TokensFirst, r"leaves block 1 is \(7, 2, 8\), not"),
        (Fails, "a forward pass over token ids fails"),
    ],
)
def test_another_stream_is_refused_with_what_to_write(model: type[Own], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        check(model())
    assert "\n" not in str(error.value)


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
