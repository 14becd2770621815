"""Stores of before `token` and `token_index` open, are filled up as begun, and mended with them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engramcka.data import Corpus, Document, Passages, draw_samples, place_samples, train_tokenizer
from engramcka.extraction import extract
from engramcka.stores import layout, open_activations

DOCUMENTS = (Document("a.py", "value = os.path.join(a, b)\nif sys.argv[1]:\n    pass\n" * 30),)


@pytest.fixture(scope="module")
def passages() -> Passages:
    tokenizer = train_tokenizer(DOCUMENTS, 280)
    samples = draw_samples(DOCUMENTS, count=40, passage_length=80, seed=0)
    return place_samples(tokenizer, Corpus((), DOCUMENTS), samples, 256)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=280,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def run(model, passages: Passages, path: Path):
    return extract(
        model,
        passages,
        path,
        pad_id=0,
        attributes={"corpus": "test"},
        inputs={"seed": 0},
        on_rows=lambda done, total: None,
    )


def test_an_older_store_is_filled_up_as_it_was_begun_and_mended_whole(
    model, passages: Passages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "chunk_samples", lambda *_: (16, 16))
    new = run(model, passages, tmp_path / "new.zarr")
    np.testing.assert_array_equal(new.samples["token_index"], passages.last)
    ends = zip(new.samples["entity"].tolist(), new.samples["token"].tolist(), strict=True)
    assert all(entity.endswith(token.rstrip("([")) and token for entity, token in ends)
    with monkeypatch.context() as older:
        older.setattr(Passages, "columns", lambda self: self.samples.columns())
        module = sys.modules["engramcka.extraction.extract"]
        older.setattr(module, "sample_counts", lambda _: {"skipped": 0})
        run(model, passages, tmp_path / "old.zarr")
    old = open_activations(tmp_path / "old.zarr")
    assert new.samples.keys() - old.samples.keys() == {"token", "token_index"}
    old.discard_chunk(1)
    filled = run(model, passages, tmp_path / "old.zarr")
    assert filled.is_complete
    assert filled.samples.keys() == old.samples.keys()
    for layer, array in new.layers.items():
        np.testing.assert_array_equal(filled.layers[layer][0:40], array[0:40])

    next((tmp_path / "old.zarr" / "samples" / "start" / "c").rglob("0")).write_bytes(b"rot")
    mended = run(model, passages, tmp_path / "old.zarr")
    assert mended.is_complete
    assert mended.samples.keys() == new.samples.keys()
    for name, column in new.samples.items():
        np.testing.assert_array_equal(mended.samples[name], column)
    for layer, array in new.layers.items():
        np.testing.assert_array_equal(mended.layers[layer][0:40], array[0:40])
