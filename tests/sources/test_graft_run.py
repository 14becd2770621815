"""Memory put into a model that exists: it starts as that model, and what is frozen stays."""

from __future__ import annotations

import json
import pydoc_data.topics
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from families import tiny
from run_fixtures import config_text, refusal
from small_sources import RunConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, MambaConfig

from engramcka.config import EngramConfig, load_config
from engramcka.errors import ConfigError
from engramcka.models import load_model
from engramcka.models.build import prepare_base, require_base
from engramcka.models.engram import graft
from engramcka.pipeline import make_plan
from engramcka.stores.run import Run

MODELS = """
[models.a]
source = "hf"
path = "{sources}/first"

[models.b]
source = "graft"
base = "a"
engram = {{ layers = [2], table_size = 40, d_mem = 16, heads = 2 }}
"""
TRAINING = """
[training]
steps = 6
batch_size = 2
sequence_length = 32
validation_sequences = 6
warmup_steps = 1
"""
SWEEP = """
[[sweep]]
name = "where"
model = "b"
layers = [1, 2]
seeds = [0, 1]
"""
ENGRAM = EngramConfig(layers=(2,), table_size=40, d_mem=16, heads=2)


def text_of(sources: Path, *parts: str) -> str:
    text = config_text(sources, MODELS + "".join(parts) + TRAINING, cka="")
    return text.replace("samples = 40", "samples = 16\nvalidation_share = 0.5")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder).state_dict())


def grafted(folder: Path, **options) -> tuple[torch.nn.Module, torch.nn.Module, torch.Tensor]:
    """The base, it with memory, and some token ids."""
    base, tokenizer = load_model(str(folder), dtype="float32")
    other, _ = load_model(str(folder), dtype="float32")
    settings = {"trained": "memory", "start": "identity", "lora_rank": 4, **options}
    model = prepare_base(other, tokenizer, ENGRAM, 3, **settings)
    ids = torch.randint(5, len(tokenizer), (2, 20), generator=torch.Generator().manual_seed(0))
    return base, model, ids


@pytest.mark.parametrize("trained", ["memory", "all"])
def test_it_starts_as_the_model_bit_for_bit_and_learns(sources: Path, trained: str) -> None:
    base, model, ids = grafted(sources / "first", trained=trained)
    with torch.no_grad():
        assert torch.equal(model.eval()(input_ids=ids).logits, base(input_ids=ids).logits)
    model(input_ids=ids, labels=ids).loss.backward()
    module = model.module("2")
    assert module.value.weight.grad.abs().max() > 0
    frozen = [p for p in model.backbone.parameters() if not p.requires_grad]
    assert len(frozen) == (len(list(base.parameters())) if trained == "memory" else 0)


def test_the_papers_start_adds_something_at_once(sources: Path) -> None:
    base, model, ids = grafted(sources / "first", start="paper")
    with torch.no_grad():
        assert not torch.equal(model.eval()(input_ids=ids).logits, base(input_ids=ids).logits)


