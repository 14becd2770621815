"""Float32 products of bfloat16 parts, as tensor cores make them, and maps that are made of them."""

import numpy as np
import pytest
import reference
import torch
from hidden_states import KINDS, as_is, drawn, layers, massive

from engramcka import cka_map
from engramcka.similarity import cka, routes, split_products
from engramcka.similarity.split_products import (
    ORDER,
    PARTS,
    is_good,
    split,
    split_product,
    split_product_over,
)

TOLERANCE = 1e-6  # of similarity, as everywhere


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def tensor_cores(monkeypatch):
    """A CPU that takes itself for a device with tensor cores."""
    monkeypatch.setattr(cka, "on_tensor_cores", lambda device: True)


def both(rng, kind, n):
    shared = rng.standard_normal((n, 8))
    return tuple([kind(x) for x in layers(rng, n, w, shared=shared)] for w in ((3, 200), (64, 500)))


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_products_are_those_of_float64(scale):
    """Each is off by the parts left out, 2^-24 of the lengths' product, and float32's sums."""
    generator = torch.Generator().manual_seed(0)
    x, y = (scale * torch.randn(3, n, 40, generator=generator) for n in (20, 30))
    out = torch.empty(3, 20, 30)
    split_product(split(x), split(y), out)
    lengths = x.double().norm(dim=2)[:, :, None] * y.double().norm(dim=2)[:, None]
    error = (out - x.double() @ y.double().mT).abs() / lengths
    assert error.max() < 2e-6
    alike = torch.empty(3, 20, 20)  # a sum of squares, of which what is left out has one sign
    split_product(split(x), split(x), alike)
    squares = x.double().square().sum(2)
    assert ((alike.diagonal(dim1=1, dim2=2) - squares) / squares).abs().max() < 2e-6
    over = split_product_over(x[0], x[1])
    exact = x[0].double().T @ x[1].double()
    sizes = x[0].double().norm(dim=0)[:, None] * x[1].double().norm(dim=0)
    assert ((over - exact).abs() / sizes).max() < 2e-6


def test_parts_are_laid_out_in_the_memory_given():
    x = torch.randn(2, 5, 7)
    out = torch.zeros(2, 5, PARTS * 7, dtype=torch.bfloat16)
    assert split(x, out=out) is out
    assert torch.equal(split(x), out)
    values = out.view(2, 5, PARTS, 7)
    kinds = values.float().unique(dim=2)
    assert torch.equal(kinds.double().sum(2).float(), x)  # three parts hold all 24 bits


def cut_off(left, right, out):
    """Sums that are cut off at every sixteenth product, as some tensor cores' are."""
    total = torch.zeros_like(out)
    for start in range(0, left.shape[2], 16):
        part = left[:, :, start : start + 16].float() @ right[:, start : start + 16].float()
        exact = total.double() + part.double()
        total = exact.float()
        beyond = total.double().abs() > exact.abs()
        total = torch.where(beyond, torch.nextafter(total, torch.zeros_like(total)), total)
    out.copy_(total)


def test_a_device_whose_sums_are_cut_off_is_not_trusted(monkeypatch):
    place = torch.device("cpu")
    assert is_good.__wrapped__(place)
    monkeypatch.setattr(split_products, "summed", cut_off)
    assert not is_good.__wrapped__(place)


def test_two_parts_would_not_do(monkeypatch):
    for order in ((0, 0, 1, 0), (0, 0, 1, 1, 0)):
        monkeypatch.setattr(split_products, "ORDER", order)
        monkeypatch.setattr(split_products, "PARTS", len(order))
        assert not is_good.__wrapped__(torch.device("cpu"))
    assert max(ORDER) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_maps_of_batches(rng, tensor_cores, kind):
    y, x = both(rng, kind, 1030)
    found = cka_map(y, x, batch_size=256, seed=3).similarity
    expected = reference.cka_matrix(y, x, parts=drawn(1030, 256, seed=3).batches)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", ["debiased", "biased"])
@pytest.mark.parametrize("route", ["gram", "feature"])
def test_maps_over_all_samples(rng, monkeypatch, tensor_cores, kind, estimator, route):
    monkeypatch.setattr(routes, "gram_operations", lambda _: 0 if route == "gram" else 2)
    monkeypatch.setattr(routes, "feature_operations", lambda _: 1)
    y, x = both(rng, kind, 700)
    found = cka_map(y, x, estimator=estimator)
    expected = reference.cka_matrix(y, x, estimator=estimator)
    np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=TOLERANCE)
    assert found.route == route


@pytest.mark.parametrize("n", [4, 7])
@pytest.mark.parametrize("kind", [as_is, massive])
def test_few_samples(rng, tensor_cores, kind, n):
    y, x = both(rng, kind, n)
    for estimator in ("minibatch", "debiased", "biased"):
        found = cka_map(y, x, estimator=estimator).similarity
        expected = reference.cka_matrix(y, x, estimator=estimator)
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_documents_apart_and_intervals(rng, tensor_cores):
    y, x = both(rng, as_is, 600)
    groups = np.arange(600) // 3
    for options in ({"batch_size": 100}, {"estimator": "debiased", "permutations": 3}):
        found = cka_map(y, x, groups=groups, **options)
        exact = cka_map(y, x, groups=groups, precision="float32", **options)
        assert not np.array_equal(found.similarity, exact.similarity)
        for name in ("similarity", "jackknife", "ci_low", "ci_high"):
            np.testing.assert_allclose(getattr(found, name), getattr(exact, name), atol=TOLERANCE)


def test_what_stays_in_float32(rng, tensor_cores):
    """The RBF kernel, and every product where that is asked for."""
    y, x = both(rng, as_is, 300)
    for options in ({"kernel": "rbf"}, {"precision": "float32"}):
        kernel = options.get("kernel", "linear")
        found = cka_map(y, x, batch_size=100, kernel=kernel, precision="highest")
        same = cka_map(y, x, batch_size=100, **{"precision": "float32", **options})
        assert np.array_equal(found.similarity, same.similarity) == (kernel == "rbf")
