"""A cell taken apart into samples: the terms are the pairs counted one by one, and sum to HSIC."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
from reference import (
    batches,
    gram,
    hsic_across,
    hsic_biased,
    hsic_of_four,
    hsic_unbiased,
    median_distance,
    rbf,
)

from engramcka.errors import ComparisonError
from engramcka.similarity import cka_map, kept_samples, map_terms, sample_terms
from engramcka.similarity.terms import bandwidth
from engramcka.similarity.terms_across import across_terms


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
        {"batch_size": 12, "kernel": "rbf"},
        {"batch_size": 12, "kernel": "rbf", "groups": DOCUMENTS, "normalize": "rms"},
        {"estimator": "debiased"},
        {"estimator": "debiased", "groups": DOCUMENTS},
        {"estimator": "debiased", "groups": DOCUMENTS[::-1] % 7, "standardize": "zscore"},
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


def test_terms_of_the_rbf_kernel_are_the_sums_over_a_samples_pairs():
    """U-centred Gram matrices of the kernel, element by element; the bandwidth is the median."""
    y, x = two_sides()
    parts = batches(len(y), 13)
    widths = [bandwidth(side, 0) for side in (y, x)]
    np.testing.assert_allclose(widths, [median_distance(side) for side in (y, x)])
    found = sample_terms(y, x, parts, bandwidths=widths)
    expected = np.zeros(len(y))
    for part in parts:
        a, b = (u_centred(rbf(w)(side[part])) for side, w in zip((y, x), widths, strict=True))
        expected[part] = (a * b).sum(axis=1) / (len(part) * (len(part) - 3))
    np.testing.assert_allclose(found.terms, expected, rtol=1e-9, atol=1e-13)


UNEQUAL = np.array([3, 0, 1, 0, 2, 4, 1, 0, 3])


def quarters(k, l, documents):  # noqa: E741
    """(samples,) a quarter of every set of four that a sample is in, and how many those are."""
    found, begun = np.zeros(len(k)), np.zeros(len(k))
    for i, j, q, r in permutations(range(len(k)), 4):
        if len({documents[i], documents[j], documents[q], documents[r]}) == 4:
            one = k[i, j] + k[q, r] - k[i, q] - k[j, r]
            found[i] += one * (l[i, j] + l[q, r] - l[i, q] - l[j, r]) / 4
            begun[i] += 1
    return found / begun.sum(), begun / begun.sum()


@pytest.mark.parametrize("most", [1, 20, 1 << 20])
def test_terms_across_documents_are_the_quarters_of_all_sets_of_four(most):
    """One set after another, and HSIC of each layer with itself."""
    y, x = (side - side.mean(axis=0) for side in two_sides(n=9))
    k, l = y @ y.T, x @ x.T  # noqa: E741
    terms, own = across_terms(y, x, UNEQUAL, most)
    part, first = quarters(k, l, UNEQUAL)
    hsic = hsic_of_four(k, l, UNEQUAL)
    np.testing.assert_allclose(part.sum(), hsic)
    np.testing.assert_allclose(terms, (2 * 8 * part - 9 * first * hsic) / 7)
    np.testing.assert_allclose(terms.sum(), hsic)
    np.testing.assert_allclose(own, [hsic_across(one, one, UNEQUAL) for one in (k, l)])


def test_terms_across_documents_of_one_sample_are_those_of_all_pairs():
    """The two ways to take an estimate apart are one where both can be gone."""
    y, x = two_sides()
    whole = sample_terms(y, x, [np.arange(len(y))])
    documents = np.random.default_rng(1).permutation(len(y))
    terms, _ = across_terms(y - y.mean(axis=0), x - x.mean(axis=0), documents, 100)
    np.testing.assert_allclose(terms, whole.terms, rtol=1e-9, atol=1e-12)
    with pytest.raises(ComparisonError, match="3 documents; sets of four need four"):
        across_terms(y, x, np.arange(len(y)) % 3, 100)


@pytest.mark.parametrize("estimator", ["minibatch", "debiased", "biased"])
@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ({"massive": "drop"}, [4, 30]),
        ({"nonfinite": "drop"}, [6]),
        ({"massive": "drop", "nonfinite": "drop", "normalize": "rms"}, [6, 30]),
    ],
    ids=str,
)
def test_samples_that_a_map_left_out_are_found_again(options, gone, estimator):
    """Those that were made far, in whichever layer; the map's cell follows from the rest."""
    y, x = two_sides(shift=0.0)
    layers = [y, y[:, ::-1] + 0.1], [x, x * 2 + 0.1]
    if options.get("normalize"):
        layers[1][0] += 100.0
        layers[1][0][30] *= -1  # a direction, not a length
    elif options.get("massive"):
        layers[0][1][4] *= 1000
        layers[1][0][30] *= 1000
    if options.get("nonfinite"):
        layers[1][1][6, 2] = np.inf
    cka = cka_map(*layers, device="cpu", estimator=estimator, groups=DOCUMENTS, **options)
    told: list[tuple[int, int]] = []
    kept = kept_samples(cka, *layers, on_progress=lambda done, total: told.append((done, total)))
    assert set(gone) <= set(range(37)) - set(kept.tolist())
    assert len(kept) == cka.n_samples
    assert told[-1][0] == told[-1][1]
    found = map_terms(cka, 1, 0, layers[0][1][kept], layers[1][0][kept], DOCUMENTS[kept])
    np.testing.assert_allclose(found.similarity, cka.similarity[1, 0], atol=1e-6)


def test_samples_that_cannot_be_told_are_refused():
    y, x = two_sides(shift=0.0)
    y[4] *= 1000
    cka = cka_map([y], [x], device="cpu", massive="drop")
    with pytest.raises(ComparisonError, match="1 were left out for their values"):
        map_terms(cka, 0, 0, y, x)
    y[4] /= 1000
    with pytest.raises(ComparisonError, match="the map left out 1 samples for their values, of"):
        kept_samples(cka, [y], [x])


def test_a_layer_that_does_not_vary_and_a_value_that_is_not_finite_are_refused():
    y, x = two_sides()
    with pytest.raises(ComparisonError, match="does not vary"):
        sample_terms(np.ones_like(y), x, [np.arange(37)])
    y[5, 2] = np.nan
    with pytest.raises(ComparisonError, match="not finite"):
        sample_terms(y, x, [np.arange(37)])


def test_it_needs_no_torch():
    modules = "engramcka.similarity.terms, engramcka.similarity.kept_samples"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
