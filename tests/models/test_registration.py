from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from tempfile import TemporaryDirectory

import pytest
import torch
from families import tiny

from engramcka.config import EngramConfig
from engramcka.models import build_model, graft, memory_off

OPEN = (
    "m = AutoModelForCausalLM.from_pretrained(sys.argv[1], attn_implementation='eager')\n"
    "print(type(m).__name__, m.config.get_text_config()._attn_implementation)\n"
    "print(m(input_ids=torch.arange(3, 12)[None]).logits.double().sum().item())\n"
)


def in_another_process(code: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", code, *arguments]
    with TemporaryDirectory() as modules:  # where transformers copies code that is trusted
        env = {**os.environ, "HF_MODULES_CACHE": modules}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return done.stdout.split()


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


@pytest.mark.parametrize("memory", [True, False])
def test_the_code_beside_the_weights_opens_it_with_memory_or_without(saved, memory, tokenizer):
    """As programs do that know nothing of this package, lm-evaluation-harness among them."""
    folder, total = saved
    code = (
        "import sys, torch\n"
        "from transformers import AutoConfig, AutoModel, AutoModelForCausalLM\n"
        "trusted = {'trust_remote_code': True}\n"
        "c = AutoConfig.from_pretrained(sys.argv[1], **trusted)\n"
        "assert c.memory\n"
        f"options = {{**trusted, 'memory': {memory}}}\n"
        "m = AutoModelForCausalLM.from_pretrained(sys.argv[1], **options)\n"
        "ids = torch.arange(3, 12)[None]\n"
        "logits = m(input_ids=ids).logits\n"
        "h = AutoModel.from_pretrained(sys.argv[1], **options)(input_ids=ids).last_hidden_state\n"
        "again = m.get_output_embeddings()(h)\n"
        "print(type(m).__name__, logits.double().sum().item(), torch.equal(again, logits))\n"
        "m.save_pretrained(sys.argv[2])\n"
    )
    again = folder.parent / f"again-{memory}"
    found = in_another_process(code, str(folder), str(again))
    assert [found[0], found[2]] == ["EngramForCausalLM", "True"]
    engram = EngramConfig(layers=(1, 2), table_size=60, d_mem=16, heads=2)
    model = graft(tiny("llama", len(tokenizer)), engram, tokenizer).eval()
    with torch.no_grad(), nullcontext() if memory else memory_off(model):
        expected = model(input_ids=torch.arange(3, 12)[None]).logits.double().sum().item()
    assert float(found[1]) == pytest.approx(expected, abs=1e-3)
    assert memory == (abs(expected - total) < 1e-2)
    assert {entry.name for entry in again.glob("*.py")} == {"modeling_engramcka.py"}


def test_without_trust_and_without_the_import_it_says_what_to_do(saved):
    code = (
        "import sys\nfrom transformers import AutoModelForCausalLM\n"
        "try: AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=False)\n"
        "except ValueError as error: print(error)"
    )
    assert "trust_remote_code=True" in " ".join(in_another_process(code, str(saved[0])))


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
