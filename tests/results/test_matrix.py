"""One number a pair, against slow second ways, and what a matrix says of all of them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_matrix import LABELS, NAMES, made_matrix, scored
from made_robustness import ridge_map

from engramcka.errors import ComparisonError
from engramcka.results import CkaMap, ModelMatrix, PairScore, SimilarityMap, jackknife_interval
from engramcka.results.pair_scores import SCORES, best_match, same_depth

shapes = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(2, 7), st.integers(0, 10**6))


def random_map(rows, columns, groups, seed, missing=0.0):
    rng = np.random.default_rng(seed)
    s = rng.uniform(-0.1, 1.0, (rows, columns))
    t = s + 0.1 * rng.standard_normal((groups, rows, columns))
    s[rng.uniform(size=s.shape) < missing] = np.nan
    t[:, rng.uniform(size=s.shape) < missing / 2] = np.nan
    return s, t


def slow_maxima(s):
    """Loops over layers; cells without a number are no match."""
    ways = []
    for lines in (s, s.T):
        best = [max(cells) for line in lines if (cells := [c for c in line if np.isfinite(c)])]
        ways.append(np.mean(best) if best else np.nan)
    return np.mean(ways)


@given(shapes, st.sampled_from([0.0, 0.3]))
def test_best_matches_are_maxima_less_what_the_jackknife_says_they_are_too_high_by(shape, missing):
    s, t = random_map(*shape, missing)
    s[~np.isfinite(t).all(axis=0)] = np.nan
    t[:, ~np.isfinite(s)] = np.nan
    value, without = best_match(s, t)
    groups = len(t)
    expected = np.array([slow_maxima(one) for one in t])
    np.testing.assert_allclose(without, expected)
    bias = (groups - 1) * (expected.mean() - slow_maxima(s))
    np.testing.assert_allclose(value, slow_maxima(s) - bias)
    plain, nothing = best_match(s)
    np.testing.assert_allclose(plain, slow_maxima(s))
    assert nothing is None


def slow_same_depth(s, y_layers, x_layers):
    """Loops over layers, between two of the other model on a line."""
    ways = []
    for values, rows, columns in ((s, y_layers, x_layers), (s.T, x_layers, y_layers)):
        found = []
        places = sorted(range(len(rows)), key=lambda i: rows[i])
        for j, layer in enumerate(columns):
            depth = layer / max(1, *columns)
            depths = [rows[i] / max(1, *rows) for i in places]
            if not depths[0] <= depth <= depths[-1]:
                continue
            found.append(np.interp(depth, depths, [values[i, j] for i in places]))
        ways.append(np.mean(found) if found else np.nan)
    return np.mean(ways)


@given(shapes)
def test_layers_of_one_depth_are_compared_on_a_line_between_two(shape):
    s, t = random_map(*shape)
    y, x = tuple(range(1, len(s) + 1)), tuple(range(0, 2 * s.shape[1], 2))
    value, without = same_depth(s, t, y, x)
    np.testing.assert_allclose(value, slow_same_depth(s, y, x))
    np.testing.assert_allclose(without, [slow_same_depth(one, y, x) for one in t])


def test_of_models_with_the_same_layers_it_is_the_diagonal():
    s, t = random_map(5, 5, 4, 0)
    layers = (3, 1, 2, 5, 4)
    assert same_depth(s, t, layers, layers)[0] == pytest.approx(np.diag(s).mean())
    s[0, 0] = np.nan
    assert same_depth(s, t, layers, layers)[0] == pytest.approx(np.diag(s)[1:].mean())


@given(shapes, st.sampled_from(SCORES))
def test_a_score_is_the_same_whichever_model_is_on_the_rows(shape, score):
    s, t = random_map(*shape)
    one = PairScore.of(CkaMap(s, jackknife=t), score)
    other = PairScore.of(CkaMap(s.T, jackknife=t.swapaxes(1, 2)), score)
    assert one.value == pytest.approx(other.value)
    np.testing.assert_allclose(one.without, other.without)


def test_identical_models_are_1_and_so_are_all_their_intervals():
    s = np.eye(4) * 0.5 + 0.5
    t = np.stack([s - 0.01 * k * (1 - np.eye(4)) for k in range(6)])
    for score in SCORES:
        found = PairScore.of(CkaMap(s, jackknife=t), score)
        assert found.value == pytest.approx(1.0)
        np.testing.assert_allclose(found.without, 1.0)


def test_less_bias_than_the_maximum_has_on_cells_that_are_tied():
    """A map of which all cells are 0.5: the largest of six is over it by about 1.27 deviations."""
    rng = np.random.default_rng(0)
    plain, found = [], []
    for _ in range(200):
        groups = 0.5 + 0.2 * rng.standard_normal((16, 6, 6))
        s = groups.mean(axis=0)
        t = (groups.sum(axis=0) - groups) / 15
        plain.append(best_match(s)[0] - 0.5)
        found.append(best_match(s, t)[0] - 0.5)
    assert np.mean(plain) == pytest.approx(1.27 * 0.05, rel=0.05)
    assert 0 < np.mean(found) < 0.6 * np.mean(plain)


def test_a_matrix_is_symmetric_with_the_scores_of_its_pairs():
    found = made_matrix()
    np.testing.assert_array_equal(found.similarity, found.similarity.T)
    np.testing.assert_array_equal(np.diag(found.similarity), 1.0)
    np.testing.assert_array_equal(np.diag(found.low), 1.0)
    assert found.labels == tuple(LABELS.values())
    assert found.models == NAMES
    for (i, j), name in zip(found.pairs, found.maps, strict=True):
        assert name == f"cka/{NAMES[j]}-vs-{NAMES[i]}.of-cka"
        same = (i + j) % 2 == 0
        one = scored((0.8 if same else 0.5) + 0.004 * (i + j) * (1 if same else -1))
        assert found.similarity[i, j] == one.value
        low, high = jackknife_interval(one.value, one.without)
        assert (found.low[i, j], found.high[i, j]) == (low, high)
        np.testing.assert_array_equal(found.jackknife[:, i, j], one.without)
    assert (found.order, found.size()) == ([0, 2, 1, 3], "4 models  6 pairs")
    assert sum(found.plane.shares) > 0.7


@given(st.permutations(range(4)))
def test_the_order_of_the_models_changes_nothing_else(order):
    labels = {NAMES[at]: LABELS[NAMES[at]] for at in order}
    one, other = made_matrix(), made_matrix(labels=labels)
    turned = np.ix_(order, order)
    for name in ("similarity", "low", "high"):
        np.testing.assert_array_equal(getattr(other, name), getattr(one, name)[turned])
    heights = [sorted(join.height for join in found.tree) for found in (one, other)]
    np.testing.assert_allclose(*heights)
    points = [found.plane.points for found in (one, other)]
    gaps = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in points]
    np.testing.assert_allclose(gaps[1], gaps[0][turned], atol=1e-9)
    assert dict(zip(map(frozenset, _named(one)), one.maps, strict=True)) == dict(
        zip(map(frozenset, _named(other)), other.maps, strict=True)
    )


def _named(found):
    return [(found.models[i], found.models[j]) for i, j in found.pairs]


def noisy(values, spread, common=0.0, groups=12):
    """A matrix of three models of one layer each, whose pairs have these values; their noise is
    the same in all of them by the share `common`."""
    rng = np.random.default_rng(1)
    shared = rng.standard_normal(groups)
    scores = {}
    for pair, value in zip((("a", "b"), ("a", "c"), ("b", "c")), values, strict=True):
        noise = common * shared + np.sqrt(1 - common**2) * rng.standard_normal(groups)
        parts = value + spread * (noise - noise.mean())
        t = (parts.sum() - parts) / (groups - 1)
        one = CkaMap([[value]], jackknife=t[:, None, None], interval_over="documents", n_samples=50)
        scores[pair] = PairScore.of(replace(one, samples="1234"))
    return ModelMatrix.of(scores)


def test_pairs_are_told_apart_by_the_interval_of_their_difference():
    assert [noisy((0.9, 0.5, 0.45), 0.02).tied(one) for one in range(3)] == [[], [], []]
    assert noisy((0.9, 0.5, 0.45), 2.0).tied(0) == [1, 2]
    # What varies together does not make a difference uncertain.
    apart = noisy((0.6, 0.55, 0.2), 0.2, common=0.999)
    assert apart.tied(0) == []
    alone = replace(apart, jackknife=None)
    assert alone.tied(0) == [1]
    said = noisy((0.9, 0.5, 0.45), 2.0).summary()
    assert said.startswith(
        "3 models by CKA of the best match of each layer: most alike a and b, 0.9"
    )
    assert "not told apart from 2 of 2 others; least alike b and c, 0.450 (95 % " in said
    said = noisy((0.9, 0.5, 0.45), 0.02).summary()
    assert ", apart from all others; least alike b and c" in said


def paired(found):
    """Which pairs are known to be of the same samples."""
    if found.jackknife is None:
        return []
    return [
        at for at, (i, j) in enumerate(found.pairs) if np.isfinite(found.jackknife[:, i, j]).all()
    ]


UNPAIRED = (
    "not known to be of the samples of the others, or of other groups; errors are added where "
    "pairs are compared"
)


def test_groups_that_are_not_the_same_are_not_paired():
    same = {("a", "b"): scored(0.8), ("a", "c"): scored(0.6), ("b", "c"): scored(0.5)}
    found = ModelMatrix.of(same)
    assert (paired(found), found.warnings) == ([0, 1, 2], ())
    for fields in ({"groups": 8}, {"samples": "5678"}, {"samples": ""}, {"n_massive_dropped": 2}):
        found = ModelMatrix.of({**same, ("a", "c"): scored(0.6, **fields)})
        assert np.isfinite(found.low).all()
        assert paired(found) == [0, 2]
        assert found.warnings == (f"a and c: {UNPAIRED}",)
    found = ModelMatrix.of({**same, ("a", "c"): scored(0.6, n_samples=500, samples="5678")})
    assert found.warnings == ("pairs are compared on 500 to 512 samples", f"a and c: {UNPAIRED}")
    alone = {pair: replace(one, sampled="") for pair, one in same.items()}
    found = ModelMatrix.of(alone)
    assert (paired(found), found.warnings) == ([], (f"every pair: {UNPAIRED}",))


def test_a_pair_that_is_not_paired_is_compared_by_both_errors():
    """The pairs that are, by their difference; the other as if none was known to be paired."""
    apart = noisy((0.6, 0.55, 0.56), 0.2, common=0.999)
    t = apart.jackknife.copy()
    t[:, 1, 2] = t[:, 2, 1] = np.nan
    mixed, alone = replace(apart, jackknife=t), replace(apart, jackknife=None)
    assert (apart.tied(0), mixed.tied(0), alone.tied(0)) == ([], [2], [1, 2])


def test_arrays_are_paired_where_somebody_says_that_they_are_of_the_same_samples():
    scores = {("a", "b"): scored(0.8), ("a", "c"): scored(0.6), ("b", "c"): scored(0.5)}
    bare = {pair: replace(one, sampled="") for pair, one in scores.items()}
    found = ModelMatrix.of(bare, same_samples=True)
    np.testing.assert_array_equal(found.jackknife, ModelMatrix.of(scores).jackknife)
    assert found.warnings == ()
    unknown = {**scores, ("a", "c"): replace(scores["a", "c"], samples=0, documents=0)}
    assert paired(ModelMatrix.of(unknown, same_samples=True)) == [0, 1, 2]
    for changed, says in (({"samples": 500}, "maps are of 500 to 512 samples"),
                          ({"documents": 7}, "maps are of 7 to 128 documents"),
                          ({"sampled": "5678"}, "stored of different samples")):  # fmt: skip
        other = {**scores, ("a", "c"): replace(scores["a", "c"], **changed)}
        with pytest.raises(ComparisonError, match=says):
            ModelMatrix.of(other, same_samples=True)


def test_what_a_number_is_not_of_is_said():
    s, t = random_map(3, 4, 5, 0)
    s[1] = np.nan
    t[2, 0, 3] = np.nan
    said = PairScore.of(CkaMap(s, jackknife=t, y_label="A", y_layers=(2, 4, 6))).warnings
    assert said == (
        "A layer 4 has no similarity with any layer, of all or without some documents: not in the "
        "pair's number",
        "1 cell without a value, of all or without some documents: no match",
    )
    said = PairScore.of(CkaMap(s, y_label="A", y_layers=(2, 4, 6)), "same-depth").warnings
    assert said[-1] == "A layers compared are not all: depths are shares of the last, 6"
    assert not any("no match" in one for one in said)
    whole = CkaMap(np.eye(3), y_layers=(0, 1, 2))
    assert PairScore.of(whole, "same-depth").warnings == ()


def test_pairs_without_a_number_have_no_part_in_what_is_paired():
    broken = ridge_map(groups=8, samples="9999")
    cells = np.full_like(broken.similarity, np.nan)
    nothing = PairScore.of(
        replace(broken, similarity=cells, jackknife=np.full_like(broken.jackknife, np.nan))
    )
    scores = dict.fromkeys(("ac", "bc", "ad", "bd"), nothing)
    scores = {
        tuple(pair): one for pair, one in {**scores, "ab": scored(0.8), "cd": scored(0.6)}.items()
    }
    found = ModelMatrix.of(scores, {name: name for name in "abcd"})
    assert paired(found) == [0, 5]
    assert not any("not known" in one for one in found.warnings)


def test_copies_are_one_point_and_ties_are_joined_in_order():
    rounding = np.array([0, 3e-16, -2e-16])
    copies = noisy(1 + rounding, 0.0)
    np.testing.assert_array_equal(copies.plane.points, 0.0)
    for values in (1 + rounding, 1 - rounding, 0.5 + rounding, 0.5 - rounding, np.full(3, 0.5)):
        assert [(join.left, join.right) for join in noisy(values, 0.0).tree] == [(0, 1), (3, 2)]


def test_maps_without_a_jackknife_have_no_interval_and_a_warning():
    bare = PairScore.of(replace(ridge_map(), jackknife=None))
    scores = {("a", "b"): bare, ("a", "c"): scored(0.6), ("b", "c"): scored(0.5)}
    found = ModelMatrix.of(scores)
    assert np.isnan(found.low[0, 1])
    assert found.warnings[0] == "no interval of a and b; best matches there are too high"
    assert "most alike a and b, 0.900; least alike b and c, 0.500 (95 % " in found.summary()
    found = ModelMatrix.of(dict.fromkeys(scores, bare))
    assert found.warnings == ("no pair has an interval; best matches there are too high",)


def test_a_pair_without_a_number_leaves_no_tree():
    nothing = PairScore.of(CkaMap(np.full((2, 2), np.nan)))
    nothing = replace(nothing, estimator="unknown")
    found = ModelMatrix.of({("a", "b"): nothing, ("a", "c"): scored(0.6), ("b", "c"): scored(0.5)})
    assert (found.tree, found.plane, found.order, found.is_whole) == ([], None, [0, 1, 2], False)
    assert found.summary().endswith("; 1 pair without a number")
    rows = list(found.rows())
    assert np.isnan(rows[0]["similarity"])
    assert (rows[1]["model"], rows[1]["other"], rows[1]["samples"]) == ("a", "c", 512)


def test_warnings_name_the_model_and_the_pairs():
    one = PairScore.of(ridge_map(warnings=("y layers 1, 2 rest by 60% on one direction", "odd")))
    assert one.warnings == ("MoE layers 1, 2 rest by 60% on one direction", "odd")
    scores = {("a", "b"): one, ("a", "c"): scored(0.6), ("b", "c"): scored(0.5, warnings=("odd",))}
    found = ModelMatrix.of(scores, {"a": "A", "b": "B", "c": "C"})
    assert found.warnings[0] == f"A and B: {UNPAIRED}"
    assert found.warnings[1:] == (
        "A and B: MoE layers 1, 2 rest by 60% on one direction", "A and B; B and C: odd",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop(("a", "c")), "there is no map of a and c"),
        (lambda s: s.clear(), "at least 2 models, found no pair"),
        (
            lambda s: s.update({("b", "c"): replace(s["b", "c"], neighbours=5)}),
            "has neighbours 5, that of a and b None",
        ),
        (lambda s: s.update({("b", "c"): scored(0.5, pairs="across-documents")}), "has pairs"),
        (lambda s: s.update({("c", "a"): s["a", "c"]}), "c and a are there twice"),
        (
            lambda s: s.update({("b", "c"): PairScore.of(SimilarityMap(np.eye(2), measure="rsa"))}),
            "the map of b and c has measure 'rsa', that of a and b 'cka'; a matrix is made in one",
        ),
        (
            lambda s: s.update({("b", "c"): scored(0.5, "same-depth")}),
            "has score 'same-depth', that of a and b 'best-match'",
        ),
    ],
)
def test_pairs_that_make_no_matrix_are_refused(change, says):
    scores = {("a", "b"): scored(0.8), ("a", "c"): scored(0.6), ("b", "c"): scored(0.5)}
    change(scores)
    with pytest.raises(ComparisonError, match=says):
        ModelMatrix.of(scores)


def test_arrays_of_another_size_are_refused():
    found = made_matrix()
    with pytest.raises(ComparisonError, match=r"low is \(4 models, 4 models\), found shape"):
        replace(found, low=np.zeros((3, 3)))
    with pytest.raises(ComparisonError, match="maps has 2 entries, of 4 models 6"):
        replace(found, maps=("", ""))
    with pytest.raises(ComparisonError, match="two models have one label: MoE, MoE"):
        replace(found, labels=("MoE", "MoE", "b", "c"))
    with pytest.raises(ComparisonError, match="similarity is not symmetric"):
        replace(found, similarity=np.triu(np.ones((4, 4))))
    with pytest.raises(ComparisonError, match="no score 'mean'; there are best-match, same-depth"):
        PairScore.of(ridge_map(), "mean")


def test_the_most_alike_of_many_equal_pairs_is_seldom_told_apart():
    """It is chosen for its number: all comparisons of two pairs count, not its own alone."""
    rng = np.random.default_rng(0)
    models = [str(number) for number in range(6)]
    pairs = [(a, b) for at, a in enumerate(models) for b in models[at + 1 :]]
    wrong = {"paired": 0, "not known": 0}
    for _ in range(60):
        scores = {}
        for pair in pairs:
            parts = 0.5 + 0.2 * rng.standard_normal(20)
            t = ((parts.sum() - parts) / 19)[:, None, None]
            one = CkaMap([[parts.mean()]], jackknife=t, interval_over="documents", samples="1")
            scores[pair] = PairScore.of(one)
        found = ModelMatrix.of(scores)
        best = int(np.argmax([found.similarity[pair] for pair in found.pairs]))
        for name, one in (("paired", found), ("not known", replace(found, jackknife=None))):
            wrong[name] += len(one.tied(best)) < len(pairs) - 1
    assert max(wrong.values()) <= 6  # 3 are expected at 5 %; more than 6 in 4 % of such tests


def test_pairs_without_a_number_are_no_others_and_roundings_no_difference():
    nothing = replace(PairScore.of(CkaMap(np.full((2, 2), np.nan))), estimator="unknown")
    scores = {("a", "b"): scored(0.9), ("a", "c"): nothing, ("b", "c"): nothing}
    assert "apart" not in ModelMatrix.of(scores).summary()
    copies = noisy((1.0, 1.0, 1 + 7e-15), 0.0)
    assert copies.tied(2) == [0, 1]
