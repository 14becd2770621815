from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from families import tiny

from engramcka.config import EngramConfig
from engramcka.models import build_model, graft

OPEN = (
    "m = AutoModelForCausalLM.from_pretrained(sys.argv[1], attn_implementation='eager')\n"
    "print(type(m).__name__, m.config.get_text_config()._attn_implementation)\n"
    "print(m(input_ids=torch.arange(3, 12)[None]).logits.double().sum().item())\n"
)


def in_another_process(code: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    """A grafted model's folder and the sum of its logits."""
    folder = tmp_path_factory.mktemp("grafted")
    engram = EngramConfig(layers=(1, 2), table_size=60, d_mem=16, heads=2)
    model = graft(tiny("llama", len(tokenizer)), engram, tokenizer).eval()
    model.save_pretrained(folder)
    with torch.no_grad():
        return folder, model(input_ids=torch.arange(3, 12)[None]).logits.double().sum().item()


@pytest.mark.parametrize(
    "imports",
    [
        "import engramcka.models.engram",
        "from transformers import AutoModelForCausalLM; import engramcka.models.engram",
        "import engramcka.models.engram.module",
    ],
)
def test_auto_classes_open_it_whatever_was_imported_first(saved, imports):
    folder, total = saved
    code = f"import sys, torch\n{imports}\nfrom transformers import AutoModelForCausalLM\n{OPEN}"
    found = in_another_process(code, str(folder))
    assert found[:2] == ["EngramForCausalLM", "eager"]
    assert float(found[2]) == pytest.approx(total, abs=1e-2)


def test_the_backbone_of_our_own_too_and_from_a_config(tokenizer, tmp_path):
    build_model("engram-tiny-hyper", None, tokenizer, 0).save_pretrained(tmp_path)
    code = (
        "import sys, torch, engramcka.models.engram\n"
        f"from transformers import AutoModelForCausalLM\n{OPEN}"
        "n = AutoModelForCausalLM.from_config(m.config.text_config)\n"
        "print(type(n).__name__, type(AutoModelForCausalLM.from_config(m.config)) is type(m))"
    )
    found = in_another_process(code, str(tmp_path))
    assert [found[0], *found[3:]] == ["EngramForCausalLM", "HyperDeepseekForCausalLM", "True"]


def test_importing_engramcka_alone_loads_neither():
    code = (
        "import sys, engramcka, engramcka.models\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert in_another_process(code) == ["[]"]
