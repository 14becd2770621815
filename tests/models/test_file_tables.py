"""Tables that stay in their files give the rows of the file, and nothing else is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from families import tiny
from safetensors.torch import load_file, save_file
from torch import nn

from engramcka.config import EngramConfig
from engramcka.data import Document, train_tokenizer
from engramcka.errors import ConfigError, StoreError
from engramcka.models import graft, load_model
from engramcka.models.file_tables import FileTable, _headers, _table
from engramcka.models.memory import find_memories

WIDTH = 32


@pytest.fixture
def whole() -> torch.Tensor:
    return torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(0))


def table(folder: Path, tensors: dict[str, torch.Tensor], dtype=torch.float32) -> FileTable:
    save_file(tensors, folder / "model.safetensors")
    return _table(str(folder), "model.layers.1.m.table", dict(_headers(folder)), dtype)


def test_rows_of_a_table_in_one_part_and_in_shards(tmp_path: Path, whole: torch.Tensor) -> None:
    numbers = torch.randint(0, 50, (3, 7, 2), generator=torch.Generator().manual_seed(1))
    other = {
        "model.layers.11.m.table.weight": whole + 1,
        "model.layers.1.m.value.weight": whole - 1,
    }
    one = table(tmp_path, {"model.layers.1.m.table.weight": whole, **other})
    assert torch.equal(one(numbers), whole[numbers])
    cuts = {0: (0, 20), 1: (20, 21), 2: (21, 40), 10: (40, 50)}  # 10 comes after 2
    shards = {
        f"model.language_model.layers.1.m.table.shard_{number}.weight": whole[a:b].contiguous()
        for number, (a, b) in cuts.items()
    }
    split = table(tmp_path, {**shards, **other}, torch.bfloat16)
    assert split.num_embeddings == 50
    assert torch.equal(split(numbers), whole[numbers].bfloat16())
    assert split(numbers[:, :0]).shape == (3, 0, 2, WIDTH)
    with pytest.raises(IndexError, match="row 50 of a table of 50"):
        split(torch.tensor([3, 50]))


def test_two_matrices_that_could_both_be_the_table_are_refused(
    tmp_path: Path, whole: torch.Tensor
) -> None:
    both = {f"{model}.layers.1.m.table.weight": whole.clone() for model in ("model", "mtp")}
    with pytest.raises(StoreError, match=r"could both be model\.layers\.1\.m\.table\.weight"):
        table(tmp_path, both)


def test_quantised_rows_are_scaled_by_blocks(tmp_path: Path, whole: torch.Tensor) -> None:
    quantised = whole.to(torch.float8_e4m3fn)
    scale = torch.tensor([0.5, 4.0]).repeat(50, 1).to(torch.float8_e8m0fnu)
    tensors = {"layers.1.m.table.weight": quantised, "layers.1.m.table.scale": scale}
    found = table(tmp_path, tensors)(torch.arange(50))
    expected = quantised.float() * torch.tensor([0.5, 4.0]).repeat_interleave(WIDTH // 2)
    assert torch.equal(found, expected)
    with pytest.raises(StoreError, match=r"table\.weight is quantised, and its scales are not by"):
        table(tmp_path, {"layers.1.m.table.weight": quantised})


@pytest.mark.parametrize("damage", ["no file", "header", "cut"])
def test_damaged_files_are_one_line(tmp_path: Path, whole: torch.Tensor, damage: str) -> None:
    save_file({"layers.1.m.table.weight": whole}, tmp_path / "model.safetensors")
    file = tmp_path / "model.safetensors"
    if damage == "no file":
        file.unlink()
    elif damage == "header":
        file.write_bytes(b"\xff" * 8 + file.read_bytes()[8:])
    else:
        os.truncate(file, file.stat().st_size - 4)
    with pytest.raises((ConfigError, StoreError)) as error:
        _table(str(tmp_path), "layers.1.m.table", dict(_headers(tmp_path)), torch.float32)
    assert "\n" not in str(error.value)


def test_a_model_of_ours_keeps_its_tables_mapped(tmp_path: Path) -> None:
    tokenizer = train_tokenizer([Document("a", "import os.path\n" * 20)], 260)
    engram = EngramConfig(layers=(2,), table_size=20, d_mem=8, heads=2)
    model = graft(tiny("llama", 300), engram, tokenizer).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, _ = load_model(str(tmp_path), tables="file")
    assert loaded.module("2").memory.on_host
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


def test_qwen4s_shards_are_never_loaded(tmp_path: Path, qwen4: nn.Module) -> None:
    tokenizer = train_tokenizer([Document("a", "import os.path\n" * 20)], 260)
    qwen4.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    names = [key for file in tmp_path.glob("*.safetensors") for key in load_file(file)]
    assert sum("ngram_embedding.shard_" in name for name in names) == 4  # two a layer
    loaded, _ = load_model(str(tmp_path), tables="file")
    assert all(isinstance(m.table, FileTable) for m in find_memories(loaded).values())
    whole, _ = load_model(str(tmp_path))
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        ours, theirs = (m(input_ids=ids, use_cache=False).logits for m in (loaded, whole))
    assert torch.equal(ours, theirs)
    assert not any("ngram_embedding" in name for name, _ in loaded.named_parameters())
    llama = tiny("llama", 300)
    llama.save_pretrained(tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    with pytest.raises(ConfigError, match="tables = 'file', and it has no memory that is known"):
        load_model(str(tmp_path / "plain"), tables="file")
