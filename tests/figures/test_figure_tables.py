import csv
import io

import numpy as np
import pytest
from drawn import made_map, made_sweep

from engramcka.errors import ConfigError
from engramcka.figures import (
    cka_caption,
    save_table,
    sweep_caption,
    to_csv,
    to_latex,
    to_xarray,
)
from engramcka.results import CkaMap, LossSweep


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
    assert lines[2].startswith(r"Engram\_27B \& 100\% layer & Soft alignment & 95\,\% interval")
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
    assert data.attrs["n_samples"] == 100
    assert "ci_low" not in data


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
    assert "95 % jackknife interval" in text
    assert "Hatched: no value (MoE layer 2; Engram layers 0, 4; 1 single cell)." in text
    bare = cka_caption(made_map())
    assert "unknown number of samples" in bare
    assert "interval" not in bare
    assert "Hatched" not in bare
    assert "3 seeds" in sweep_caption(made_sweep())
    assert "unknown" in sweep_caption(made_sweep(seeds=1))
