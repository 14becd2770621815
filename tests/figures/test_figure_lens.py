import numpy as np
import pytest
from drawn import looked_at, made_lens, made_map, made_sweep
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from engramcka.errors import ComparisonError, ConfigError
from engramcka.figures import (
    READINGS,
    Style,
    lens_caption,
    lens_figure,
    paper_figure,
    plot_lens,
)
from engramcka.paper import published_lens, published_maps, published_sweep


def test_each_curve_stands_at_its_layers_and_values_with_its_interval():
    curves = [made_lens(), made_lens(label="Engram", shift=-1.0)]
    for reading in READINGS:
        artists = plot_lens(curves, reading=reading, first_layer=0)
        for curve, line, band in zip(curves, artists.curves, artists.bands, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), np.arange(12))
            np.testing.assert_array_equal(line.get_ydata(), getattr(curve, reading))
            corners = band.get_paths()[0].vertices
            at_two = corners[corners[:, 0] == 2, 1]
            assert at_two.min() == getattr(curve, f"{reading}_low")[2]
            assert at_two.max() == getattr(curve, f"{reading}_high")[2]
    assert plot_lens(curves, interval=False).bands == [None, None]
    assert plot_lens(made_lens(interval=0.0)).bands == [None]


def test_layers_in_any_order_and_gaps_stay_what_they_are():
    curve = made_lens(4)
    turned = made_lens(4, kl=curve.kl[::-1], interval=0.0)
    turned = type(turned)(**{**turned.__dict__, "layers": (4, 3, 2, 1)})
    np.testing.assert_array_equal(plot_lens(turned).curves[0].get_xdata(), [1, 2, 3, 4])
    np.testing.assert_array_equal(plot_lens(turned).curves[0].get_ydata(), curve.kl)
    values = np.array([3.0, np.nan, 1.0])
    line = plot_lens(made_lens(3, kl=values, interval=0.0)).curves[0]
    np.testing.assert_array_equal(line.get_ydata(), values)


def test_the_line_drawn_has_its_curves_colour():
    figure = lens_figure([made_lens(), made_lens(label="Engram", shift=-3.0)], interval=False)
    at = looked_at(figure, dpi=300)
    for line, curve in zip(figure.axes[0].lines, (9.0, 6.0), strict=True):
        value = curve * (1 - 3 / 12) ** 1.5
        np.testing.assert_allclose(at(figure.axes[0], 3, value), to_rgb(line.get_color()), atol=0.1)


def test_a_logarithmic_axis_leaves_out_what_is_not_above_zero():
    curve = made_lens()
    artists = plot_lens([curve], log=True)
    low, high = artists.axes.get_ylim()
    assert curve.kl[-1] == 0
    assert 0 < low <= curve.kl[-2]
    assert high > curve.kl_high.max()
    labels = [label.get_text() for label in artists.axes.get_yticklabels()]
    assert len(labels) >= 2
    np.testing.assert_allclose([float(text) for text in labels], artists.axes.get_yticks())
    assert plot_lens([made_lens(kl=np.zeros(12), interval=0.0)], log=True).axes.get_ylim()[0] == 0
    wide = plot_lens([made_lens(2, kl=[9.0, 1e-12], interval=0.0)], log=True)
    assert wide.axes.get_ylim()[0] > 1e-3


def test_bands_on_a_logarithmic_axis_stay_where_they_are_above_zero():
    """Every curve ends at zero with an interval of no width: nothing is drawn to there."""
    curve = made_lens(interval=2.0)
    figure = lens_figure([curve, made_lens(label="wide", shift=-5.0, interval=9.0)], log=True)
    (ax,) = figure.axes
    low = ax.get_ylim()[0]
    for band, given in zip(ax.collections, (2.0, 9.0), strict=True):
        corners = band.get_paths()[0].vertices
        assert corners[:, 1].min() >= min(low, curve.kl[-2])
        assert corners[:, 0].max() == 11
        inside = made_lens(interval=given, shift=0.0 if given == 2.0 else -5.0)
        for layer in range(1, 12):
            there = corners[corners[:, 0] == layer, 1]
            assert there.max() == pytest.approx(inside.kl_high[layer - 1])
            assert there.min() == pytest.approx(max(inside.kl_low[layer - 1], low))
    figure = lens_figure([curve], log=True)
    at = looked_at(figure, dpi=300)
    for layer in (2, 4, 6, 8):
        np.testing.assert_allclose(at(figure.axes[0], layer, 1.5 * low), 1.0, atol=0.01)


def test_memory_off_is_dashed_in_the_colour_of_its_model_and_named():
    artists = plot_lens([made_lens(), made_lens(label="E"), made_lens(label="E", memory=False)])
    moe, on, off = artists.curves
    assert on.get_color() == off.get_color() != moe.get_color()
    assert (on.get_linestyle(), off.get_linestyle()) == ("-", "--")
    names = [text.get_text() for text in artists.legend.get_texts()]
    assert names == ["MoE", "E", "E, memory off"]
    assert plot_lens(made_lens()).legend is None


