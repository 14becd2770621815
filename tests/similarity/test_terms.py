"""A cell taken apart into samples: the terms are the pairs counted one by one, and sum to HSIC."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from reference import batches, gram, hsic_biased, hsic_unbiased

from engramcka.errors import ComparisonError
from engramcka.similarity import cka_map, map_terms, sample_terms


def u_centred(k):
    """Szekely and Rizzo 2014, equation 2.10, element by element."""
    n = len(k)
    k = k.copy()
    np.fill_diagonal(k, 0)
    out = np.zeros_like(k)
    for i in range(n):
        for j in range(n):
            if i != j:
                out[i, j] = (
                    k[i, j] - k[i].sum() / (n - 2) - k[:, j].sum() / (n - 2)
                    + k.sum() / ((n - 1) * (n - 2))
                )  # fmt: skip
    return out


def double_centred(k):
    h = np.eye(len(k)) - 1 / len(k)
    return h @ k @ h


def slow_terms(y, x, parts, biased):
    """(samples,) terms and (samples,) partners, pair by pair."""
    terms, partners = np.zeros(len(y)), np.zeros(len(y), dtype=int)
    for part in parts:
        n = len(part)
        centred = double_centred if biased else u_centred
        a, b = (centred(side[part] @ side[part].T) for side in (y, x))
        scale = 1 / (n - 1) ** 2 if biased else 1 / (n * (n - 3))
        for i in range(n):
            pairs = [a[i, j] * b[i, j] * scale for j in range(n)]
            terms[part[i]] = sum(pairs)
            partners[part[i]] = part[
                max((j for j in range(n) if j != i), key=lambda j: abs(pairs[j]))
            ]
    return terms, partners


def two_sides(n=37, shift=3.0, seed=0):
    random = np.random.default_rng(seed)
    common = random.normal(size=(n, 3))
    y = common @ random.normal(size=(3, 7)) + 0.3 * random.normal(size=(n, 7)) + shift
    x = common @ random.normal(size=(3, 5)) + 0.3 * random.normal(size=(n, 5)) - shift
    return y, x


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("tile", [50, 1 << 22])
def test_terms_are_the_sums_over_a_samples_pairs(biased, tile, monkeypatch):
    monkeypatch.setattr("engramcka.similarity.terms.TILE", tile)
    y, x = two_sides()
    parts = batches(len(y), 13)
    found = sample_terms(y, x, parts, biased=biased)
    terms, partners = slow_terms(y, x, parts, biased)
    np.testing.assert_allclose(found.terms, terms, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(found.partner, partners)
    np.testing.assert_allclose(found.shares.sum(), 1.0)
    assert list(found.largest(3)) == sorted(range(len(y)), key=lambda i: -abs(terms[i]))[:3]


@pytest.mark.parametrize("biased", [False, True])
def test_the_terms_sum_to_the_hsic_of_the_papers(biased):
    """Also of samples far from the origin, which a sum of raw products would not notice."""
    y, x = two_sides(shift=100.0)
    parts = batches(len(y), 13)
    hsic = hsic_biased if biased else hsic_unbiased
    whole = sum(hsic(gram(y[part]), gram(x[part])) for part in parts)
    np.testing.assert_allclose(sample_terms(y, x, parts, biased=biased).terms.sum(), whole)


DOCUMENTS = np.repeat(np.arange(20), 2)[:37]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 12},
        {"batch_size": 12, "batches": "in-order"},
        {"batch_size": 12, "groups": DOCUMENTS},
        {"batch_size": 12, "groups": DOCUMENTS, "pairs": "all", "seed": 3},
        {"batch_size": 12, "groups": np.arange(37)},
        {"estimator": "debiased"},
        {"estimator": "debiased", "groups": DOCUMENTS, "pairs": "all"},
        {"estimator": "biased", "groups": DOCUMENTS},
        {"batch_size": 12, "normalize": "rms"},
        {"batch_size": 12, "standardize": "zscore"},
        {"batch_size": 12, "standardize": "drop-massive"},
    ],
    ids=str,
)
def test_a_cell_taken_apart_is_the_cell_of_the_map(options):
    """By every estimator and option: CKA from the terms is the map's to what float32 is good to."""
    y, x = two_sides()
    y[:, 2] *= 200.0 if options.get("standardize") == "drop-massive" else 1.0
    layers = [y, y[:, ::-1] ** 2], [x, x**3]
    cka = cka_map(*layers, device="cpu", **options)
    for row in range(2):
        for column in range(2):
            found = map_terms(
                cka, row, column, layers[0][row], layers[1][column], options.get("groups")
            )
            np.testing.assert_allclose(found.similarity, cka.similarity[row, column], atol=1e-6)


def test_other_hidden_states_than_those_of_the_map_are_refused():
    y, x = two_sides()
    cka = cka_map([y], [x], device="cpu")
    with pytest.raises(ComparisonError, match="not those that it was made from"):
        map_terms(cka, 0, 0, y[::-1], x)
    with pytest.raises(ComparisonError, match="over 37 samples, and the hidden states"):
        map_terms(cka, 0, 0, y[:30], x[:30])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel": "rbf"}, "its kernel is rbf"),
        ({"estimator": "debiased", "groups": DOCUMENTS}, "leaves out pairs of one document"),
    ],
)
def test_maps_that_are_no_such_sum_say_so(options, words):
    y, x = two_sides()
    cka = cka_map([y], [x], device="cpu", **options)
    with pytest.raises(ComparisonError, match=words):
        map_terms(cka, 0, 0, y, x, options.get("groups"))


def test_a_layer_that_does_not_vary_and_a_value_that_is_not_finite_are_refused():
    y, x = two_sides()
    with pytest.raises(ComparisonError, match="does not vary"):
        sample_terms(np.ones_like(y), x, [np.arange(37)])
    y[5, 2] = np.nan
    with pytest.raises(ComparisonError, match="not finite"):
        sample_terms(y, x, [np.arange(37)])


def test_it_needs_no_torch():
    code = "import sys, engramcka.similarity.terms; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
