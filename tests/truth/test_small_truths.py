"""The cheap truths on a small random model, through the real command: these run everywhere."""

from __future__ import annotations

from pathlib import Path

import made
import numpy as np
import prose
import pytest
import torch
from by_pairs import cka_matrix
from commanded import HEAD, Done, cka, numbers, run
from families import tiny
from real_model import Raw
from transformers import AutoModelForCausalLM, AutoTokenizer

from engramcka.data import Document, train_tokenizer

pytestmark = pytest.mark.xdist_group("small-truths")

NOISE = np.array([0.1, 0.5, 2.0])
DOCUMENTS, WORDS = 48, 3


def loaded(path: Path, name: str) -> str:
    return f'\n[models.{name}]\nsource = "hf"\npath = "{path}"\n'


@pytest.fixture(scope="module")
def passages() -> list[prose.Passage]:
    return prose.passages(DOCUMENTS, WORDS)


@pytest.fixture(scope="module")
def small(passages: list[prose.Passage], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a model, and of it with a block cut out, permuted neurons, other tokens."""
    folder = tmp_path_factory.mktemp("small")
    texts = [Document(one.topic, one.text) for one in passages]
    tokenizer = train_tokenizer(texts, 400)
    model = tiny("llama", len(tokenizer))
    model.save_pretrained(folder / "base")
    neurons = torch.randperm(model.config.intermediate_size)
    for layer in model.model.layers:
        for part in (layer.mlp.gate_proj, layer.mlp.up_proj):
            part.weight.data = part.weight.data[neurons]
        layer.mlp.down_proj.weight.data = layer.mlp.down_proj.weight.data[:, neurons].contiguous()
    model.save_pretrained(folder / "permuted")
    del model.model.layers[1]
    model.config.num_hidden_layers -= 1
    model.save_pretrained(folder / "cut")
    tokenizer.save_pretrained(folder / "permuted")
    tokenizer.save_pretrained(folder / "cut")
    tokenizer.save_pretrained(folder / "base")
    AutoModelForCausalLM.from_pretrained(folder / "base").save_pretrained(folder / "other")
    # The same vocabulary size, but 80 merges fewer: words end in other tokens.
    other = train_tokenizer(texts, 320)
    other.padding_side = "left"
    other.save_pretrained(folder / "other")
    return folder


@pytest.fixture(scope="module")
def words(small: Path, passages: list[prose.Passage]) -> Done:
    prose.write_jsonl(small / "text.jsonl", passages)
    maps = [
        cka("itself", "base", "base", estimator="debiased"),
        cka("cut", "base", "cut", estimator="debiased"),
        cka("permuted", "base", "permuted", estimator="debiased"),
        cka("other", "base", "other", estimator="debiased"),
        cka("batches", "base", "other", batch_size=16),
    ]
    models = [loaded(small / name, name) for name in ("base", "cut", "permuted", "other")]
    return run(small, HEAD + f"samples = {DOCUMENTS * WORDS}\n" + "".join(models + maps))


def raw_states(done: Done, folder: Path, name: str, passages: list[prose.Passage]) -> made.States:
    """(blocks, samples, width) by transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(folder / name).eval()
    raw = Raw(model, AutoTokenizer.from_pretrained(folder / name), [one.text for one in passages])
    table = done.run.activations(name).samples
    ends = zip(numbers(table["document"]), table["end"].tolist(), strict=True)
    return np.stack([raw.at(document, end - 1) for document, end in ends], axis=1)


@pytest.mark.parametrize("name", ["itself", "cut", "permuted", "other"])
def test_a_map_is_that_of_the_models_own_states(
    name: str, words: Done, small: Path, passages: list[prose.Passage]
) -> None:
    y = raw_states(words, small, "base", passages)
    x = raw_states(words, small, "base" if name == "itself" else name, passages)
    documents = words.run.activations("base").samples["document"]
    found = words.run.cka[name]
    assert found.similarity == pytest.approx(cka_matrix(y, x, documents), abs=1e-5)
    assert f"n = {DOCUMENTS * WORDS} of {DOCUMENTS} documents" in words.line(name)


def test_what_each_variant_shares(words: Done) -> None:
    itself, cut, permuted, other = (
        words.run.cka[name].similarity for name in ("itself", "cut", "permuted", "other")
    )
    assert np.diag(itself) == pytest.approx(1, abs=1e-6)
    assert permuted == pytest.approx(itself, abs=1e-5)
    assert cut.shape == (3, 2)
    assert cut[0, 0] == pytest.approx(1, abs=1e-6)
    assert cut[2, 1] < 0.999
    assert np.diag(other).max() < 0.9
    base, tokens = (words.run.activations(name).samples for name in ("base", "other"))
    assert (base["end"] == tokens["end"]).all()
    assert (base["token"] != tokens["token"]).any()


def test_batches_agree_with_all_samples_within_their_interval(words: Done) -> None:
    found, expected = words.run.cka["batches"], words.run.cka["other"].similarity
    assert ((found.ci_low <= expected) & (expected <= found.ci_high)).mean() > 0.8


def test_changed_states(words: Done, tmp_path: Path) -> None:
    store = words.run.activations("base")
    table, n = store.samples, len(store.samples["start"])
    states = np.stack([layer[0:n] for layer in store.layers.values()])
    changed, deviation = made.noisy(states, NOISE)
    rows = np.random.default_rng(0).permutation(n)
    variants = {"turned": made.turned(states), "noisy": changed, "shuffled": states[:, rows]}
    done = run(
        tmp_path,
        HEAD.partition("[data]")[0]
        + made.store("base", words.folder / "run" / "activations" / "base.zarr")
        + "".join(made.write(tmp_path, name, value, table) for name, value in variants.items())
        + "".join(cka(name, "base", name, estimator="debiased") for name in variants),
    )
    itself = words.run.cka["itself"].similarity
    assert done.run.cka["turned"].similarity == pytest.approx(itself, abs=1e-4)
    expected = [
        made.with_noise(layer, s, table["document"])
        for layer, s in zip(states, deviation, strict=True)
    ]
    assert np.diag(done.run.cka["noisy"].similarity) == pytest.approx(expected, abs=0.05)
    nothing = done.run.cka["shuffled"]
    assert (nothing.ci_low <= 0).all()
    assert (nothing.ci_high >= 0).all()
    assert "nearest depth not determined" in done.line("shuffled")


def test_the_order_of_documents_changes_nothing(
    words: Done, small: Path, passages: list[prose.Passage], tmp_path: Path
) -> None:
    prose.write_jsonl(tmp_path / "text.jsonl", passages[::-1])
    done = run(
        tmp_path,
        HEAD
        + f"samples = {DOCUMENTS * WORDS}\n"
        + loaded(small / "base", "base")
        + cka("itself", "base", "base", estimator="debiased"),
    )
    once = words.run.cka["itself"].similarity
    assert done.run.cka["itself"].similarity == pytest.approx(once, abs=1e-5)


def test_two_tokenizers_share_the_places_where_both_end_a_token(
    small: Path, passages: list[prose.Passage], tmp_path: Path
) -> None:
    prose.write_jsonl(tmp_path / "text.jsonl", passages)
    done = run(
        tmp_path,
        HEAD
        + 'samples = 1000\npositions = "all"\n'
        + loaded(small / "base", "base")
        + loaded(small / "other", "other")
        + cka("map", "base", "other", estimator="debiased"),
    )
    ends = []
    for name in ("base", "other"):
        table = done.run.activations(name).samples
        ends.append(set(zip(table["document"].tolist(), table["end"].tolist(), strict=True)))
    found = done.run.cka["map"]
    assert found.n_samples == len(ends[0] & ends[1]) < 1000
    assert found.left_out
    assert found.left_out in done.line("map")
