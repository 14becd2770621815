"""Models with drawn weights: the dtypes that stored ones are loaded in, the values of a seed."""

import json

import pytest
import torch
from families import FAMILIES, tiny
from transformers import AutoModelForCausalLM

from engramcka.data import train_tokenizer
from engramcka.data.documents import Document
from engramcka.models import load_model
from engramcka.models.drawn import draw_checkpoint

TOKENIZER = train_tokenizer([Document("a", "import os.path\nfrom json import loads\n" * 20)], 280)


def saved(folder, family, dtype):
    tiny(family, len(TOKENIZER)).to(dtype).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_dtypes_are_those_of_the_loaded_model_and_values_the_seeds(tmp_path, family, dtype):
    folder = saved(tmp_path, family, dtype)
    stored, _ = load_model(str(folder))
    drawn = draw_checkpoint(str(folder), seed=3).model
    found, wanted = drawn.state_dict(), stored.state_dict()
    assert {name: value.dtype for name, value in found.items()} == {
        name: value.dtype for name, value in wanted.items()
    }
    again = draw_checkpoint(str(folder), seed=3).model.state_dict()
    other = draw_checkpoint(str(folder), seed=4).model.state_dict()
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert any(not torch.equal(found[name], other[name]) for name in found)
    assert not any(
        torch.equal(found[name], wanted[name]) for name in found if "q_proj.weight" in name
    )
    assert all(value.isfinite().all() for value in found.values() if value.is_floating_point())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_config_without_a_dtype_leaves_it_to_the_file(tmp_path, dtype):
    folder = saved(tmp_path, "llama", dtype)
    config = json.loads((folder / "config.json").read_text())
    for name in ("dtype", "torch_dtype"):
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config))
    assert AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype == dtype
    assert draw_checkpoint(str(folder), seed=0).model.dtype == dtype
    assert draw_checkpoint(str(folder), seed=0, dtype="bfloat16").model.dtype == torch.bfloat16
