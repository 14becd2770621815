"""Allocation sweeps, trainings, memory ablations and gates: drawn where their numbers are."""

import numpy as np
import pytest
from drawn import made_allocation, made_gates, made_memory, made_text, made_training
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from engramcka.errors import ComparisonError, ConfigError
from engramcka.figures import (
    STYLES,
    gate_text_caption,
    gate_text_figure,
    gates_figure,
    memory_figure,
    plot_allocation,
    plot_gate_orders,
    plot_gate_text,
    plot_gates,
    plot_memory,
    plot_training,
    training_figure,
)
from engramcka.figures.labels import drawable
from engramcka.figures.token_lines import mirrored, pieces_of, set_in_lines, visual_order
from engramcka.results import AllocationSweep, GateMap, GateText, MemoryAblation, TrainingCurve

HOSTILE = "$x_1^2$ \\frac \x1b[31m _a"


def whole(figure):
    """Whether nothing leaves the figure."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    width, height = figure.get_size_inches()
    return min(box.x0, box.y0) > -0.02 and box.x1 < width + 0.02 and box.y1 < height + 0.02


def test_a_u_curve_has_its_means_its_lowest_point_and_the_experts_alone():
    sweep = made_allocation()
    artists = plot_allocation(sweep)
    line, _, (bars,) = artists.points[0]
    np.testing.assert_allclose(line.get_xdata(), sweep.rho)
    np.testing.assert_allclose(line.get_ydata(), sweep.loss.mean(axis=1))
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    deviation = np.std(sweep.loss, axis=1, ddof=1)
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * deviation)
    (ring,) = artists.marks
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == sweep.best
    assert artists.levels[0].get_ydata()[0] == pytest.approx(sweep.mean[-1])
    assert plot_allocation(AllocationSweep([0.5, 0.9], [1.0, 2.0])).levels == []


def test_u_curves_of_other_units_or_without_a_point():
    two = plot_allocation([made_allocation(), made_allocation(label=HOSTILE)])
    assert [text.get_text() for text in two.legend.get_texts()] == ["3B", "$x_1^2$ \\frac [31m _a"]
    with pytest.raises(ComparisonError, match="bits/byte have no common axis"):
        plot_allocation([made_allocation(), made_allocation(unit="bits/byte")])
    with pytest.raises(ConfigError, match="at least one"):
        plot_allocation([])
    empty = plot_allocation(AllocationSweep([0.5, 1.0], [np.nan, np.nan]))
    assert [text.get_text() for text in empty.axes.texts] == ["no loss yet"]
    one = plot_allocation(AllocationSweep([0.8], [1.7]))
    assert [label.get_text() for label in one.axes.get_xticklabels()] == ["0.8"]


def test_training_curves_stand_at_their_steps():
    curve = made_training()
    artists = plot_training([curve, made_training("Engram")])
    np.testing.assert_array_equal(artists.training[0].get_ydata(), curve.loss)
    np.testing.assert_array_equal(artists.validation[0].get_xdata(), curve.validation_step)
    np.testing.assert_array_equal(artists.validation[0].get_ydata(), curve.validation_loss)
    assert artists.training[0].get_color() != artists.training[1].get_color()
    long = plot_training(made_training(steps=9001)).training[0]
    assert 3000 < len(long.get_xdata()) <= 5000


def test_a_training_that_spiked_or_has_only_begun():
    curve = made_training()
    loss = np.where(curve.step == 50, 900.0, curve.loss)
    spiked = TrainingCurve(curve.step, loss, curve.validation_step, curve.validation_loss)
    assert plot_training(spiked).axes.get_ylim()[1] < 20
    none = plot_training(TrainingCurve([], [], [], []))
    assert [text.get_text() for text in none.axes.texts] == ["no loss yet"]
    begun = plot_training(TrainingCurve([1], [9.0], [], []))
    assert begun.validation == [None]
    assert begun.training[0].get_marker() == "o"
    with pytest.raises(ConfigError, match="at least one curve"):
        plot_training([])
    many = plot_training([made_training(f"m{index}") for index in range(40)])
    names = [text.get_text() for text in many.legend.get_texts()]
    assert names[-1] == f"and {40 - len(names) + 1} more"
    assert whole(training_figure([made_training(f"m{index}") for index in range(40)]))


def test_memory_bars_are_the_share_kept_with_its_interval():
    ablation = made_memory()
    artists = plot_memory(ablation)
    widths = [bar.get_width() for bar in artists.bars[0].patches]
    np.testing.assert_allclose(widths, np.exp(ablation.loss_on - ablation.loss_off))
    segments = artists.bars[0].errorbar.lines[2][0].get_segments()
    np.testing.assert_allclose(
        [segment[:, 0] for segment in segments],
        np.exp(-np.column_stack([ablation.difference_high, ablation.difference_low])),
    )
    assert [text.get_text() for text in artists.values] == [
        "74 % (+0.30)", "33 % (+1.10)", "98 % (+0.02)",
    ]  # fmt: skip


def test_memory_ablations_that_cannot_share_a_figure_and_classes_without_tokens():
    nan = np.nan
    lone = MemoryAblation(("all", HOSTILE), [2.0, nan], [1.9, nan])
    artists = plot_memory(lone)
    assert [text.get_text() for text in artists.values] == ["111 % (−0.10)", "no tokens"]
    assert whole(memory_figure([made_memory(), made_memory("E", 1.0)], "icml"))
    assert whole(memory_figure(lone, "acl"))
    with pytest.raises(ComparisonError, match="has token classes all"):
        plot_memory([made_memory(), lone])
    with pytest.raises(ConfigError, match="with a token class"):
        plot_memory([])


def test_gates_stand_at_their_means_a_row_a_type():
    gates = made_gates()
    artists = plot_gates(gates)
    assert len(artists.points) == 2
    for module, container in enumerate(artists.points):
        np.testing.assert_allclose(container.lines[0].get_xdata(), gates.alpha[:, module].ravel())
        rows = np.round(container.lines[0].get_ydata()).astype(int)
        np.testing.assert_array_equal(rows, np.repeat([0, 1, 2], 4))
    assert [text.get_text() for text in artists.legend.get_texts()] == ["layer 2", "layer 15"]
    names = [label.get_text() for label in artists.axes.get_yticklabels()]
    assert names == ["all (100)", "outside (101)", "person (102)"]


def test_n_gram_orders_are_parts_of_one_bar_with_their_collisions():
    texts = plot_gate_orders(made_gates())
    assert texts[1][1].get_text() == "3-grams 90 %, 20 % collide"
    assert texts[1][0].get_text() in ("", "2")
    with pytest.raises(ComparisonError, match="no shares of n-gram orders"):
        plot_gate_orders(made_gates(order_share=None))
    many = made_gates(types=tuple(f"{HOSTILE} {index}" for index in range(12)))
    assert whole(gates_figure(many, "icml"))
    assert whole(gates_figure(GateMap((2,), ("all",), np.full((1, 1, 1), 0.5)), "acl"))


def test_each_token_stands_on_the_colour_of_its_gate():
    text = made_text(["Al", "exander", " the", " Great"], modules=2, streams=2)
    ax = Figure(figsize=(4, 1)).add_axes((0, 0, 1, 1))
    for stream, wanted in ((None, text.alpha[:, 1].mean(axis=1)), (1, text.alpha[:, 1, 1])):
        artists = plot_gate_text(text, ax, module=1, stream=stream)
        assert [drawn.get_text() for drawn in artists.texts] == ["Al", "exander", "the", "Great"]
        faces = artists.grounds.get_facecolors()[:, :3]
        ground, strong = np.array(to_rgb("white")), np.array(to_rgb("#d55e00"))
        np.testing.assert_allclose(faces, ground + wanted[:, None] * (strong - ground), atol=0.01)
    for wrong in ({"module": 2}, {"stream": 5}):
        with pytest.raises(ComparisonError, match="2 modules and 2 streams"):
            plot_gate_text(text, ax, **wrong)


def test_long_texts_are_wrapped_inside_the_page_and_counted_where_they_end():
    words = [f" w{index}" for index in range(3000)]
    gates = made_gates(texts=(made_text(["x" * 300, *words], 1, 1),), order_share=None)
    gates = GateMap((2,), ("all",), [[[0.5]]], texts=gates.texts)
    figure = gate_text_figure(gates, "icml")
    texts = figure.axes[0].texts
    assert figure.get_figheight() <= 9.01
    assert "…" in texts[0].get_text()
    shown, left = len(texts) - 1, texts[-1].get_text()
    assert left == f"… {3001 - shown:,} more tokens"
    assert whole(figure)


def test_what_texts_there_are_not_is_said():
    gates = made_gates()
    with pytest.raises(ComparisonError, match="not kept for any text"):
        gate_text_figure(made_gates(texts=()))
    with pytest.raises(ComparisonError, match="no text 4; there are 0 to 0"):
        gate_text_figure(gates, texts=[4])
    with pytest.raises(ComparisonError, match="no Engram module at layer 3; there are 2, 15"):
        gate_text_figure(gates, layers=[3])
    headings = [t.get_text() for t in gate_text_figure(gates, first_layer=0).axes[0].texts]
    assert [text for text in headings if text.startswith("layer")] == ["layer 1", "layer 14"]
    holed = GateText(("a", "b"), [[[np.nan]], [[0.5]]])
    assert whole(gate_text_figure(GateMap((2,), ("all",), [[[0.5]]], texts=(holed,))))


def test_a_character_without_a_glyph_is_drawn_as_its_number_and_named():
    fonts = STYLES["plain"].fonts
    assert drawable("a\n\tб\u200d", fonts) == ("a↵⇥б\u200d", frozenset())
    assert drawable("x\ue123\x07", fonts) == ("x[E123][0007]", frozenset("\ue123\x07"))
    gates = made_gates(texts=(made_text(["\ue123", "\x07a"]),))
    assert "numbers of 2 characters that no font here has (control)" in gate_text_caption(gates)
    assert "numbers" not in gate_text_caption(made_gates())
    assert whole(gate_text_figure(gates))


def test_right_to_left_text_starts_at_the_right_and_numbers_in_it_do_not_turn():
    tokens = ["שלום", " עולם", " (336", " BC", ")", " טוב"]
    pieces = pieces_of(tokens)
    assert "".join(piece.text for piece in pieces) == "".join(tokens)
    texts = [piece.text for piece in pieces]
    places, lines = set_in_lines(texts, [10.0] * len(texts), 200.0)
    assert lines == 1
    left = {
        texts[place.piece].strip(): place.left for place in places if texts[place.piece].strip()
    }
    assert left["שלום"] == 190.0
    assert left["שלום"] > left["עולם"] > left["BC"] > left["336"] > left["טוב"]
    turned = {texts[place.piece].strip(): place.right_to_left for place in places}
    assert (turned["336"], turned["טוב"], turned[")"]) == (False, True, True)
    assert mirrored("(") == ")"


def test_a_hebrew_word_in_english_stays_in_its_place():
    tokens = ["say", " שלום", " עולם", " now"]
    order = [index for index, _ in visual_order(tokens, False)]
    assert order == [0, 2, 1, 3]
    assert [piece.text for piece in pieces_of(["plain", " (text)"])] == ["plain", " (text)"]


def test_lines_break_between_words_after_line_ends_and_anywhere_in_chinese():
    def lines_of(tokens, room):
        places, _ = set_in_lines(tokens, [10.0 * len(token) for token in tokens], room)
        return [place.line for place in places]

    assert lines_of(["ab", "cd", " ef"], 50.0) == [0, 0, 1]
    assert lines_of(["a", "\n", "b"], 500.0) == [0, 0, 1]
    assert lines_of(list("中国四大"), 20.0) == [0, 0, 1, 1]
    assert lines_of(["aaaa", "bbbb", "cccc"], 50.0) == [0, 1, 2]
