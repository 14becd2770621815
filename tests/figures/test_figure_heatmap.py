import itertools

import numpy as np
import pytest
from drawn import looked_at, made_map, pixels
from matplotlib.figure import Figure

from engramcka import palettes
from engramcka.errors import ComparisonError, ConfigError
from engramcka.figures import Style, cka_figure, paper_figure, plot_cka_map, series_figure
from engramcka.paper import published_maps
from engramcka.results import CkaMap, jackknife_interval, soft_alignment

BARE = {"alignment": False, "diagonal": False}


def axes_of(figure):
    return figure.axes[0]


@pytest.mark.parametrize("palette", ["magma", "cividis", "diverging"])
def test_each_cell_has_its_values_colour_row_one_at_the_bottom(palette):
    cka = made_map(4, 5)
    figure = cka_figure(cka, palette=palette, **BARE)
    at = looked_at(figure)
    for i in range(4):
        for j in range(5):
            drawn = at(axes_of(figure), j + 1.3, i + 1.3)
            wanted = palettes.colours(cka.similarity[i, j], palette) / 255
            np.testing.assert_allclose(drawn, wanted, atol=0.02)


def test_values_outside_the_scale_take_its_end_colours():
    figure = cka_figure(CkaMap([[-0.2, 1.3], [0.0, 1.0]]), **BARE)
    at = looked_at(figure)
    for x in (1, 2):
        np.testing.assert_allclose(
            at(axes_of(figure), x + 0.2, 1.2), at(axes_of(figure), x + 0.2, 2.2), atol=1e-6
        )


@pytest.mark.parametrize(("first_layer", "k"), [(0, 1), (1, 5)])
def test_the_curve_is_the_soft_alignment_in_layer_numbers(first_layer, k):
    cka = made_map(30, 24)
    artists = plot_cka_map(cka, first_layer=first_layer, k=k)
    np.testing.assert_array_equal(artists.curve.get_xdata(), np.arange(24) + first_layer)
    np.testing.assert_array_equal(artists.curve.get_ydata(), cka.soft_alignment(k, first_layer))


def test_the_papers_curve_for_engram_layer_five_is_drawn_at_moe_layer_twelve():
    artists = plot_cka_map(published_maps()["Engram-27B"], first_layer=0)
    assert artists.curve.get_xdata()[5] == 5
    assert artists.curve.get_ydata()[5] == pytest.approx(12.2, abs=0.05)


def test_the_band_is_the_jackknife_interval_of_the_curve():
    cka = made_map(12, 8, groups=10)
    artists = plot_cka_map(cka, k=3)
    without = soft_alignment(cka.jackknife, np.arange(1, 13), 3)
    low, high = jackknife_interval(cka.soft_alignment(3), without)
    for line, end in zip(artists.band, (low, high), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 9))
        np.testing.assert_allclose(line.get_ydata(), end)
    assert plot_cka_map(cka, interval=False).band is None
    assert plot_cka_map(made_map()).band is None


def wide():
    """A map whose alignment hardly any column knows."""
    similarity = made_map(8, 8).similarity
    noise = np.random.default_rng(1).normal(0, 0.5, (10, 8, 8))
    jackknife = np.clip(similarity + noise, 0.01, 1)
    return CkaMap(similarity, jackknife=jackknife, series="s", step=1)


@pytest.mark.parametrize("palette", ["magma", "viridis", "cividis"])
@pytest.mark.parametrize("draw", [cka_figure, series_figure, paper_figure])
def test_a_wide_interval_leaves_the_cells_their_colours(draw, palette):
    """As the colour bar has them, but for the few pixels of the lines."""
    cka = wide()
    low, high = cka.soft_alignment_interval()
    assert (high - low).max() > 4
    maps = cka if draw is cka_figure else [cka]
    figure = draw(maps, style=Style.named("plain", width=4.0), palette=palette)
    ax, dpi = figure.axes[0], 200
    image = pixels(figure, dpi)
    for row in range(8):
        for column in range(8):
            corners = [(column + 0.6, row + 1.4), (column + 1.4, row + 0.6)]
            (left, top), (right, bottom) = ax.transData.transform(corners) * dpi / figure.dpi
            height = image.shape[0]
            cell = image[int(height - top) + 1 : int(height - bottom), int(left) + 1 : int(right)]
            wanted = palettes.colours(cka.similarity[row, column], palette) / 255
            as_wanted = (np.abs(cell - wanted) < 0.02).all(axis=2)
            assert as_wanted.mean() > 0.6, (row, column)


@pytest.mark.parametrize("draw", [cka_figure, paper_figure])
def test_the_curve_is_seen_on_the_brightest_and_the_darkest_cells(draw):
    """White over a dark casing: both are there within a few pixels of it, all along."""
    for value in (0.0, 1.0):
        cka = CkaMap(np.full((8, 8), value) + np.eye(8) * 1e-3, y_label="y", x_label="x")
        maps = cka if draw is cka_figure else [cka]
        figure = draw(maps, style=Style.named("plain", width=4.0), diagonal=False)
        ax, dpi = figure.axes[0], 300
        image = pixels(figure, dpi).mean(axis=2)
        line = cka.soft_alignment()
        for column in range(1, 7):
            across = []
            for x in np.linspace(column + 1, column + 1.9, 20):
                y = np.interp(x, np.arange(1, 9), line)
                at, up = ax.transData.transform((x, y)) * dpi / figure.dpi
                row = round(image.shape[0] - 1 - up)
                across.append(image[row - 8 : row + 9, round(at)])
            assert np.max(across) > 0.95
            assert np.min(across) < 0.4


