"""N-grams by how often they stood in the training text, counted one by one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from families import tiny

from engramcka.config import EngramConfig
from engramcka.data import Document, train_tokenizer
from engramcka.lens import (
    TokenText,
    collision_shares,
    frequencies,
    gate_map,
    memory_ablation,
    token_gates,
)
from engramcka.models import find_memories, graft

RNG = np.random.default_rng(0)
TRAINING = [RNG.integers(3, 12, 60) for _ in range(8)]
PASSAGES = [RNG.integers(3, 14, 25) for _ in range(4)]


def grafted(control: str):
    tokenizer = train_tokenizer([Document("a.py", "import os.path\n" * 20)], 260)
    engram = EngramConfig(
        layers=(1, 2), table_size=13, d_mem=12, heads=2, compression=False, control=control
    )
    return graft(tiny("llama", len(tokenizer)), engram, tokenizer).eval()


@pytest.fixture(scope="module")
def model():
    return grafted("none")


def grams(ids: np.ndarray, order: int, pad: int) -> list[tuple[int, ...]]:
    padded = [pad] * (order - 1) + ids.tolist()
    return [tuple(padded[t : t + order]) for t in range(len(ids))]


@pytest.fixture(scope="module")
def counted(model):
    """By order: of every token, its n-gram and how often it stood in the training text."""
    pad = model.hashing.pad_id
    found = {}
    for order in (2, 3):
        read = Counter(gram for ids in TRAINING for gram in grams(ids, order, pad))
        found[order] = [(gram, read[gram]) for ids in PASSAGES for gram in grams(ids, order, pad)]
    return found


@pytest.fixture(scope="module")
def found(model):
    return frequencies(find_memories(model)[1], PASSAGES, TRAINING)


def test_counts_are_those_of_a_dictionary(found, counted) -> None:
    for place, order in enumerate((2, 3)):
        assert found.counts[:, place].tolist() == [count for _, count in counted[order]]
    assert found.names[0] == "3-grams seen 0"
    assert set(np.digitize([count for _, count in counted[2]], [1, 10])) == {0, 1, 2}
    assert found.classes[:, 0].tolist() == [
        0 if count == 0 else 1 if count < 10 else 2 for _, count in counted[2]
    ]


@pytest.mark.parametrize("control", ["one-row", "unkeyed-rows", "random-rows", "no-table"])
def test_a_control_has_the_ngrams_of_the_memory_it_is_compared_with(found, control) -> None:
    """Whatever it looks up; the classes are of the text."""
    memory = find_memories(grafted(control))[1]
    of_control = frequencies(memory, PASSAGES, TRAINING)
    assert np.array_equal(of_control.counts, found.counts)
    assert of_control.names == found.names


def test_collisions_by_class_are_those_of_its_ngrams(model, found, counted) -> None:
    memories = find_memories(model)
    ids = torch.tensor(np.stack(PASSAGES))
    rows = token_gates(model, memories, ids, torch.ones_like(ids))[2].numpy()
    shares = collision_shares(memories, PASSAGES, rows, found)
    assert shares.shape == (3, 2, 2)
    for module in range(2):
        for place, order in enumerate((2, 3)):
            at = {gram: rows[t, module, place * 2 : place * 2 + 2]
                  for t, (gram, _) in enumerate(counted[order])}  # fmt: skip
            count = dict(counted[order])
            for number in range(3):
                own = [
                    g for g in at if (0 if not count[g] else 1 if count[g] < 10 else 2) == number
                ]
                shared = [
                    sum(at[gram][head] == other[head] for other in at.values()) > 1
                    for gram in own
                    for head in range(2)
                ]
                expected = np.mean(shared) if own else np.nan
                assert shares[number, module, place] == pytest.approx(expected, nan_ok=True)


def test_gates_and_losses_by_class(found, counted) -> None:
    texts = []
    for number, ids in enumerate(PASSAGES):
        starts = np.arange(len(ids))
        kind = np.full(len(ids), "", dtype="U1")
        spans = np.stack([starts, starts + 1], axis=1)
        texts.append(TokenText(f"{number}", "x" * len(ids), ids, spans, kind))
    n = sum(map(len, PASSAGES))
    alpha = RNG.random((n, 1, 1))
    result = gate_map(texts, alpha, np.zeros((n, 1, 0)), layers=[1], orders=[], frequency=found)
    counts = np.array([count for _, count in counted[3]])
    for name, mask in zip(found.names, (counts == 0, (counts > 0) & (counts < 10), counts >= 10),
                          strict=True):  # fmt: skip
        if mask.any():
            place = result.types.index(name)
            assert result.counts[place] == mask.sum()
            assert result.alpha[place, 0, 0] == pytest.approx(alpha[mask].mean())
    on = RNG.random(n)
    firsts = np.cumsum([0, *map(len, PASSAGES)])[:-1]
    on[firsts] = np.nan
    off = on + RNG.random(n)
    ablation = memory_ablation(texts, on, off, frequency=found)
    before = {t for t in range(n) if t not in firsts and counts[t - 1] == 0}
    place = ablation.classes.index("3-grams seen 0")
    assert ablation.counts[place] == len(before)
    assert ablation.loss_on[place] == pytest.approx(np.mean([on[t] for t in before]))
    assert ablation.loss_off[place] == pytest.approx(np.mean([off[t] for t in before]))
