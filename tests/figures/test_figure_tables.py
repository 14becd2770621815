import csv
import io

import numpy as np
import pytest
from drawn import (
    made_allocation,
    made_gates,
    made_lens,
    made_map,
    made_memory,
    made_sweep,
    made_training,
)
from made_baseline import made_baseline
from made_matrix import made_matrix
from made_robustness import made_robustness

from engramcka.errors import ConfigError
from engramcka.figures import (
    cka_caption,
    save_table,
    sweep_caption,
    to_csv,
    to_latex,
    to_xarray,
)
from engramcka.figures.draw import drawing_of
from engramcka.results import CkaMap, LensCurve, LossSweep, SimilarityMap, SlotSweep
from engramcka.results.kinds import KINDS, kind_of


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_maps_csv_holds_every_cell_to_the_last_digit():
    cka = made_map(4, 3, y_layers=(2, 4, 6, 8), ci_low=np.full((4, 3), 0.1))
    cka.similarity[1, 2] = np.nan
    rows = rows_of(to_csv(cka))
    assert len(rows) == 12
    assert list(rows[0]) == ["y_layer", "x_layer", "similarity", "ci_low"]
    for row in rows:
        i, j = cka.y_layers.index(int(row["y_layer"])), cka.x_layers.index(int(row["x_layer"]))
        if row["similarity"]:
            assert float(row["similarity"]) == cka.similarity[i, j]
        else:
            assert (i, j) == (1, 2)


def test_a_sweeps_csv_holds_points_baseline_and_variants():
    sweep = made_sweep(seeds=2, baseline=(1.9, 1.91), variants={'a, "b"': 1.77})
    rows = rows_of(to_csv(sweep))
    points = [row for row in rows if row["kind"] == "layer"]
    np.testing.assert_array_equal([float(row["loss"]) for row in points], sweep.loss.ravel())
    assert [(r["seed"], r["loss"]) for r in rows if r["kind"] == "baseline"] == [
        ("0", "1.9"), ("1", "1.91"),
    ]  # fmt: skip
    assert rows[-1]["name"] == 'a, "b"'
    assert float(rows[-1]["loss"]) == 1.77


def test_a_latex_table_has_a_row_a_column_of_the_map():
    cka = made_map(6, 4, groups=5, x_label="Engram_27B & 100%")
    lines = to_latex(cka).splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrr}"
    assert lines[2].startswith(
        r"Engram\_27B \& 100\% layer & Soft alignment ($k = 5$) & 95\,\% interval"
    )
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    low, high = cka.soft_alignment_interval()
    for j, line in enumerate(body):
        cells = line.removesuffix(r" \\").split(" & ")
        best = int(cka.similarity[:, j].argmax())
        assert cells == [
            str(j + 1),
            f"{cka.soft_alignment()[j]:.1f}",
            f"[{low[j]:.1f}, {high[j]:.1f}]",
            str(best + 1),
            f"{cka.similarity[best, j]:.3f}",
        ]


def test_what_does_not_exist_is_a_dash():
    cka = CkaMap([[0.5, np.nan], [0.25, np.nan]])
    assert r"2 & -- & -- & -- \\" in to_latex(cka)
    sweep = LossSweep((1, 2), [[2.0, 2.1], [np.nan, np.nan]], [], seeds=(0, 1))
    table = to_latex(sweep)
    assert r"1 & 2.0500 & 0.07071 \\" in table
    assert r"2 & -- & -- \\" in table
    assert "baseline" not in table


def test_a_reference_of_the_baselines_name_keeps_its_own_row():
    table = to_latex(made_sweep(seeds=1, baseline=(1.9,), reference={"baseline": 1.5}))
    assert r"baseline & 1.9000 \\" in table
    assert r"baseline & 1.5000 \\" in table


def test_tex_in_a_name_prints_as_it_is():
    table = to_latex(made_sweep(seeds=1, variants={r"\input{x} $a^b$ ~#": 1.0}))
    assert r"\textbackslash{}input\{x\} \$a\textasciicircum{}b\$ \textasciitilde{}\#" in table


def test_xarray_has_coordinates_and_intervals():
    cka = made_map(4, 3, groups=2, y_layers=(2, 4, 6, 8), n_samples=100)
    data = to_xarray(cka)
    assert data.similarity.dims == ("y_layer", "x_layer")
    assert float(data.similarity.sel(y_layer=6, x_layer=2)) == cka.similarity[2, 1]
    assert data.jackknife.dims == ("group", "y_layer", "x_layer")
    np.testing.assert_array_equal(data.soft_alignment, cka.soft_alignment())
    assert data.attrs["n_samples"] == 100
    assert "ci_low" not in data


def test_a_lens_curve_as_xarray_has_a_value_a_layer():
    curve = made_lens(layers=6, label="MoE")
    data = to_xarray(curve)
    assert set(data.data_vars) == {f"{r}{e}" for r in ("kl", "entropy", "top1")
                                   for e in ("", "_low", "_high")}  # fmt: skip
    assert float(data.kl_low.sel(layer=2)) == curve.kl_low[1]
    assert data.attrs["direction"] == "final||layer"
    assert "kl_high" not in to_xarray(made_lens(interval=0.0))