def test_long_and_hostile_names_stay_plain_and_inside():
    names = ["$x_1^2$ \x1b[31m", "_hidden", "a very long name " * 9]
    figure = lens_figure([made_lens(label=name) for name in names], "icml")
    figure.draw_without_rendering()
    legend = figure.axes[0].get_legend()
    texts = legend.get_texts()
    assert [text.get_text() for text in texts[:2]] == ["$x_1^2$ [31m", "_hidden"]
    assert "…" in texts[2].get_text()
    assert not any(text.get_usetex() or text.get_parse_math() for text in texts)
    box, frame = legend.get_window_extent(), figure.axes[0].get_window_extent()
    assert frame.x0 <= box.x0 < box.x1 <= frame.x1


def test_different_divergences_are_never_in_one_panel():
    mixed = [made_lens(), made_lens(direction="layer||final")]
    with pytest.raises(ComparisonError, match=r"final\|\|layer and layer\|\|final are different"):
        plot_lens(mixed)
    assert len(plot_lens(mixed, reading="entropy").curves) == 2
    assert plot_lens(made_lens()).axes.get_ylabel().startswith("KL(final ‖ layer)")
    beside = plot_lens([made_lens(), *published_lens().values()])
    assert beside.axes.get_ylabel().startswith("KL divergence")


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ConfigError, match="at least one curve"):
        plot_lens([])
    with pytest.raises(ConfigError, match="no lens reading 'loss'; there are kl, entropy, top1"):
        plot_lens(made_lens(), reading="loss")
    with pytest.raises(ComparisonError, match="has 'top1'"):
        plot_lens(made_lens(top1=None, top1_low=None, top1_high=None), reading="top1")
    with pytest.raises(ConfigError, match="at least one of"):
        lens_figure(made_lens(), readings=())


def test_it_draws_on_the_callers_axes():
    ax = Figure().subplots()
    assert plot_lens(made_lens(), ax, title="mine").axes is ax
    assert ax.get_title() == "mine"


@pytest.mark.parametrize(("layers", "width"), [(1, "column"), (30, "column"), (200, "page")])
def test_panels_are_whole_and_their_ticks_stay_after_the_layout(layers, width):
    style = Style.named("icml", width=width)
    figure = lens_figure(made_lens(layers, final_entropy=3.1), style, readings=READINGS)
    figure.set_dpi(300)
    figure.draw_without_rendering()  # outside the style's settings, as a file is written
    content = figure.get_tightbbox(figure.canvas.get_renderer())
    assert content.x0 >= -0.01
    assert content.x1 <= style.inches + 0.01
    assert content.y0 >= -0.01
    assert content.y1 <= figure.get_figheight() + 0.01


def test_the_papers_figures_four_and_five_are_one_figure():
    lens, maps = list(published_lens().values()), list(published_maps().values())
    for width, rows in ((10.0, [4]), ("page", [3, 1]), ("column", [1, 2, 1])):
        style = Style.named("icml", width=width)
        figure = paper_figure(maps, published_sweep(), style, lens=lens, first_layer=0)
        axes = figure.axes[:4]
        assert [ax.get_title() for ax in axes] == ["(a)", "(b)", "(c)", "(d)"]
        middle = [round(ax.get_window_extent().y1, -1) for ax in axes]
        assert [middle.count(y) for y in dict.fromkeys(middle)] == rows
        content = figure.get_tightbbox(figure.canvas.get_renderer())
        assert content.height == pytest.approx(figure.get_figheight(), abs=0.15)
        assert content.x1 <= style.inches + 0.01
    assert axes[0].get_xlim()[0] < 0.5 < axes[3].get_xlim()[1]
    assert len(axes[0].lines) == 3


def test_the_papers_figure_composes_what_there_is():
    assert [ax.get_title() for ax in paper_figure(lens=[made_lens()]).axes] == [""]
    two = paper_figure([made_map()], lens=[made_lens()])
    assert [ax.get_title() for ax in two.axes] == ["(a)", "(b)"]
    assert len(paper_figure((), made_sweep(), lens=[made_lens()]).axes) == 2
    with pytest.raises(ConfigError, match="found none"):
        paper_figure()


def test_a_caption_says_what_is_known():
    caption = lens_caption([made_lens(), made_lens(memory=False)])
    assert "KL(final || layer)" in caption
    assert "4,096 tokens" in caption
    assert "Dashed: memory off" in caption
    published = lens_caption(list(published_lens().values()))
    assert "unknown direction" in published
    assert "no interval" in published


def test_a_caption_notes_once_what_holds_with_memory_on_and_off():
    on = made_lens(warnings=("few tokens", "one document"))
    off = made_lens(memory=False, warnings=("few tokens", "no head"))
    caption = lens_caption([on, off, made_lens(label="Engram", warnings=("few tokens",))])
    assert caption.partition("Layers count from 1. ")[2] == (
        "Note on MoE: few tokens. Note on MoE: one document. Note on MoE, memory off: no head. "
        "Note on Engram: few tokens."
    )
