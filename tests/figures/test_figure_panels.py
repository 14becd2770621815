import numpy as np
import pytest
from drawn import looked_at, made_lens, made_map, made_sweep

from engramcka import palettes
from engramcka.errors import ComparisonError, ConfigError
from engramcka.figures import (
    Style,
    cka_panels,
    difference_figure,
    paper_figure,
    plot_cka_difference,
)
from engramcka.paper import published_maps, published_sweep
from engramcka.results import CkaMap


def bars(figure):
    """Axes of colour bars, wherever they hang."""
    inside = [child for ax in figure.axes for child in ax.child_axes]
    return inside + [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (7, 4)])
def test_maps_share_one_bar_and_have_one_size(count, columns):
    figure = cka_panels([made_map(8, 8) for _ in range(count)], columns=columns)
    figure.draw_without_rendering()
    panels = [ax for ax in figure.axes if ax.collections and ax.get_label() != "<colorbar>"]
    sizes = np.array([ax.get_window_extent().size for ax in panels])
    assert len(panels) == count
    np.testing.assert_allclose(sizes, sizes[0, 0], rtol=1e-3)
    assert len(bars(figure)) == 1


def test_the_bar_reaches_over_all_rows():
    figure = cka_panels([made_map(8, 8) for _ in range(4)], columns=2)
    figure.draw_without_rendering()
    (bar,) = bars(figure)
    boxes = [ax.get_window_extent() for ax in figure.axes if ax is not bar]
    own = bar.get_window_extent()
    assert own.y1 == pytest.approx(max(box.y1 for box in boxes), abs=1.5)
    assert own.y0 == pytest.approx(min(box.y0 for box in boxes), abs=1.5)
    assert own.x0 > max(box.x1 for box in boxes)


def test_rows_of_one_y_model_name_it_once():
    figure = cka_panels([made_map(8, 8, x_label="a"), made_map(8, 8, x_label="b")])
    first, second = figure.axes[:2]
    assert first.get_ylabel() == "MoE layer"
    assert second.get_ylabel() == ""
    assert [first.get_xlabel(), second.get_xlabel()] == ["a layer", "b layer"]
    assert [first.get_title(), second.get_title()] == ["(a)", "(b)"]
    other = cka_panels([made_map(8, 8, y_label="p"), made_map(8, 8, y_label="q")])
    assert [ax.get_ylabel() for ax in other.axes[:2]] == ["p layer", "q layer"]


def test_wrong_panels_are_refused():
    with pytest.raises(ConfigError, match="at least one map"):
        cka_panels([])
    with pytest.raises(ConfigError, match="2 maps have 1 titles"):
        cka_panels([made_map(), made_map()], titles=["one"])
    with pytest.raises(ConfigError, match="1 to 2 columns, not 3"):
        cka_panels([made_map(), made_map()], columns=3)


def test_a_difference_is_first_minus_second_and_zero_is_neutral():
    one = CkaMap([[0.5, 0.9], [0.2, 0.4]], y_label="MoE", x_label="new")
    two = CkaMap([[0.5, 0.6], [0.4, 0.4]], y_label="MoE", x_label="old")
    figure = difference_figure(one, two, diagonal=False)
    ax = figure.axes[0]
    at = looked_at(figure)
    apart = np.array([[0.0, 0.3], [-0.2, 0.0]])
    for i in range(2):
        for j in range(2):
            wanted = palettes.colours(apart[i, j], "diverging", -0.3, 0.3) / 255
            np.testing.assert_allclose(at(ax, j + 1.2, i + 1.2), wanted, atol=0.03)
    assert ax.collections[0].get_clim() == pytest.approx((-0.3, 0.3))
    assert ax.get_xlabel() == "new − old layer"
    assert ax.get_ylabel() == "MoE layer"


def test_equal_maps_and_maps_of_other_layers():
    same = plot_cka_difference(made_map(), second=made_map())
    assert same.cells.get_clim() == (-1.0, 1.0)
    assert same.curve is None
    with pytest.raises(ComparisonError, match=r"x_layers are 1..6 \(6 layers\) and \[1, 2, 3\]"):
        difference_figure(made_map(6, 6), made_map(6, 3))
    with pytest.raises(ComparisonError, match="above 0"):
        difference_figure(made_map(), made_map(), limit=0.0)


