"""A matrix: its numbers where its models are, its tree, its plane, in every style."""

import numpy as np
import pytest
from made_matrix import made_matrix, many, scored
from test_figure_robustness import whole

from engramcka.errors import ComparisonError, ConfigError
from engramcka.figures import (
    STYLES,
    Style,
    matrix_caption,
    matrix_figure,
    plot_matrix,
    plot_plane,
    to_latex,
)
from engramcka.results import CkaMap, ModelMatrix, PairScore

HOSTILE = "$x_1^2$ \\frac \x1b[31m _a" + 9 * " long"


def without_a_number():
    nothing = PairScore.of(CkaMap(np.full((2, 2), np.nan)))
    return ModelMatrix.of({("a", "b"): nothing, ("a", "c"): scored(0.6), ("b", "c"): scored(0.5)})


def test_cells_numbers_and_names_are_in_the_order_of_the_tree():
    found = made_matrix()
    artists = plot_matrix(found)
    order = found.order
    assert order == [0, 2, 1, 3]
    turned = found.similarity[np.ix_(order, order)]
    np.testing.assert_allclose(np.asarray(artists.cells.get_array()).reshape(4, 4), turned)
    texts = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text()
             for t in artists.numbers}  # fmt: skip
    assert texts[0, 0] == "1"
    assert len(texts) == 16
    assert all(float(texts[i, j]) == pytest.approx(turned[i, j], abs=0.005) for i, j in texts)
    labels = [label.get_text() for label in artists.axes.get_yticklabels()]
    assert labels == ["MoE  1", "MoE, seed 1  2", "Engram  3", "Engram, seed 1  4"]
    assert [label.get_text() for label in artists.axes.get_xticklabels()] == list("1234")
    top, bottom = artists.axes.get_ylim()[::-1]
    assert top < bottom  # the first row on top


def test_branches_join_at_the_mean_similarity_between_them():
    found = made_matrix()
    segments = plot_matrix(found).tree.get_segments()
    s = found.similarity
    between = np.mean([s[i, j] for i in (0, 2) for j in (1, 3)])
    joins = sorted(segment[1][0] for segment in segments)
    assert joins == pytest.approx(sorted([s[0, 2], s[1, 3], between]))
    root = next(segment for segment in segments if segment[1][0] == pytest.approx(between))
    assert [point[1] for point in root] == [0.5, 0.5, 2.5, 2.5]  # in the middle of its rows
    assert sorted((root[0][0], root[3][0])) == pytest.approx(sorted([s[0, 2], s[1, 3]]))


def test_points_are_where_the_plane_has_them_and_near_ones_share_a_name():
    found = made_matrix()
    artists = plot_plane(found)
    np.testing.assert_allclose(artists.points.get_offsets(), found.plane.points)
    assert artists.axes.get_xlabel() == f"coordinate 1 ({found.plane.shares[0]:.0%})"
    assert [name.get_text() for name in artists.names] == ["1", "3, 4", "2"]
    assert sorted(name.get_text() for name in plot_plane(many(12)).names) == [
        "1–4", "5–8", "9–12",
    ]  # fmt: skip
    width, height = (np.ptp(end) for end in (artists.axes.get_xlim(), artists.axes.get_ylim()))
    assert width == pytest.approx(height)


def test_a_pair_without_a_number_is_hatched_and_there_is_no_tree():
    found = without_a_number()
    artists = plot_matrix(found)
    assert artists.tree is None
    assert len(artists.numbers) == 7
    plane = plot_plane(found)
    assert plane.points is None
    assert [text.get_text() for text in plane.axes.texts] == ["a pair has no number"]
    assert "Hatched: no number" in matrix_caption(found)
    assert "linkage" not in matrix_caption(found)


@pytest.mark.parametrize(
    ("style", "width", "models"),
    [
        *((style, "column", 3) for style in STYLES),
        *(("plain", width, 12) for width in ("half", "column", "page")),
        ("iclr", "page", 5),
    ],
)
def test_nothing_leaves_the_figure(style, width, models):
    names = [f"{'ab'[one % 2]}-{one}" for one in range(models)]
    labels = {name: f"{one} {HOSTILE}" for one, name in enumerate(names)}
    figure = matrix_figure(made_matrix(names, labels), Style.named(style, width=width))
    assert whole(figure)
    matrix, plane = (ax.get_window_extent() for ax in figure.axes[:2])
    assert matrix.x1 < plane.x0 if Style.named(style, width=width).inches >= 6 else (
        matrix.y0 > plane.y1
    )  # fmt: skip


def test_numbers_that_would_be_too_small_are_left_out():
    assert len(plot_matrix(many(4)).numbers) == 16
    assert plot_matrix(many(40)).numbers == []
    with pytest.raises(ConfigError, match="palette"):
        plot_matrix(many(3), palette="none")


def test_the_caption_says_what_a_number_is_and_what_was_found():
    found = made_matrix()
    said = matrix_caption(found)
    assert said.startswith(
        "How alike 4 models are, two at a time: the mean similarity of each layer with its best "
        "match in the other model, over the layers of both, less what the maximum of noisy "
        "numbers is too high by (CKA with the linear kernel, unknown estimator), on 512 samples "
        "of 128 documents; intervals are 95 % ones over documents."
    )
    assert f"holds {sum(found.plane.shares):.0%} of the variance of the distances" in said
    assert f"{found.summary()}." in said
    other = matrix_caption(made_matrix(score="same-depth", normalize="rms"))
    assert "layers at the same share of their model's depth (CKA with" in other
    assert "each sample divided by its root mean square)" in other


def test_the_table_has_a_row_a_pair_the_most_alike_first():
    text = to_latex(made_matrix())
    rows = [line.removesuffix(" \\\\").split(" & ") for line in text.splitlines() if "&" in line]
    assert rows[0] == ["Model", "Model", "CKA, best match", "95\\,\\% interval"]
    assert rows[1][:2] == ["Engram", "Engram, seed 1"]
    values = [float(row[2]) for row in rows[1:]]
    assert values == sorted(values, reverse=True)
    assert len(values) == 6
    with pytest.raises(ComparisonError, match="holds one ModelMatrix, found 2"):
        to_latex([made_matrix(), made_matrix()])


def test_exact_copies_have_a_figure():
    """Estimates of copies may lie above one."""
    values = {("a", "b"): 1.001, ("a", "c"): 1.002, ("b", "c"): 1.003}
    scores = {pair: scored(value) for pair, value in values.items()}
    figure = matrix_figure(ModelMatrix.of(scores))
    figure.draw_without_rendering()
