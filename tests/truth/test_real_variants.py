"""A real model against variants of itself whose right answer is known by how they were made."""

from __future__ import annotations

import numpy as np
import pytest
import real_model
from by_pairs import cka_matrix
from commanded import DOCUMENTS, WORDS, Done, RealText, numbers

pytestmark = [
    pytest.mark.real,
    pytest.mark.xdist_group("real-model"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(real_model.missing()), reason=real_model.missing()),
]

CUT_SHIFT = 17 / 29  # of 29 blocks, the 17 behind the one that is missing are one deeper
DOUBLED_SHIFT = 17 / 30


def said_interval(line: str) -> tuple[float, float, float]:
    """The shift of a terminal line, and its interval: "+0.54 layers (95 % +0.47 to +0.60)"."""
    shift, _, rest = line.partition("nearest depth ")[2].partition(" layers (95 % ")
    low, _, high = rest.partition(")")[0].partition(" to ")
    return float(shift), float(low), float(high)


def test_what_is_stored_is_what_transformers_gives(words: Done, real_text: RealText) -> None:
    # The run pads passages of different lengths; the texts here went through unpadded.
    store = words.run.activations("base")
    expected = real_text.rows(words, "base", real_text.raw)
    for layer, rows in zip(store.layers.values(), expected, strict=True):
        assert np.abs(rows - layer[0 : len(rows[0])]).max() < 1e-4 * np.abs(rows).max()


def test_samples_are_the_words_that_were_marked(words: Done, real_text: RealText) -> None:
    table = words.run.activations("base").samples
    spans = zip(
        numbers(table["document"]), table["start"].tolist(), table["end"].tolist(), strict=True
    )
    assert set(spans) == {
        (document, *span) for document, one in enumerate(real_text.passages) for span in one.words
    }
    assert len(table["start"]) == DOCUMENTS * WORDS


def test_itself(words: Done, real_text: RealText) -> None:
    found = words.run.cka["itself"]
    assert np.diag(found.similarity) == pytest.approx(1, abs=1e-6)
    shift = found.depth_shift()
    assert (shift.shift, shift.shift_low, shift.shift_high) == pytest.approx((0, 0, 0), abs=0.02)
    assert "mean on the diagonal 1.000; nearest depth +0.00 layers" in words.line("itself")
    # Batches hold a third of the samples each, by the luck of the seed: within the interval.
    rows = real_text.rows(words, "base", real_text.raw)
    table = words.run.activations("base").samples
    everything = cka_matrix(rows, rows, table["document"])
    inside = (found.ci_low <= everything) & (everything <= found.ci_high)
    assert inside[~np.eye(len(rows), dtype=bool)].mean() > 0.9


def test_a_block_cut_out(words: Done, real_text: RealText) -> None:
    found = words.run.cka["cut"]
    assert found.similarity.shape == (30, 29)
    y = real_text.rows(words, "base", real_text.raw)
    x = np.delete(real_text.rows(words, "base", real_text.without_block), real_model.CHANGED - 1, 0)
    documents = words.run.activations("base").samples["document"]
    assert found.similarity == pytest.approx(cka_matrix(y, x, documents), abs=1e-5)
    before = np.arange(real_model.CHANGED - 1)
    assert found.similarity[before, before] == pytest.approx(1, abs=1e-6)
    shift, low, high = said_interval(words.line("cut"))
    assert low <= CUT_SHIFT <= high
    assert high - low < 0.25
    assert found.depth_shift().shift == pytest.approx(shift, abs=0.005)
    assert "30 x 29 layers, n = 192 of 64 documents" in words.line("cut")


def test_a_block_doubled(words: Done) -> None:
    found = words.run.cka["doubled"]
    assert found.similarity.shape == (31, 30)
    until = np.arange(real_model.CHANGED)
    assert found.similarity[until, until] == pytest.approx(1, abs=1e-6)
    _, low, high = said_interval(words.line("doubled"))
    assert low <= DOUBLED_SHIFT <= high
    assert high - low < 0.25


def test_permuted_neurons_and_heads_change_nothing(words: Done, real_text: RealText) -> None:
    found = words.run.cka["permuted"]
    documents = words.run.activations("base").samples["document"]
    rows = real_text.rows(words, "base", real_text.raw)
    assert found.similarity == pytest.approx(cka_matrix(rows, rows, documents), abs=1e-4)
    assert "nearest depth +0.00 layers (95 % +0.00 to +0.00)" in words.line("permuted")


def test_bfloat16_is_close_and_named(words: Done) -> None:
    assert words.run.activations("half").attributes["dtype"] == "bfloat16"
    found = words.run.cka["half"]
    assert found.dtype == "float32 / bfloat16"
    diagonal = np.diag(found.similarity)
    assert diagonal.min() > 0.99
    assert diagonal.max() < 1.0005
    assert "Hidden states in float32 (rows) and bfloat16 (columns)." in words.caption("half")
    assert "Hidden states in" not in words.caption("permuted")
    assert abs(said_interval(words.line("half"))[0]) < 0.02


def test_another_tokenisation_is_compared_at_the_same_characters(
    words: Done, real_text: RealText
) -> None:
    base, pieces = (words.run.activations(name) for name in ("base", "in_pieces"))
    for column in ("document", "start", "end", "entity"):
        assert (base.samples[column] == pieces.samples[column]).all()
    # A word of more than four letters ends in a token of its last few.
    assert (base.samples["token"] != pieces.samples["token"]).mean() > 0.5
    model, tokenizer = real_model.in_pieces()
    raw = real_model.Raw(model, tokenizer, real_text.texts)
    rows = real_text.rows(words, "in_pieces", raw)
    found = words.run.cka["pieces"]
    whole = real_text.rows(words, "base", real_text.raw)
    expected = cka_matrix(whole, rows, base.samples["document"])
    assert found.similarity == pytest.approx(expected, abs=1e-5)
    assert found.n_samples == DOCUMENTS * WORDS
    assert not found.left_out


def test_the_caption_says_how_a_map_was_made(words: Done) -> None:
    assert words.caption("cut").startswith(
        "CKA of the hidden states after each layer of base (rows) and cut (columns). Linear "
        "kernel, debiased estimator, pairs of samples of different documents, on 192 samples of 64 "
        "documents."
    )
    assert "minibatch estimator, batches drawn at random, of 64 samples" in words.caption("itself")
    for name in ("itself", "cut"):
        for warning in words.run.cka[name].warnings:
            assert f"Note: {warning}." in words.caption(name)
            assert warning in " ".join(words.warnings(name))


def test_padding_and_the_order_of_documents_change_nothing(words: Done, turned_round: Done) -> None:
    once, again = words.run.cka["permuted"], turned_round.run.cka["itself"]
    assert again.similarity == pytest.approx(once.similarity, abs=1e-4)
    assert (again.ci_high - again.ci_low).mean() == pytest.approx(
        (once.ci_high - once.ci_low).mean(), rel=0.5
    )
