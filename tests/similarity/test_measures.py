"""Each measure against a slow second way in float64, and its intervals and nulls."""

import numpy as np
import pytest
import reference_measures as reference
from hidden_states import layers

from engramcka import similarity_map
from engramcka.errors import ComparisonError
from engramcka.measures import MEASURES
from engramcka.results import CkaMap
from engramcka.similarity.documents import document_numbers, jackknife_groups

OTHERS = [name for name, measure in MEASURES.items() if not measure.is_cka]
SECOND = {
    "rsa": reference.rsa,
    "procrustes": reference.procrustes,
    "mutual-knn": reference.mutual_knn,
    "cknna": reference.cknna,
    "svcca": reference.svcca,
    "pwcca": reference.pwcca,
}


def two_models(n=90, documents=30, seed=0, widths=((5, 9), (7, 120, 9))):
    """Layers that share something, and samples of documents that are mixed up."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 8))
    y, x = ([a.astype(np.float64) for a in layers(rng, n, side, shared=shared)] for side in widths)
    return y, x, np.array([f"text {number}" for number in rng.integers(0, documents, n)])


def second_way(measure, y, x, documents=None, **options):
    return np.array([[SECOND[measure](a, b, documents, **options) for b in x] for a in y])


@pytest.mark.parametrize("measure", OTHERS)
@pytest.mark.parametrize("with_documents", [False, True])
def test_the_values_are_those_of_a_slow_second_way(measure, with_documents):
    y, x, documents = two_models()
    documents = documents if with_documents else None
    found = similarity_map(y, x, measure=measure, groups=documents)
    expected = second_way(measure, y, x, documents)
    np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=1e-6)
    assert found.measure == measure


@pytest.mark.parametrize("measure", OTHERS)
def test_float32_is_good_to_a_few_parts_in_a_million(measure):
    y, x, documents = two_models(n=150)
    y, x = ([a.astype(np.float32) + 100 for a in side] for side in (y, x))
    exact = [[a.astype(np.float64) for a in side] for side in (y, x)]
    found = similarity_map(y, x, measure=measure, groups=documents).similarity
    np.testing.assert_allclose(found, second_way(measure, *exact, documents), rtol=0, atol=5e-6)


def left_out(documents):
    """The samples that are left without each group, as a map leaves them out."""
    numbers = document_numbers(documents)
    order = np.argsort(numbers, kind="stable")
    groups = jackknife_groups(numbers[order], 32)
    return [order[groups != group] for group in range(groups.max() + 1)]


@pytest.mark.parametrize("measure", ["mutual-knn", "cknna"])
def test_the_jackknife_of_neighbours_is_the_map_without_a_group(measure):
    y, x, documents = two_models()
    found = similarity_map(y, x, measure=measure, groups=documents, k=4)
    rest = left_out(documents)
    assert len(found.jackknife) == len(rest)
    for without, keep in list(zip(found.jackknife, rest, strict=True))[::7]:
        sides = [[a[keep] for a in side] for side in (y, x)]
        expected = second_way(measure, *sides, documents[keep], k=4)
        np.testing.assert_allclose(without, expected, rtol=0, atol=1e-9)


def test_lists_of_neighbours_that_run_short_are_read_again():
    """All neighbours of a sample are of one group of documents, so that none is left without it."""
    rng = np.random.default_rng(3)
    blobs = np.repeat(np.arange(8), 40)
    centres = rng.standard_normal((8, 6)) * 20
    y, x = ([centres[blobs] + rng.standard_normal((320, 6))] for _ in range(2))
    documents = blobs * 2 + rng.integers(0, 2, 320)
    found = similarity_map(y, x, measure="mutual-knn", groups=documents, k=10)
    for without, keep in zip(found.jackknife, left_out(documents), strict=True):
        expected = reference.mutual_knn(y[0][keep], x[0][keep], documents[keep])
        assert without[0, 0] == pytest.approx(expected, abs=1e-9)


def test_the_jackknife_of_ranks_keeps_the_ranks_of_all_pairs():
    y, x, documents = two_models()
    found = similarity_map(y, x, measure="rsa", groups=documents)
    pairs = np.argwhere(np.triu(documents[:, None] != documents[None], 1))
    ranked = [[reference.ranks(reference.distances(a, documents)) for a in side] for side in (y, x)]
    exact = []
    for without, keep in zip(found.jackknife, left_out(documents), strict=True):
        there = np.isin(pairs, keep).all(axis=1)
        expected = [[np.corrcoef(a[there], b[there])[0, 1] for b in ranked[1]] for a in ranked[0]]
        np.testing.assert_allclose(without, expected, rtol=0, atol=1e-6)
        sides = [[a[keep] for a in side] for side in (y, x)]
        exact.append(second_way("rsa", *sides, documents[keep]))
    # Ranking anew gives nearly the same errors.
    ratio = np.std(found.jackknife, axis=0) / np.std(exact, axis=0)
    np.testing.assert_allclose(ratio, 1, atol=0.05)


def test_the_jackknife_of_procrustes_is_right_to_first_order():
    y, x, documents = two_models(n=400, documents=100)
    found = similarity_map(y, x, measure="procrustes", groups=documents)
    exact = []
    for keep in left_out(documents):
        exact.append(second_way("procrustes", *[[a[keep] for a in side] for side in (y, x)]))
    ratio = np.std(found.jackknife, axis=0) / np.std(exact, axis=0)
    np.testing.assert_allclose(ratio, 1, atol=0.1)
    assert (found.jackknife <= np.array(exact) + 1e-12).all()  # Q is the best of all samples only


def test_the_jackknife_of_canonical_correlations_keeps_the_components():
    y, x, documents = two_models(n=300)
    ways = {
        "svcca": lambda a, b, keep: reference.canonical(a[0][keep], b[0][keep])[0].mean(),
        "pwcca": reference.weighted,
    }
    for measure, way in ways.items():
        found = similarity_map(y, x, measure=measure, groups=documents)
        share = {"svcca": 0.99, "pwcca": 1.0}[measure]
        kept = [[reference.components(a, share, 30) for a in side] for side in (y, x)]
        for without, keep in list(zip(found.jackknife, left_out(documents), strict=True))[::9]:
            expected = [[way(a, b, keep) for b in kept[1]] for a in kept[0]]
            np.testing.assert_allclose(without, expected, rtol=0, atol=1e-8)
        assert found.x_components.tolist() == [a[0].shape[1] for a in kept[1]]


@pytest.mark.parametrize("measure", OTHERS)
def test_the_null_is_of_one_sample_a_document_shuffled(measure):
    y, x, documents = two_models(n=300, documents=100)
    found = similarity_map(y, x, measure=measure, groups=documents, permutations=19)
    assert found.null.shape == (19, 2, 3)
    assert (found.p_value == 1 / 20).all()
    spread = found.null_similarity - found.null.mean(axis=0)
    assert (spread > 0.05).all()
    alone = similarity_map(y, x, measure=measure, permutations=3)
    np.testing.assert_array_equal(alone.null_similarity, alone.similarity)


@pytest.mark.parametrize("measure", OTHERS)
def test_shuffled_values_are_those_of_shuffled_samples(measure):
    y, x, _ = two_models(n=60)
    found = similarity_map(y, x, measure=measure, permutations=2, seed=5)
    for number, null in enumerate(found.null):
        random = np.random.default_rng([5, 0, 0]).random((2, 60))
        order = np.argsort(random, axis=1)[number]
        expected = second_way(measure, y, [a[order] for a in x])
        np.testing.assert_allclose(null, expected, rtol=0, atol=1e-6)


def test_independent_layers_are_at_chance():
    rng = np.random.default_rng(0)
    y, x = ([rng.standard_normal((400, 20))] for _ in range(2))
    for measure in OTHERS:
        found = similarity_map(y, x, measure=measure, permutations=60)
        null = found.null[:, 0, 0]
        assert abs(found.similarity[0, 0] - null.mean()) < 4 * null.std(), measure
    assert found.chance is None
    neighbours = similarity_map(y, x, measure="mutual-knn", permutations=60)
    assert neighbours.chance == pytest.approx(10 / 399)
    assert neighbours.null.mean() == pytest.approx(10 / 399, rel=0.1)
    assert abs(similarity_map(y, x, measure="rsa", permutations=60).null.mean()) < 0.01


@pytest.mark.parametrize("measure", list(MEASURES))
def test_cka_has_the_same_door(measure):
    y, x, documents = two_models()
    found = similarity_map(y, x, measure=measure, groups=documents)
    assert found.measure == measure
    assert isinstance(found, CkaMap) == MEASURES[measure].is_cka
    assert found.n_documents == len(set(documents))
    assert found.interval_over == "documents"
    assert (found.ci_low < found.similarity).all()


def test_a_constant_layer_has_no_value_and_is_named():
    y, x, documents = two_models()
    y[1] = np.tile(np.arange(1.0, 10.0), (90, 1))
    for measure in OTHERS:
        found = similarity_map(y, x, measure=measure, groups=documents, permutations=2)
        assert np.isnan(found.similarity[1]).all(), measure
        assert np.isfinite(found.similarity[0]).all()
        assert np.isnan(found.p_value[1]).all()
        (message,) = [one for one in found.warnings if "constant" in one or "differ" in one]
        assert message.startswith("y layer 2 is ")
        assert message.endswith("row NaN")


def test_equal_states_tie_and_are_told():
    """An embedding has one state a token: distances tie exactly, and neighbours are arbitrary."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, 12, 120)
    y, x = [rng.standard_normal((12, 8))[tokens]], [rng.standard_normal((120, 8))]
    expected = second_way("rsa", y, x)
    for dtype in (np.float64, np.float32):
        sides = [[a.astype(dtype) for a in side] for side in (y, x)]
        found = similarity_map(*sides, measure="rsa")
        np.testing.assert_allclose(found.similarity, expected, atol=1e-5)
    found = similarity_map(y, x, measure="mutual-knn", k=3)
    assert any("y layer 1 is tied" in message for message in found.warnings)
    assert not any("x layer 1 is tied" in message for message in found.warnings)