def test_chosen_layers_stand_at_their_numbers():
    cka = made_map(3, 4, y_layers=(4, 8, 12), x_layers=(12, 8, 4, 16))
    figure = cka_figure(cka, **BARE)
    at = looked_at(figure)
    drawn = at(axes_of(figure), 3.0, 9.0)  # y layer 8, x layer 4: row 1, column 2
    np.testing.assert_allclose(drawn, palettes.colours(cka.similarity[1, 2]) / 255, atol=0.02)
    curve = plot_cka_map(cka).curve
    np.testing.assert_array_equal(curve.get_xdata(), [4, 8, 12, 16])
    np.testing.assert_array_equal(curve.get_ydata(), cka.soft_alignment()[[2, 1, 0, 3]])


def test_a_layer_named_twice_is_refused():
    with pytest.raises(ComparisonError, match="x_layers names layer 7 twice"):
        plot_cka_map(made_map(3, 3, x_layers=(7, 2, 7)))


def test_missing_rows_columns_and_cells_are_grey_and_hatched():
    cka = made_map(6, 6)
    cka.similarity[2] = np.nan
    cka.similarity[:, 4] = np.nan
    cka.similarity[5, 1] = np.nan
    figure = cka_figure(cka, **BARE)
    at = looked_at(figure, dpi=300)
    for i, j in [(2, 0), (2, 5), (0, 4), (5, 4), (5, 1)]:
        around = [at(axes_of(figure), j + 1 + d, i + 1.1) for d in np.linspace(-0.3, 0.3, 60)]
        assert np.ptp(np.array(around), axis=1).max() < 1e-6  # grey: no hue
        assert len(np.unique(np.round(around, 2), axis=0)) > 1  # and not plain
    np.testing.assert_allclose(
        at(axes_of(figure), 1.2, 1.2), palettes.colours(cka.similarity[0, 0]) / 255, atol=0.02
    )


def test_a_map_without_any_value_is_drawn_without_a_curve():
    artists = plot_cka_map(CkaMap(np.full((3, 3), np.nan)))
    assert artists.missing is not None
    assert not np.isfinite(artists.curve.get_ydata()).any()


@pytest.mark.parametrize(("y", "x"), [(1, 1), (6, 30), (30, 30), (80, 80), (200, 200)])
def test_everything_is_inside_and_numbers_do_not_touch(y, x):
    figure = cka_figure(made_map(y, x, groups=4), "icml")
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    content = figure.get_tightbbox(renderer)
    assert content.x0 >= -0.01
    assert content.x1 <= 3.25 + 0.01
    assert content.y0 >= -0.01
    assert content.y1 <= figure.get_figheight() + 0.01
    ax = figure.axes[0]
    for axis, low, high in ((ax.xaxis, "x0", "x1"), (ax.yaxis, "y0", "y1")):
        boxes = [label.get_window_extent(renderer) for label in axis.get_ticklabels()]
        ends = sorted((getattr(box, low), getattr(box, high)) for box in boxes)
        assert len(ends) >= 1
        assert all(after[0] - before[1] > 1 for before, after in itertools.pairwise(ends))


def test_cells_are_square_whatever_the_shape():
    for y, x in [(12, 24), (24, 12), (30, 30)]:
        ax = cka_figure(made_map(y, x)).axes[0]
        box = ax.get_window_extent()
        assert box.width / x == pytest.approx(box.height / y, rel=1e-3)


def test_the_bar_is_as_high_as_the_map():
    figure = cka_figure(made_map(12, 24))
    figure.draw_without_rendering()
    bar = figure.axes[0].child_axes[0]
    ours, bars = figure.axes[0].get_window_extent(), bar.get_window_extent()
    assert (bars.y0, bars.y1) == pytest.approx((ours.y0, ours.y1), abs=0.5)
    np.testing.assert_allclose(list(bar.get_yticks())[:: len(bar.get_yticks()) - 1], [0, 1])


def test_it_draws_on_the_callers_axes_and_leaves_the_settings_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure = Figure()
    ax = figure.subplots()
    artists = plot_cka_map(made_map(), ax, title="mine")
    assert artists.axes is ax
    assert ax.get_title() == "mine"
    cka_figure(made_map(), "nature")
    assert dict(matplotlib.rcParams) == before


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match="no palette 'jet'"):
        plot_cka_map(made_map(), palette="jet")
    with pytest.raises(ConfigError, match="no figure style 'nips'; there are plain, neurips"):
        cka_figure(made_map(), "nips")
    with pytest.raises(ComparisonError, match="k = 0"):
        plot_cka_map(made_map(), k=0)