@pytest.mark.parametrize("style", ["plain", "neurips", Style.named("icml", width="page")])
def test_the_papers_figures_are_whole(style):
    figure = paper_figure(list(published_maps().values()), published_sweep(), style, first_layer=0)
    figure.draw_without_rendering()
    inches = style.inches if isinstance(style, Style) else Style.named(style).inches
    content = figure.get_tightbbox(figure.canvas.get_renderer())
    assert content.x0 >= -0.01
    assert content.x1 <= inches + 0.01
    assert content.height == pytest.approx(figure.get_figheight(), abs=0.15)
    left, right, sweep = figure.axes[:3]
    assert left.get_window_extent().width == pytest.approx(
        right.get_window_extent().width, rel=0.01
    )
    assert [ax.get_title() for ax in (left, right, sweep)] == ["(a)", "(b)", "(c)"]
    if inches > 6:
        assert sweep.get_window_extent().height == pytest.approx(
            left.get_window_extent().height, rel=0.02
        )


def overlaps(one, other):
    return (
        min(one.x1, other.x1) - max(one.x0, other.x0) > 0.5
        and min(one.y1, other.y1) - max(one.y0, other.y0) > 0.5
    )


@pytest.mark.parametrize("width", ["column", "page", 10.0])
@pytest.mark.parametrize("shapes", [((31, 30), (31, 29), (31, 31)), ((30, 12), (12, 30), (4, 40))])
def test_maps_of_any_shape_have_one_height_and_whole_labels(shapes, width):
    names = ["SmolLM2-135M without block 13", "SmolLM2-135M without 13, 14", "SmolLM2 with noise"]
    maps = [
        made_map(y, x, y_label="SmolLM2", x_label=name)
        for (y, x), name in zip(shapes, names, strict=True)
    ]
    style = Style.named(width=width)
    figure = paper_figure(maps, made_sweep(), style, lens=[made_lens(30)])
    figure.draw_without_rendering()
    panels = figure.axes[1:4]
    heights = [ax.get_window_extent().height for ax in panels]
    np.testing.assert_allclose(heights, heights[0], atol=0.5)
    tops = [ax.get_window_extent().y1 for ax in panels]
    np.testing.assert_allclose(tops, tops[0], atol=0.5)
    for (y, x), ax in zip(shapes, panels, strict=True):
        box = ax.get_window_extent()
        assert box.width / box.height == pytest.approx(min(max(x / y, 0.25), 4), rel=0.02)
    texts = [
        text
        for ax in figure.axes[:5]
        for text in (ax.xaxis.label, ax.yaxis.label, ax.title)
        if text.get_text()
    ]
    boxes = [text.get_window_extent() for text in texts]
    for index, box in enumerate(boxes):
        assert -0.5 <= box.y0 < box.y1 <= figure.bbox.height + 0.5
        assert not any(overlaps(box, other) for other in boxes[:index]), texts[index].get_text()
    if shapes[0] == (31, 30):
        shown = ["".join(ax.get_xlabel().split()) for ax in panels]
        assert shown == [f"{name}layer".replace(" ", "") for name in names]


def test_more_maps_than_fit_are_refused():
    with pytest.raises(ConfigError, match="up to three maps"):
        paper_figure([made_map()] * 4, made_sweep())


def test_a_figure_is_as_wide_as_its_style():
    assert cka_panels([made_map()], Style.named("acl")).get_figwidth() == pytest.approx(3.03)


def test_dark_figures_are_light_on_dark():
    style = Style.named("plain", dark=True)
    figure = cka_panels([made_map()], style)
    assert figure.get_facecolor()[:3] == pytest.approx((0.082, 0.082, 0.106), abs=0.01)
    assert figure.axes[0].xaxis.label.get_color() == style.ink
    assert all(label.get_color() == style.ink for label in figure.axes[0].get_xticklabels())


@pytest.mark.parametrize(
    ("name", "width", "inches"),
    [
        ("neurips", "column", 5.5), ("icml", "column", 3.25), ("icml", "page", 6.75),
        ("neurips", "half", 2.625), ("acl", "page", 6.3), ("nature", "column", 3.504),
        ("plain", 4.0, 4.0),
    ],
)  # fmt: skip
def test_styles_are_as_wide_as_the_venue_says(name, width, inches):
    style = Style.named(name, width=width)
    assert style.inches == pytest.approx(inches)


@pytest.mark.parametrize("wrong", [{"width": "wide"}, {"width": 0.2}, {"font": "No Such Font"}])
def test_wrong_styles_are_refused(wrong):
    with pytest.raises(ConfigError):
        Style.named("plain", **wrong)


def test_maps_of_the_same_models_are_told_apart_by_how_they_were_made():
    from engramcka.figures.panels import told_apart
    from engramcka.results import CkaMap

    def made(**fields):
        return CkaMap(np.eye(3), **{"y_label": "A", "x_label": "B", **fields})

    assert told_apart([made(), made(standardize="zscore"), made(normalize="rms")]) == [
        "plain",
        "zscore",
        "rms",
    ]
    assert told_apart([made(), made(n_massive_dropped=3)]) == ["plain", "without massive samples"]
    assert told_apart([made(), made(x_label="C")]) == ["", ""]
