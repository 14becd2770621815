"""Of every family: the stored states are transformers' own, bit for bit, whatever the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, tiny

from engramcka.data import Passages, Samples
from engramcka.data.samples import SampleRow
from engramcka.extraction import extract
from engramcka.models import find_blocks

LENGTHS = [11, 5, 11, 8, 11, 3]


def every_token(lengths: list[int]) -> Passages:
    random = np.random.default_rng(0)
    ids = tuple(random.integers(3, 90, length) for length in lengths)
    passage = np.repeat(np.arange(len(lengths)), lengths)
    token = np.concatenate([np.arange(length) for length in lengths])
    names = {"document", "entity", "kind", "type"}
    samples = Samples(
        **{
            field: np.full(len(token), "") if field in names else np.arange(len(token))
            for field in SampleRow._fields
        }
    )
    return Passages(ids, passage, token, token, samples)


def transformers_own(model, ids: torch.Tensor) -> dict[int, torch.Tensor]:
    """`hidden_states` of blocks 1 to L - 1, and of block L what goes into the final norm."""
    blocks = find_blocks(model)
    last = []
    handle = blocks.modules[-1].register_forward_hook(lambda m, i, out: last.append(out))
    with torch.no_grad():
        found = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    handle.remove()
    count = len(blocks.modules)
    before_norm = last[0][0] if isinstance(last[0], tuple) else last[0]
    states = {number: found[number] for number in range(1, count)} | {count: before_norm}
    return {
        number: value.mean(2) if value.dim() == 4 else value for number, value in states.items()
    }


def run(model, passages: Passages, path: Path):
    return extract(
        model, passages, path, pad_id=0, attributes={}, inputs={}, on_rows=lambda done, total: None
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_transformers_own_bit_for_bit(family: str, tmp_path: Path) -> None:
    model, passages = tiny(family, 90), every_token([9, 9, 9, 9])
    store = run(model, passages, tmp_path / "m.zarr")
    expected = transformers_own(model, torch.from_numpy(np.stack(passages.ids)))
    assert list(store.layers) == list(expected)
    for number, layer in store.layers.items():
        assert np.array_equal(layer[0 : len(layer)], expected[number].flatten(0, 1).numpy())


@pytest.mark.parametrize("family", FAMILIES)
def test_states_do_not_depend_on_batch_or_padding(family: str, tmp_path: Path) -> None:
    model, passages = tiny(family, 90), every_token(LENGTHS)
    together = run(model, passages, tmp_path / "m.zarr").layers
    for number, layer in together.items():
        rows = layer[0 : len(layer)]
        scale = max(1.0, float(np.abs(rows).max()))
        alone = [
            transformers_own(model, torch.from_numpy(ids)[None])[number][0].numpy()
            for ids in passages.ids
        ]
        assert np.abs(rows - np.concatenate(alone)).max() < 1e-5 * scale, number
