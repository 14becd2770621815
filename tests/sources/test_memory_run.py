"""A model of somebody's own with a memory that the config describes, through a whole run."""

from __future__ import annotations

import shutil
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from run_fixtures import config_text, refusal
from small_sources import RunConfig
from transformers import AutoTokenizer

from engramcka.config import DataTable
from engramcka.data import load_corpus
from engramcka.errors import EngramckaError

CODE = """
from pathlib import Path
from types import SimpleNamespace
import torch
from transformers import AutoTokenizer
import foreign_memory

FOLDER = Path(__file__).parent / "tokenizer"
foreign_memory.VOCABULARY = 330

class Speaking(foreign_memory.Described):
    def __init__(self, place):
        super().__init__(place)
        self.head = torch.nn.Linear(foreign_memory.WIDTH, 330)

    def forward(self, input_ids, **options):
        return SimpleNamespace(logits=self.head(super().forward(input_ids)))

def make():
    torch.manual_seed(4)
    return Speaking("dict"), AutoTokenizer.from_pretrained(FOLDER)
"""
OWN = """
source = "python"
function = "remembering:make"
path = "code"
blocks = "blocks.*"
engram = {{ module = "engrams.*", gate = "gate", table = "rows", value = "out", orders = [2], \
token_map = "none" }}
"""
MODELS = f"""
[models.a]{OWN}points = "engram-out"
[models.b]{OWN}points = "engram-in"
[[gates]]
models = ["a"]
passages = 6
"""


@pytest.fixture
def code(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    here = Path(__file__).parents[1] / "models" / "foreign_memory.py"
    shutil.copy(here, folder / "foreign_memory.py")
    (folder / "remembering.py").write_text(CODE)
    AutoTokenizer.from_pretrained(sources / "first").save_pretrained(folder / "tokenizer")
    for name in ("foreign_memory", "remembering"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


def test_maps_gates_and_losses_of_a_described_memory(
    sources: Path, run: RunConfig, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(config_text(sources, MODELS))
    monkeypatch.syspath_prepend(code)
    import remembering

    model, tokenizer = remembering.make()
    model.eval()
    corpus = load_corpus(DataTable.model_validate(done.config["data"]))
    samples = done.activations("a").samples
    keys = sorted(
        set(
            zip(
                samples["document"].tolist(),
                samples["passage_start"].tolist(),
                samples["passage_end"].tolist(),
                strict=True,
            )
        )
    )
    chosen = np.unique(np.linspace(0, len(keys) - 1, 6).astype(int))
    texts = [corpus.validation_text(keys[at][0])[keys[at][1] : keys[at][2]] for at in chosen]
    alphas, on, off, read = [], [], [], []
    seen: dict[str, torch.Tensor] = {}
    for name, memory in model.engrams.items():
        memory.gate.register_forward_hook(lambda m, i, o, name=name: seen.update({name: o}))
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        read.append(ids[0].tolist())
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1]
            alphas.append(torch.cat([seen["1"], seen["2"]], -1)[0])
            on.append(F.cross_entropy(logits, ids[0, 1:], reduction="none"))
            hidden = model.embedding(ids)
            for block in model.blocks:
                hidden = block(hidden, ids)
            logits = model.head(hidden)[0, :-1]
            off.append(F.cross_entropy(logits, ids[0, 1:], reduction="none"))
    grams = {pair for ids in read for pair in pairwise(ids)}
    rows = [((b * 7) ^ (a * 13)) % 97 for a, b in grams]
    gates, memory = done.gates["a"], done.memory["a"]
    assert gates.layers == (2, 3)
    assert gates.orders == (2,)
    assert gates.alpha[0, :, 0] == pytest.approx(torch.cat(alphas).mean(0).numpy(), abs=1e-6)
    assert memory.loss_on[0] == pytest.approx(torch.cat(on).mean().item(), abs=1e-5)
    assert memory.loss_off[0] == pytest.approx(torch.cat(off).mean().item(), abs=1e-5)
    assert memory.loss_off[0] != pytest.approx(memory.loss_on[0], abs=1e-4)
    assert gates.collisions[0, 0] == pytest.approx(np.mean([rows.count(row) > 1 for row in rows]))
    assert done.cka["map"].y_layers == done.cka["map"].x_layers == (2, 3)
    assert (done.activations("a").layers[2][0:40] != done.activations("b").layers[2][0:40]).any()


def test_descriptions_that_do_not_fit_are_one_line(
    sources: Path, run: RunConfig, code: Path, tmp_path: Path
) -> None:
    for change, says in (
        ('models.a.engram.module="memory.*"', "names no module of Speaking; its modules are"),
        ('models.a.engram.gives="stream"', "does not take the stream and hand it on"),
        ('models.a.engram.gate="out"', "a gate is (batch, tokens)"),
    ):
        with pytest.raises(EngramckaError) as error:
            run(config_text(sources, MODELS), f"run.dir={change[-9:-1]}", change)
        assert says in str(error.value)
        assert error.value.exit_code == 2
    text = config_text(sources, MODELS.replace(', gate = "gate"', ', key = "gate"'))
    assert "models.a.engram: key and query go together; give both" in refusal(tmp_path, text)
    bare = MODELS.replace("engram = {{", "# engram = {{")
    with pytest.raises(EngramckaError, match=r"has no Engram module that is known; describe its"):
        run(config_text(sources, bare), "run.dir=bare")