def test_a_sweep_as_xarray_has_seeds_ablations_and_references():
    sweep = made_sweep(
        seeds=2,
        baseline=(1.9, 1.91),
        variants={"without gating": 1.77},
        reference={"{2, 6}": 1.75},
        difference_low=np.full(12, -0.15),
        difference_high=np.full(12, -0.12),
        variant_differences={"without gating": (0.02, -0.01, 0.05)},
        whole="layer 3",
    )
    data = to_xarray(sweep)
    (row,) = [line for line in to_csv(sweep).splitlines() if line.startswith("variant")]
    assert row.endswith("0.02,-0.01,0.05")
    assert to_csv(sweep).splitlines()[0].endswith("from_whole,from_whole_low,from_whole_high")
    (row,) = [line for line in to_latex(sweep).splitlines() if "without gating" in line]
    assert row.split("&")[-1].strip().startswith("0.0200 [")
    assert "less layer 3: without gating (+0.020, 95 % -0.010 to +0.050)" in sweep_caption(sweep)
    assert float(data.loss.sel(layer=3, seed=1)) == sweep.loss[2, 1]
    assert float(data.baseline.sel(seed=1)) == 1.91
    assert float(data.variant_loss.sel(variant="without gating")) == 1.77
    assert float(data.reference_loss.sel(reference="{2, 6}")) == 1.75
    assert float(data.difference_high.sel(layer=12)) == -0.12


def test_every_kind_of_result_is_a_dataset():
    results = [
        made_allocation(), made_gates(), made_memory(), made_training(), made_map(), made_sweep(),
        LensCurve((1, 2), np.array([2.0, 0.0])), SlotSweep([10.0], [[1.0]], [2.0]),
        SimilarityMap(np.eye(3), measure="rsa"), made_robustness(), made_baseline(),
        made_matrix(),
    ]  # fmt: skip
    assert {kind_of(result).name for result in results} == set(KINDS)
    for result in results:
        assert len(to_xarray(result).data_vars) > 0
        assert to_csv(result).count("\n") > 1
        assert r"\toprule" in to_latex(result)
        assert drawing_of(kind_of(result).name).caption.__doc__
        assert result.summary()
    assert float(to_xarray(made_gates()).alpha.sel(type="all")[0, 0]) > 0


def test_tables_are_written_by_extension(tmp_path):
    assert save_table(made_map(), tmp_path / "a.csv").read_text() == to_csv(made_map())
    assert save_table(made_map(), tmp_path / "a.tex", k=2).read_text() == to_latex(made_map(), k=2)
    with pytest.raises(ConfigError, match=r"\.csv, \.tex"):
        save_table(made_map(), tmp_path / "a.xlsx")


def test_a_caption_names_what_is_missing_and_admits_what_is_unknown():
    cka = made_map(6, 6, n_samples=16384, batch_size=1024, estimator="minibatch", groups=3)
    cka.similarity[2] = np.nan
    cka.similarity[:, [0, 4]] = np.nan
    cka.similarity[5, 1] = np.nan
    text = cka_caption(cka, first_layer=0)
    assert "minibatch estimator, batches of 1,024 samples, on 16,384 samples" in text
    assert "95 % interval" in text
    assert "Hatched: no value (MoE layer 2; Engram layers 0, 4; 1 single cell)." in text
    bare = cka_caption(made_map())
    assert "unknown number of samples" in bare
    assert "interval" not in bare
    assert "Hatched" not in bare
    assert "3 seeds" in sweep_caption(made_sweep())
    assert "unknown" in sweep_caption(made_sweep(seeds=1))


def test_a_sweeps_interval_is_in_its_tables_and_caption():
    ends = {"difference_low": np.full(12, -0.15), "difference_high": np.full(12, -0.12)}
    sweep = made_sweep(seeds=2, baseline=(1.9, 1.91), reference={"two": 1.7}, **ends)
    rows = rows_of(to_csv(sweep))
    assert {(row["difference_low"], row["difference_high"]) for row in rows} == {
        ("-0.15", "-0.12"),
        ("", ""),
    }
    table = to_latex(sweep).splitlines()
    assert f"{sweep.difference[2]:.4f} [-0.1500, -0.1200] " in next(
        line for line in table if line.startswith("3 & ")
    )
    assert {line.count("&") for line in table if "&" in line} == {3}
    text = sweep_caption(sweep)
    assert "bars the 95 % interval of the difference from baseline, over validation doc" in text
    assert "and seeds" not in sweep_caption(made_sweep(seeds=1, **ends))


def test_a_name_is_no_argument_of_the_row_before_it():
    table = to_latex(made_sweep(variants={"[3em] a": 1.5, "* b": 1.6}))
    assert "\n[" not in table
    assert "\n*" not in table
    assert "{[}3em] a" in table
