"""Baselines: every map on one scale, the curves where their numbers are, in every style."""

import numpy as np
import pytest
from made_baseline import made_baseline, noisy_map, truth
from test_figure_robustness import whole

from engramcka.errors import ComparisonError
from engramcka.figures import STYLES, Style, baseline_caption, baseline_figure, to_latex
from engramcka.figures.baseline import plot_baseline
from engramcka.results import Baseline

HOSTILE = "$x_1^2$ \\frac \x1b[31m _a" + 9 * " long"


@pytest.mark.parametrize("first_layer", [0, 1])
def test_curves_stand_at_their_layers_with_their_bands(first_layer):
    found = made_baseline()
    artists = plot_baseline(found, first_layer=first_layer)
    for at, line in enumerate(artists.curves):
        np.testing.assert_allclose(line.get_xdata(), np.arange(3) + first_layer - 1)
        np.testing.assert_allclose(line.get_ydata(), found.best[at])
        band = np.asarray(artists.bands[at].get_paths()[0].vertices)[:, 1]
        assert band.max() == pytest.approx(found.best_high[at].max())
    names = [text.get_text() for text in artists.legend.get_texts()]
    assert names == list(found.titles)
    assert plot_baseline(found, interval=False).bands == [None, None, None]


@pytest.mark.parametrize("width", ["column", "page"])
@pytest.mark.parametrize("style", STYLES)
def test_every_map_has_a_panel_and_nothing_leaves_the_figure(style, width):
    own = noisy_map(truth(0.8), x_label=HOSTILE)
    others = {"untrained": noisy_map(truth(0.5), seed=1), HOSTILE: noisy_map(truth(0.7), seed=4)}
    found = Baseline.of(own, others, tokens="tokens alone")
    figure = baseline_figure(found, Style.named(style, width=width))
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert [title[:3] for title in titles[:2]] == ["thi", "unt"]  # the narrowest are shortened
    assert len(titles) == 3  # the tokens are a line
    shown = [ax.collections[0].get_array() for ax in figure.axes if ax.get_title()]
    for at, cells in enumerate(shown):
        np.testing.assert_allclose(np.sort(cells.ravel()), np.sort(found.similarity[at].ravel()))
    assert {ax.collections[0].get_clim() for ax in figure.axes if ax.get_title()} == {(0, 1)}
    assert whole(figure)


def test_the_caption_says_what_each_baseline_is_and_what_the_map_has_above_it():
    found = made_baseline(tokens="tokens alone")
    text = baseline_caption(found)
    assert "untrained: both models with random weights" in text
    assert "tokens alone: layer 0 of both models" in text
    assert "shuffled text:" not in text
    assert found.summary() in text
    assert "Note: this map: one dimension." in text
    rows = to_latex(found).splitlines()
    assert rows[2].startswith("Map & Mean CKA & 95\\,\\% interval & The map above it")
    low, high = found.above_low[1], found.above_high[1]
    assert f"{found.above[1]:.3f} & [{low:.3f}, {high:.3f}]" in rows[5]
    with pytest.raises(ComparisonError, match="holds one Baseline"):
        to_latex([found, found])