def test_ranks_of_many_pairs_are_good_without_a_sort():
    """Binned ones, and those of a layer whose distances crowd in few bins, which are sorted."""
    rng = np.random.default_rng(6)
    y, x = layers(rng, 320, (12, 9), dtype=np.float64)
    crowded = x * 1e-4 + 1
    crowded[0] = rng.standard_normal(9)
    for other in (x, crowded):
        found = similarity_map([y], [other], measure="rsa").similarity[0, 0]
        assert found == pytest.approx(reference.rsa(y, other), abs=1e-6)


def test_few_samples_for_the_dimensions_are_told():
    rng = np.random.default_rng(2)
    y, x = ([rng.standard_normal((100, 60))] for _ in range(2))
    found = similarity_map(y, x, measure="svcca")
    assert found.y_components.tolist() == [10]
    assert any("y layer 1 is cut to 10 components" in message for message in found.warnings)
    assert found.similarity[0, 0] < 0.32 + 0.1
    found = similarity_map(y, x, measure="procrustes")
    assert any("similarity of up to 0.78" in message for message in found.warnings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "rsaa"}, "did you mean 'rsa'"),
        ({"measure": "rsa", "batch_size": 8}, "batch_size with measure 'rsa'; it belongs to cka"),
        ({"measure": "rsa", "k": 8}, "k with measure 'rsa'; it belongs to mutual-knn, cknna"),
        ({"measure": "cka", "variance": 0.9}, "variance with measure 'cka'; it belongs to svcca"),
        ({"measure": "procrustes", "pairs": "all"}, "pairs with measure 'procrustes'"),
        ({"measure": "svcca", "kernel": "rbf"}, "kernel with measure 'svcca'"),
        ({"measure": "cka", "kernel": "rbf"}, "kernel is 'rbf' with measure 'cka'"),
        ({"measure": "svcca", "variance": 1.5}, "variance is 1.5; it must be above 0"),
        ({"measure": "mutual-knn", "k": 0}, "k is 0; it must be at least 1"),
        ({"measure": "mutual-knn", "k": 50}, "50 neighbours of each sample, but"),
        ({"measure": "rsa", "pairs": "some"}, "pairs is 'some'; it must be one of"),
    ],
)
def test_what_cannot_be_is_one_line(options, message):
    y, x, documents = two_models(n=40, documents=10)
    with pytest.raises(ComparisonError, match=message):
        similarity_map(y, x, groups=documents, **options)


def test_samples_that_cannot_be_compared_are_refused():
    y, x, _ = two_models(n=40)
    y[0][7] = 0
    for measure, what in (("mutual-knn", "zero"), ("cknna", "zero"), ("rsa", "the same")):
        with pytest.raises(ComparisonError, match=f"y layer 1, sample 7 is {what} in every"):
            similarity_map(y, x, measure=measure)
    y[0][7] = np.nan
    for measure in OTHERS:
        with pytest.raises(ComparisonError, match="y layer 1, sample 7: a value is NaN"):
            similarity_map(y, x, measure=measure)
        assert similarity_map(y, x, measure=measure, nonfinite="drop").n_dropped == 1
    with pytest.raises(ComparisonError, match="16 samples; canonical correlations need 10"):
        similarity_map([a[8:24] for a in y], [a[8:24] for a in x], measure="svcca")
    one = np.zeros(40, dtype=int)
    y, x, _ = two_models(n=40)
    for measure in ("rsa", "mutual-knn"):
        with pytest.raises(ComparisonError, match='pairs = "all"'):
            similarity_map(y, x, measure=measure, groups=one)
