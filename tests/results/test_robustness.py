"""What survives other ways of comparing, on maps whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from made_robustness import LAYERS, made_robustness, ridge_map

from engramcka.errors import ComparisonError
from engramcka.results import Robustness, SimilarityMap
from engramcka.stores.results import read_result, write_result


def test_each_way_has_the_curve_the_depths_and_the_shift_of_its_map():
    maps = {"CKA": ridge_map(1.0), "RSA": ridge_map(2.0, SimilarityMap, measure="rsa")}
    found = Robustness.of(maps, ["cka/a", "map/b"], ["keep", "keep"])
    for way, one in enumerate(maps.values()):
        np.testing.assert_array_equal(found.alignment[way], one.soft_alignment())
        low, high = one.soft_alignment_interval()
        np.testing.assert_array_equal(found.alignment_low[way], low)
        np.testing.assert_array_equal(found.alignment_high[way], high)
        shift = one.depth_shift()
        np.testing.assert_array_equal(found.depth[way], shift.depth)
        np.testing.assert_array_equal(found.determined[way] > 0, shift.determined)
        assert found.shift[way] == shift.shift
        assert (found.shift_low[way], found.shift_high[way]) == (shift.shift_low, shift.shift_high)
    # Columns whose peak is inside the map have it a row, or two rows, below their own.
    assert found.depth[0, :8] == pytest.approx(np.arange(2, 10), abs=0.02)
    assert found.depth[1, :7] == pytest.approx(np.arange(3, 10), abs=0.02)


def test_depths_of_models_of_other_sizes_are_layers_of_y():
    rows, columns = np.arange(1, 13)[:, None], np.arange(1, 5)[None, :]
    truth = 0.9 * np.exp(-(((rows - 3 * columns) / 2) ** 2))
    one = SimilarityMap(truth, measure="rsa")
    found = Robustness.of({"a": one, "b": one}, ["map/a", "map/b"], ["keep"] * 2, layer=2)
    assert found.unit == "relative depth"
    assert found.depth[0].tolist() == [3, 6, 9, 12]
    assert "layer 2 of x is nearest layer 6 of y by a, the same over 2 ways" in found.summary()
    assert "nearest depth +0.00 of the depth by a" in found.summary()


def test_the_sentence_says_the_headline_its_range_and_what_survives():
    found = made_robustness()
    assert found.directions == [1, 1, 1, 1, None]
    said = found.summary()
    low, high = found.shift[:4].min(), found.shift[:4].max()
    assert said.startswith(
        f"Engram on MoE, 5 ways: nearest depth {found.shift[0]:+.2f} layers (95 % "
    ), said
    assert f"by CKA, {low:+.2f} to {high:+.2f} over 4 ways; " in said
    assert "4 of 5 ways say deeper, 1 nothing; " in said
    assert "layer 3 of Engram is nearest layer 4 of MoE by CKA (95 % " in said
    assert ", 4 to 5 over 4 ways; soft alignment (k = 5) " in said
    # Within one layer of nine, a shift of two is that of one.
    assert found.kept == (9, 9)
    assert (
        "9 of 9 layers have a nearest one by CKA and another way, and 9 of them keep it (to within "
        "one layer) in every way that determines it; "
    ) in said


def test_a_way_that_contradicts_is_counted():
    against = ridge_map(-2.0, estimator="biased")
    found = made_robustness(maps={"CKA, biased": against})
    assert found.directions == [1, 1, 1, 1, None, -1]
    assert "4 of 6 ways say deeper, 1 shallower, 1 nothing; " in found.summary()
    # The first column peaks at row 2, and there, above the map, at row 1; all others are 3 apart.
    assert found.kept == (1, 9)
    assert found.same.sum(axis=1).tolist() == [9, 9, 9, 9, 0, 1]


def test_no_shift_and_no_interval_and_nothing_determined():
    same = Robustness.of({"a": ridge_map(), "b": ridge_map()}, ["cka/a", "cka/b"], ["keep"] * 2)
    assert same.directions == [0, 0]
    assert "2 of 2 ways say no shift; " in same.summary()
    bare = SimilarityMap(ridge_map(1.0).similarity)
    found = Robustness.of({"a": bare, "b": bare}, ["map/a", "map/b"], ["keep"] * 2, layer=1)
    assert found.directions == [None, None]
    assert found.verdict() == ""
    assert "95 %" not in found.summary()
    flat = SimilarityMap(np.full((LAYERS, LAYERS), 0.5))
    none = Robustness.of({"a": flat, "b": bare}, ["map/a", "map/b"], ["keep"] * 2, layer=1)
    said = none.summary()
    assert f"nearest depth not determined by a, {none.shift[1]:+.2f} layers by 1 other; " in said
    assert "layer 1 of x is not nearest one layer of y by a" in said
    assert "none of 9 layers has a nearest one by a and another way; " in said


def test_where_the_first_way_determines_nothing_the_others_are_counted_by_what_they_say():
    flat = SimilarityMap(np.full((LAYERS, LAYERS), 0.5), y_label="MoE", x_label="Engram")
    ways = {"a": flat, "b": ridge_map(-2.0), "c": ridge_map(1.0), "d": ridge_map(-1.0)}
    found = Robustness.of(ways, [f"cka/{way}" for way in ways], ["keep"] * 4)
    assert found.verdict() == "2 of 4 ways say shallower, 1 deeper, 1 nothing"
    low, high = found.shift[1:].min(), found.shift[1:].max()
    assert f"not determined by a, {low:+.2f} to {high:+.2f} layers by 3 others; " in found.summary()
    one = Robustness.of({"c": ways["c"], **ways}, [f"cka/{i}" for i in "vwxyz"][:4], ["keep"] * 4)
    assert one.verdict() == "1 of 4 ways say deeper, 2 shallower, 1 nothing"


def test_warnings_name_their_ways_and_stand_once():
    found = made_robustness()
    assert found.warnings == ("CKA, debiased: one dimension", "Procrustes: few samples")
    one = ridge_map(warnings=("massive",))
    maps = dict.fromkeys("abcde", one)
    every = Robustness.of(maps, [f"cka/{name}" for name in maps], ["keep"] * 5)
    assert every.warnings == ("every way: massive",)
    maps["f"] = replace(one, warnings=())
    most = Robustness.of(maps, [f"cka/{name}" for name in maps], ["keep"] * 6)
    assert most.warnings == ("a; b; c and 2 more: massive",)


def test_rows_have_every_way_and_layer():
    found = made_robustness()
    rows = list(found.rows())
    assert len(rows) == 5 * LAYERS
    row = rows[2 * LAYERS + 2]
    assert (row["way"], row["x_layer"], row["standardize"]) == ("CKA, z-scored", 3, "zscore")
    assert row["depth"] == found.depth[2, 2]
    assert row["determined"] is True
    assert rows[3 * LAYERS]["estimator"] is None
    assert rows[3 * LAYERS]["samples"] == 480


def test_what_is_stored_comes_back(tmp_path):
    found = made_robustness()
    write_result(tmp_path / "results.zarr", "a", found, {})
    back = read_result(tmp_path / "results.zarr", "robustness", "a")
    assert back.summary() == found.summary()
    assert list(map(str, back.rows())) == list(map(str, found.rows()))


@pytest.mark.parametrize(
    ("maps", "layer", "says"),
    [
        ({}, None, "at least one map"),
        (
            {"a": ridge_map(), "b": ridge_map(x_label="other")},
            None,
            "b has x_label other, a Engram",
        ),
        ({"a": ridge_map(), "b": ridge_map(layers=4)}, None, "b has y_layers"),
        ({"a": ridge_map(), "b": ridge_map()}, 10, "Engram has no layer 10; there are 1 to 9"),
    ],
)
def test_maps_that_are_no_ways_of_one_comparison(maps, layer, says):
    with pytest.raises(ComparisonError, match=says):
        Robustness.of(maps, list(maps), ["keep"] * len(maps), layer)


def test_a_stored_result_that_does_not_fit_together():
    found = made_robustness()
    with pytest.raises(ComparisonError, match="measures names 1 of 5 ways"):
        replace(found, measures=("cka",))
    with pytest.raises(ComparisonError, match="depth is"):
        replace(found, depth=found.depth[:2])
