"""Maps with baselines, through a run: other weights, other text, and what of the map is left."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from run_fixtures import CKA, config_text, refusal
from small_sources import RunConfig
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from engramcka.config import load_config
from engramcka.data.shuffling import shuffle_words

MODELS = """
[models.a]
source = "hf"
path = "{sources}/first"
embedding = true

[models.b]
source = "hf"
path = "{sources}/second"
embedding = true
"""
BASELINES = CKA + 'baselines = ["untrained", "shuffled-text", "tokens"]\n'


def states(store) -> dict[int, np.ndarray]:
    return {number: layer[0 : store.n_samples] for number, layer in store.layers.items()}


def test_baselines_are_maps_of_the_same_samples(sources: Path, run: RunConfig) -> None:
    text = config_text(sources, MODELS, cka=BASELINES)
    done = run(text)
    found = done.baseline["map"]
    assert found.titles == ("this map", "untrained", "shuffled text", "tokens alone")
    assert found.maps == ("cka/map", "cka/map.by-untrained", "cka/map.by-shuffled-text", "")
    for at, source in enumerate(found.maps[:3]):
        one = done.cka[source.removeprefix("cka/")]
        np.testing.assert_array_equal(found.similarity[at], one.similarity)
        assert one.part_of == ("baseline/map" if at else "")
    assert done.cka["map.by-untrained"].y_label == "a, untrained"
    np.testing.assert_array_equal(found.similarity[3], done.cka["map"].similarity[0, 0])
    identity = ("document", "start", "end")
    for name in ("a.untrained", "a.shuffled-text", "b.shuffled-text"):
        for column in identity:
            np.testing.assert_array_equal(
                done.activations(name).samples[column], done.activations("a").samples[column]
            )
    before = [event for event in done.log() if event["event"] == "done"]
    again = run(text)
    assert [event for event in again.log() if event["event"] == "done"] == before


def test_untrained_is_the_architecture_with_weights_from_a_seed(
    sources: Path, run: RunConfig
) -> None:
    cka = CKA.replace('x = "b"', 'x = "same"') + 'baselines = ["untrained"]\n'
    models = MODELS + '[models.same]\nsource = "hf"\npath = "{sources}/first"\nembedding = true\n'
    done = run(config_text(sources, models, cka=cka))
    drawn, other = (done.activations(f"{name}.untrained") for name in ("a", "same"))
    first = states(drawn)
    assert not np.allclose(first[1], states(other)[1])  # the same folder, another name
    assert not np.allclose(first[1], states(done.activations("a"))[1])
    made = drawn.attributes["model"]
    assert made["weights"] == "random"
    torch.manual_seed(made["seed"])
    folder = sources / "first"
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    samples = drawn.samples
    corpus = _documents(done)
    for row in (0, 17, 39):
        begin, end = (int(samples[name][row]) for name in ("passage_start", "passage_end"))
        passage = corpus[str(samples["document"][row])][begin:end]
        with torch.no_grad():
            hidden = model(
                **tokenizer(passage, return_tensors="pt"), output_hidden_states=True
            ).hidden_states
        token = int(samples["token_index"][row])
        for layer in (0, 1):
            np.testing.assert_allclose(first[layer][row], hidden[layer][0, token], atol=1e-5)


def test_shuffled_text_is_read_with_the_sample_in_its_place(sources: Path, run: RunConfig) -> None:
    done = run(config_text(sources, MODELS, cka=CKA + 'baselines = ["shuffled-text"]\n'))
    store = done.activations("a.shuffled-text")
    samples, found = store.samples, states(store)
    folder, corpus = sources / "first", _documents(done)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    keys = list(zip(samples["document"].tolist(), samples["passage_start"].tolist(), strict=True))
    changed = 0
    for row in range(store.n_samples):
        document, begin = keys[row]
        passage = corpus[document][begin : int(samples["passage_end"][row])]
        here_too = [other for other, key in enumerate(keys) if key == keys[row]]
        spans = [
            (int(samples["start"][other]) - begin, int(samples["end"][other]) - begin)
            for other in here_too
        ]
        own = spans[here_too.index(row)]
        shuffled = shuffle_words(passage, spans, seed=0, document=document, start=begin)
        changed += shuffled.text != passage
        encoded = tokenizer(shuffled.text, return_offsets_mapping=True)
        last = shuffled.moved[own][1] - 1
        token = [first <= last < end for first, end in encoded["offset_mapping"]].index(True)
        assert token == samples["token_index"][row]
        with torch.no_grad():
            ids = torch.tensor([encoded["input_ids"]])
            hidden = model(ids, output_hidden_states=True).hidden_states[1][0, token]
        np.testing.assert_allclose(found[1][row], hidden, atol=1e-5)
    assert changed > 20


def _documents(done) -> dict[str, str]:
    """Text of the documents that samples are drawn from, by id."""
    from engramcka.pipeline.context import Context

    config = load_config(done.path / "config.toml")
    return {document.id: document.text for document in Context(config).corpus.validation}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cka[0].baselines": '["untraned"]'}, "no baseline 'untraned'; did you mean 'untrained'?"),
        ({"cka[0].baselines": '["untrained", "untrained"]'}, "'untrained' is there twice"),
        ({"cka[0].baselines": '["a"]'}, "found 'a', which the map is of"),
        (
            {"cka[0].baselines": '["tokens"]', "models.tokens": '{source = "hf", path = "x"}'},
            "'tokens' is a baseline, and there is a model of that name",
        ),
        (
            {"cka[0].baselines": '["untrained"]', "lens": '[{models = ["a.untrained"]}]'},
            "no model 'a.untrained'",
        ),
        (
            {"cka[0].baselines": '["tokens"]', "models.a.embedding": "false"},
            "layer 0 of 'a' is not stored; set models.a.embedding = true",
        ),
        (
            {"cka[0].baselines": '["untrained"]', "models.b.quantization": '"8bit"'},
            "'b' has quantization = '8bit'; leave that out to draw weights",
        ),
        (
            {"cka[0].baselines": '["shuffled-text"]', "data.positions": '"all"'},
            "every token is a sample",
        ),
        ({"models.a.weights": '"random"', "models.a.parallel": '"auto"'}, "leave one of them out"),
        ({"models.a.text": '"scrambled"'}, "'as-is', 'shuffled'"),
    ],
)
def test_baselines_that_cannot_be_are_one_line(tmp_path, sources, changes, said) -> None:
    overrides = [f"{key.replace('[0]', '.0')}={value}" for key, value in changes.items()]
    assert said in refusal(tmp_path, config_text(sources, MODELS), *overrides)


def test_a_model_of_the_name_that_a_baseline_makes_is_refused(tmp_path, sources) -> None:
    models = MODELS + '[models."a.untrained"]\nsource = "hf"\npath = "{sources}/first"\n'
    said = "'a.untrained' is what 'untrained' makes of 'a'; give it another name"
    text = config_text(sources, models, cka=CKA + 'baselines = ["untrained"]\n')
    assert said in refusal(tmp_path, text)


def test_a_baseline_of_other_layers_is_refused_at_its_key(tmp_path, sources, run) -> None:
    deeper = AutoConfig.from_pretrained(sources / "first")
    deeper.num_hidden_layers += 1
    shutil.copytree(sources / "first", tmp_path / "deep")
    AutoModelForCausalLM.from_config(deeper).save_pretrained(tmp_path / "deep")
    models = MODELS + f'[models.deep]\nsource = "hf"\npath = "{tmp_path}/deep"\nembedding = true\n'
    with pytest.raises(Exception, match=r"cka\[0\].baselines: baseline map: deep on a has x_lay"):
        run(config_text(sources, models, cka=CKA + 'baselines = ["deep"]\n'))
