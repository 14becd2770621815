"""Robustness: every way's curve and shift where its numbers are, in every style."""

import numpy as np
import pytest
from made_robustness import made_robustness, ridge_map

from engramcka.errors import ComparisonError, ConfigError
from engramcka.figures import (
    STYLES,
    Style,
    plot_robustness,
    plot_shifts,
    robustness_caption,
    robustness_figure,
    to_latex,
)

HOSTILE = "$x_1^2$ \\frac \x1b[31m _a" + 9 * " long"


def whole(figure):
    """Whether nothing leaves the figure."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    width, height = figure.get_size_inches()
    return min(box.x0, box.y0) > -0.02 and box.x1 < width + 0.02 and box.y1 < height + 0.02


@pytest.mark.parametrize("first_layer", [0, 1])
def test_curves_stand_at_their_layers(first_layer):
    found = made_robustness()
    artists = plot_robustness(found, first_layer=first_layer)
    for way, line in enumerate(artists.curves):
        np.testing.assert_allclose(line.get_xdata(), np.arange(9) + first_layer)
        np.testing.assert_allclose(line.get_ydata(), found.alignment[way] + first_layer - 1)
    colours = [line.get_color() for line in artists.curves]
    assert colours[0] == colours[1] == colours[2]  # CKA
    assert len(set(colours)) == 3
    assert len({line.get_linestyle() for line in artists.curves[:3]}) == 3
    assert artists.curves[0].get_zorder() > artists.curves[1].get_zorder()
    band = np.asarray(artists.band.get_paths()[0].vertices)[:, 1]
    assert band.max() == pytest.approx(np.nanmax(found.alignment_high[0]) + first_layer - 1)
    assert plot_robustness(found, map_interval=False).band is None


def test_nearest_layers_are_drawn_where_they_are_determined():
    found = made_robustness()
    lines = plot_robustness(found, curve="depth").curves
    np.testing.assert_allclose(lines[2].get_ydata(), found.depth[2])
    assert np.isnan(lines[4].get_ydata()).all()
    with pytest.raises(ConfigError, match="no curve 'shift'; there are alignment, depth"):
        plot_robustness(found, curve="shift")


def test_shifts_stand_in_their_rows_with_their_intervals():
    found = made_robustness()
    artists = plot_shifts(found)
    assert [label.get_text() for label in artists.axes.get_yticklabels()] == list(found.ways)
    for way, points in enumerate(artists.points[:4]):
        line, _, (bars,) = points
        assert (line.get_xdata()[0], line.get_ydata()[0]) == (found.shift[way], way)
        ((ends, _),) = [(segment[:, 0], 0) for segment in bars.get_segments()]
        np.testing.assert_allclose(ends, [found.shift_low[way], found.shift_high[way]])
    assert artists.points[4] is None
    assert [text.get_text() for text in artists.axes.texts if text.get_text()[0] == "n"] == [
        "not determined"
    ]
    assert [text.get_text() for text in artists.counts] == ["9/9", "9/9", "9/9", "9/9", "0/9"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("width", ["half", "column", "page"])
def test_nothing_leaves_the_figure(style, width):
    maps = {HOSTILE: ridge_map(), "CKA, no massive dimensions": ridge_map(), "x" * 60: ridge_map()}
    figure = robustness_figure(made_robustness(maps=maps), Style.named(style, width=width))
    assert whole(figure)
    upper, lower = (ax.get_window_extent() for ax in figure.axes)
    if Style.named(style, width=width).inches >= 6:
        assert upper.x1 < lower.x0
    else:
        assert upper.y0 > lower.y1


def test_the_caption_says_what_is_drawn_and_what_survives():
    found = made_robustness()
    said = robustness_caption(found)
    assert said.startswith(
        "Which layer of MoE each layer of Engram is like, in 5 ways: soft alignment index over the "
        "5 most similar rows of each column (left or above; band: 95 % interval of CKA over "
        "documents; dotted: equal depth)"
    )
    assert "On 480 to 512 samples." in said
    assert "CKA is CKA with the linear kernel, minibatch estimator. Also: RSA: Spearman's" in said
    assert found.summary() in said
    assert "nearest layer, where it is determined" in robustness_caption(found, curve="depth")


def test_the_table_has_a_row_a_way():
    text = to_latex(made_robustness())
    rows = [line.split(" & ") for line in text.splitlines() if line.endswith("\\\\")]
    assert rows[0][:5] == [
        "Way", "Nearest depth (layers)", "95\\,\\% interval", "Determined", "Same layer",
    ]  # fmt: skip
    assert rows[0][5:] == ["Layer 3: nearest", "soft alignment ($k = 5$) \\\\"]
    by_name = {row[0]: row[1:] for row in rows[1:]}
    assert by_name["CKA, z-scored"][2:5] == ["9 of 9", "9 of 9", "5.0"]
    assert by_name["Procrustes"][:5] == ["--", "--", "0 of 9", "0 of 0", "--"]
    assert "Layer" not in to_latex(made_robustness(layer=None))
    with pytest.raises(ComparisonError, match="a LaTeX table holds one Robustness, found 2"):
        to_latex([made_robustness(), made_robustness()])