@pytest.mark.parametrize("family", ["llama", "gpt2", "deepseek_v3", "mixtral"])
def test_low_rank_updates_are_put_into_the_weights(
    sources: Path, tmp_path: Path, family: str
) -> None:
    """Of linear layers, of GPT-2's transposed ones, and of experts stacked in one weight."""
    pytest.importorskip("peft")
    from engramcka.models.lora import is_update, merged_weights

    tokenizer = AutoTokenizer.from_pretrained(sources / "first")
    tiny(family, len(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    base, model, ids = grafted(tmp_path / "base", trained="lora")
    with torch.no_grad():
        torch.testing.assert_close(
            model.eval()(input_ids=ids).logits, base(input_ids=ids).logits, rtol=0, atol=1e-6
        )
        learning = {name for name, p in model.named_parameters() if p.requires_grad}
        assert all(is_update(n) or n.startswith(("engrams.", "hashing.")) for n in learning)
        assert any(is_update(name) for name in learning)
        if family == "deepseek_v3":
            assert any("experts" in name and is_update(name) for name in learning)
        for name, parameter in model.named_parameters():
            if name in learning:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        model.save_pretrained(tmp_path / "whole", state_dict=merged_weights(model))
        tokenizer.save_pretrained(tmp_path / "whole")
        loaded, _ = load_model(str(tmp_path / "whole"))
        expected = model(input_ids=ids).logits
        torch.testing.assert_close(loaded(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(expected, base(input_ids=ids).logits, atol=1e-2)
    assert not any(is_update(name) or "base_layer" in name for name in loaded.state_dict())


def test_a_run_leaves_the_bases_weights_as_they_were(sources: Path, run: RunConfig) -> None:
    gates = '\n[[gates]]\nmodels = ["b"]\npassages = 6\nfrequency = true\nother = "python-manual"\n'
    cka = '\n[[cka]]\nname = "map"\ny = "a"\nx = "b"\nbatch_size = 8\n'
    done = run(text_of(sources, gates, cka))
    (folder,) = [f for f in (done.path / "checkpoints").iterdir() if f.is_dir()]
    assert folder.name.startswith("a-memory-engram2-seed0-")
    before, after = weights(sources / "first"), weights(folder)
    assert all(torch.equal(value, after[f"backbone.{name}"]) for name, value in before.items())
    assert after["engrams.2.value.weight"].abs().max() > 0
    a, b = done.activations("a"), done.activations("b")
    assert np.array_equal(a.layers[1][0:16], b.layers[1][0:16])  # before the memory
    assert not np.array_equal(a.layers[2][0:16], b.layers[2][0:16])
    assert done.cka["map"].similarity[0, 0] == pytest.approx(1.0)
    assert done.gates["b"].layers == (2,)
    check_other_text(done, folder, sources / "first")
    assert (folder / "tokenizer.json").is_file()
    again = make_plan(load_config(done.path.parent / "config.toml"))
    assert all(task.is_done() for task in again)


def check_other_text(done: Run, folder: Path, base: Path) -> None:
    """The losses on the manual, a second way: with memory, and of the base, which is without."""
    memory = done.memory["b"]
    assert "other text" in done.gates["b"].types
    place = memory.classes.index("other text")
    tokenizer = AutoTokenizer.from_pretrained(base)
    topics = [text for _, text in sorted(pydoc_data.topics.topics.items())][:6]
    for model, found in ((folder, memory.loss_on), (base, memory.loss_off)):
        opened, _ = load_model(str(model))
        losses = []
        for text in topics:
            ids = torch.tensor(tokenizer(text, truncation=True, max_length=512)["input_ids"])
            with torch.no_grad():
                logits = opened(input_ids=ids[None]).logits[0, :-1]
            losses.append(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none"))
        assert found[place] == pytest.approx(torch.cat(losses).mean().item(), abs=1e-5)
    assert memory.counts[place] == sum(map(len, losses))
    names = [name for name in memory.classes if name.startswith("3-grams seen")]
    counts = [memory.counts[memory.classes.index(name)] for name in names]
    assert sum(counts) == memory.counts[0]  # of the run's own text alone


def test_a_sweep_compares_with_the_base_and_keeps_losses_alone(
    sources: Path, run: RunConfig
) -> None:
    done = run(text_of(sources, SWEEP))
    sweep = done.sweep["where"]
    assert sweep.layers == (1, 2)
    assert sweep.baseline[0] == sweep.baseline[1]  # the base, whatever the seed
    assert np.isfinite(sweep.loss).all()
    assert np.isfinite(sweep.difference_low).all()
    kept = {f.name: (f / "model.safetensors").exists()
            for f in (done.path / "checkpoints").iterdir()}  # fmt: skip
    assert sorted(name for name, has in kept.items() if has) == [
        name for name in kept if name.startswith("a-memory-engram2-seed0-")
    ]
    assert len(kept) == 6  # two layers and the base, two seeds each
    # The base's loss, a second way.
    from engramcka.config import DataTable
    from engramcka.data import load_corpus, spread_sequences

    corpus = load_corpus(DataTable.model_validate(done.config["data"]))
    model, tokenizer = load_model(str(sources / "first"), dtype="float32")
    ids, _ = spread_sequences(tokenizer, corpus.validation, length=32, count=6, seed=0)
    total = 0.0
    for line in torch.from_numpy(ids):
        ends = (line == tokenizer.eos_token_id).nonzero().flatten() + 1
        parts = line.tensor_split([int(end) for end in ends if end < len(line)])
        with torch.no_grad():  # each document by itself
            logits = torch.cat([model(input_ids=part[None]).logits[0] for part in parts])
        total += torch.nn.functional.cross_entropy(logits[:-1].double(), line[1:]).item()
    assert sweep.baseline[0] == pytest.approx(total / len(ids), rel=1e-5)


def test_a_model_is_trained_where_a_sweep_kept_only_its_loss(sources: Path, run: RunConfig) -> None:
    sweep = text_of(sources, SWEEP).replace("[models.b]", "[models.b]\n# moved")
    done = run(sweep, "models.b.engram.layers=[1]")
    folders = list((done.path / "checkpoints").glob("a-memory-engram2-seed0-*"))
    assert not (folders[0] / "config.json").exists()
    done = run(sweep)
    assert (folders[0] / "config.json").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            'models.b.base="c"',
            "'c' is no single trained model with source = 'hf'; allowed: a",
        ),
        ("models.b.engram.layers=[4]", "found layer 4, the base 'a' has 3 blocks; allowed: 1 to 3"),
        ('models.b.train="lora"', "needs peft"),
        ("models.b.lora_rank=4", "lora_rank is of train = 'lora', and train is 'memory'"),
        ('models.a.adapter="x"', "'a' is applied an adapter while it is loaded"),
        ("data.validation_share=1.0", "all documents are kept for samples"),
    ],
)
def test_what_cannot_be_grafted_is_one_line(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, says: str
) -> None:
    import engramcka.models.lora

    monkeypatch.setattr(engramcka.models.lora, "find_spec", lambda name: None)
    assert says in refusal(tmp_path, text_of(sources), change)


def test_nothing_to_learn_is_refused(sources: Path, tmp_path: Path) -> None:
    text = text_of(sources).replace("engram = {", "# engram = {")
    line = refusal(tmp_path, text)
    assert ", models.b: train = 'memory' without an engram table: nothing would learn; name" in line
    shares = '\n[[allocation]]\nname = "s"\nmodel = "b"\nrho = [0.5]\n'
    assert "whose experts are trained already" in refusal(tmp_path, text_of(sources, shares))


def test_other_text_may_be_files(sources: Path, run: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "poems").mkdir()
    poem = "The lamp is lit, the long day done, and nobody is at the door.\n"
    (tmp_path / "poems" / "one.txt").write_text(poem)
    gates = f'\n[[gates]]\nmodels = ["b"]\npassages = 4\nother = "{tmp_path}/poems"\n'
    done = run(text_of(sources, gates))
    memory = done.memory["b"]
    tokens = AutoTokenizer.from_pretrained(sources / "first")(poem)["input_ids"]
    assert memory.counts[memory.classes.index("other text")] == len(tokens) - 1


@pytest.mark.parametrize("other", ["python_manual", "nowhere/*.txt"])
def test_other_text_that_is_not_there_is_refused_before_anything_runs(
    sources: Path, tmp_path: Path, other: str
) -> None:
    gates = f'\n[[gates]]\nmodels = ["b"]\npassages = 4\nother = "{other}"\n'
    line = refusal(tmp_path, text_of(sources, gates))
    assert f"gates[0].other: no file in {other!r}; allowed: " in line
    assert "'python-manual'" in line


def without_end(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({key: v for key, v in kept.items() if key != "eos_token"}))


def with_more_ids(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<new {number}>" for number in range(500)])
    tokenizer.save_pretrained(folder)


def with_memory(folder: Path) -> None:
    base, tokenizer = load_model(str(folder))
    graft(base, ENGRAM, tokenizer).save_pretrained(folder)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_end, "its tokenizer has no end-of-text token (eos_token)"),
        (with_more_ids, "they do not belong together"),
        (with_memory, "it has Engram modules already; graft onto the model that they were put on"),
    ],
)
def test_a_base_that_cannot_be_one_is_refused_before_anything_runs(
    sources: Path, tmp_path: Path, spoil, says: str
) -> None:
    shutil.copytree(sources / "first", tmp_path / "spoilt")
    spoil(tmp_path / "spoilt")
    text = text_of(sources).replace(f"{sources}/first", f"{tmp_path}/spoilt")
    line = refusal(tmp_path, text)
    assert "models.b.base: 'a': " in line
    assert says in line


def test_a_base_of_code_beside_its_weights_is_refused(sources: Path) -> None:
    base, tokenizer = load_model(str(sources / "first"))
    own = type("Mine", (type(base),), {"__module__": "transformers_modules.mine"})(base.config)
    with pytest.raises(ConfigError, match="Mine is code that stands beside the weights"):
        require_base(own, tokenizer, trained="memory", lora_rank=4)


def test_a_type_that_has_no_updates_is_refused(sources: Path) -> None:
    pytest.importorskip("peft")
    tokenizer = AutoTokenizer.from_pretrained(sources / "first")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            MambaConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2)
        )
    with pytest.raises(ConfigError, match="peft has no updates for MambaForCausalLM"):
        require_base(model, tokenizer, trained="lora", lora_rank=4)


def test_a_base_with_memory_is_refused(sources: Path) -> None:
    base, tokenizer = load_model(str(sources / "first"))
    options = {"trained": "memory", "start": "identity", "lora_rank": 4}
    first = prepare_base(base, tokenizer, ENGRAM, 0, **options)
    with pytest.raises(ConfigError, match="has Engram modules already"):
        prepare_base(first, tokenizer, ENGRAM, 0, **options)
