"""Small models of others with memory modules, written here from what is published of them.

`DeepSeekLike` has the parts of DeepSeek-V4.1's memory: layer numbers from 0, orders 2 to 4, a fused
projection of keys and value, no convolution, and it gives the stream with the memory added.
`Described` has a memory whose gate is a part of its own; where it stands is the model's choice.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, STREAMS, BLOCKS, VOCABULARY = 16, 4, 4, 61
HEADS, HEAD_WIDTH, ORDERS = 2, 6, (2, 3, 4)
PRIMES = [[[31, 37], [41, 43], [47, 53]], [[59, 61], [67, 71], [73, 79]]]


class DeepSeekLikeMemory(nn.Module):
    def __init__(self, rows: int) -> None:
        super().__init__()
        self.eps, columns = 1e-6, HEADS * len(ORDERS)
        self.embed = nn.Embedding(rows, HEAD_WIDTH)
        self.wkv = nn.Linear(columns * HEAD_WIDTH, WIDTH * (STREAMS + 1), bias=False)
        self.q_weight = nn.Parameter(torch.randn(STREAMS, WIDTH))
        self.k_weight = nn.Parameter(torch.randn(STREAMS, WIDTH))

    def forward(self, streams: Tensor, rows: Tensor) -> Tensor:
        fused = self.wkv(self.embed(rows).flatten(-2))
        key, value = fused.split([STREAMS * WIDTH, WIDTH], dim=-1)
        key = key.unflatten(-1, (STREAMS, WIDTH))
        rms = [x.square().mean(-1).add(self.eps).sqrt() for x in (streams, key)]
        dot = (streams * self.q_weight * self.k_weight * key).sum(-1) / rms[0] / rms[1] / WIDTH**0.5
        self.last_alpha = torch.sigmoid(torch.copysign(dot.abs().clamp_min(1e-6).sqrt(), dot))
        return streams + self.last_alpha.unsqueeze(-1) * value.unsqueeze(-2)


class DeepSeekLikeBlock(nn.Module):
    def __init__(self, memory: nn.Module | None) -> None:
        super().__init__()
        self.engram = memory
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, streams: Tensor, rows: Tensor | None) -> Tensor:
        if self.engram is not None:
            streams = self.engram(streams, rows)
        return streams + torch.tanh(self.inner(streams))


class DeepSeekLike(nn.Module):
    """Memory in the blocks that count 1 and 2 from 0."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [sum(map(sum, layer)) for layer in PRIMES]
        memories = [None, *(DeepSeekLikeMemory(size) for size in sizes), None]
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(DeepSeekLikeBlock(memory) for memory in memories)
        self.token_map = torch.arange(VOCABULARY) // 2
        self.config = _Config()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def rows(self, ids: Tensor) -> list[Tensor]:
        """(B, T, P) of each memory."""
        folded = self.token_map[ids]
        shifted = [F.pad(folded, (lag, 0), value=0)[:, : ids.shape[1]] for lag in range(ORDERS[-1])]
        found = []
        for layer, primes in enumerate(PRIMES):
            mix, columns, offset = shifted[0] * (2 * layer + 3), [], 0
            for lag in range(1, ORDERS[-1]):
                mix = mix ^ (shifted[lag] * (1009 * lag + 2 * layer + 1))
                for prime in primes[lag - 1]:
                    columns.append(mix % prime + offset)
                    offset += prime
            found.append(torch.stack(columns, dim=-1))
        return found

    def forward(self, input_ids: Tensor, **_: Any) -> Tensor:
        rows = iter(self.rows(input_ids))
        hidden = self.embedding(input_ids).unsqueeze(2).repeat(1, 1, STREAMS, 1)
        for block in self.layers:
            hidden = block(hidden, next(rows) if block.engram is not None else None)
        return hidden


class _Config:
    engram_max_ngram_size = ORDERS[-1]

    def get_text_config(self, decoder: bool) -> _Config:
        return self


class GatedMemory(nn.Module):
    """Bigrams of the last two tokens, with a gate that is a part."""

    def __init__(self, whole: bool = False) -> None:
        super().__init__()
        self.whole = whole
        self.rows = nn.Embedding(97, WIDTH)
        self.gate = nn.Sequential(nn.Linear(WIDTH, 1), nn.Sigmoid())
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor, ids: Tensor) -> Tensor:
        before = F.pad(ids, (1, 0), value=0)[:, :-1]
        found = self.rows(((ids * 7) ^ (before * 13)).remainder(97).unsqueeze(-1)).squeeze(-2)
        added = self.gate(hidden) * self.out(found)
        return hidden + added if self.whole else added


class Described(nn.Module):
    """Three blocks and a memory before the second and the third.

    Args:
        place: "dict" beside the blocks with keys that count from 0, "list" beside them, one for
            each in order, or "inside" the blocks.
        whole: the modules give the stream with the memory added.
    """

    def __init__(self, place: str, whole: bool = False) -> None:
        super().__init__()
        made = {number: GatedMemory(whole) for number in (1, 2)}
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        inside = made if place == "inside" else {}
        self.blocks = nn.ModuleList(_Mixing(inside.get(number), whole) for number in range(3))
        self.engrams: Any = None
        if place == "dict":
            self.engrams = nn.ModuleDict({str(number): module for number, module in made.items()})
        elif place == "list":
            self.engrams = nn.ModuleList(made.values())
        self.place, self.whole = place, whole

    def forward(self, input_ids: Tensor, **_: Any) -> Tensor:
        hidden = self.embedding(input_ids)
        for number, block in enumerate(self.blocks):
            if number and self.engrams is not None:
                memory = self.engrams[str(number) if self.place == "dict" else number - 1]
                given = memory(hidden, input_ids)
                hidden = given if self.whole else hidden + given
            hidden = block(hidden, input_ids)
        return hidden


class _Mixing(nn.Module):
    def __init__(self, memory: nn.Module | None, whole: bool) -> None:
        super().__init__()
        self.memory, self.whole = memory, whole
        self.norm, self.mix = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor, ids: Tensor) -> Tensor:
        if self.memory is not None:
            given = self.memory(hidden, ids)
            hidden = given if self.whole else hidden + given
        return hidden + self.mix(self.norm(hidden))
