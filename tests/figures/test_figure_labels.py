import warnings

import matplotlib
import numpy as np
import pytest
from drawn import made_map, made_sweep
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.font_manager import FontProperties

from engramcka.figures import FORMATS, cka_figure, figure_bytes, paper_figure, sweep_figure
from engramcka.figures.labels import elided, text_width, wrapped
from engramcka.plain_text import one_line

HOSTILE = [
    "$x_1^2$ and $unbalanced",
    r"\alpha \frac{1}{0} \input{/etc/passwd}",
    "_leading_underscore",
    "{braces} % & # ~",
    "bell\a null\0 escape\x1b[31m line\nbreak\ttab",
    "\u202ereversed\u202c \ud800 surrogate \ufffe",
    "模型 نموذج модель मॉडल 🧠",
    "a very long name " * 12,
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_can_be_drawn_in_every_format(name):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        lines = {name: 1.7705}
        sweep = made_sweep(baseline_label=name, reference=lines, variants={**lines, "b": 1.772})
        figure = cka_figure(made_map(3, 3, y_label=name, x_label=name), title=name)
        for kind in FORMATS:
            assert len(figure_bytes(figure, kind, 60)) > 1000
        assert len(figure_bytes(sweep_figure(sweep, title=name), "pdf")) > 1000


@pytest.mark.parametrize("name", HOSTILE[:3])
def test_no_name_is_read_as_tex_even_where_the_caller_turned_tex_on(name):
    with matplotlib.rc_context({"text.usetex": True, "text.parse_math": True}):
        figure = cka_figure(made_map(6, 6, y_label=name, x_label="m"))
        sweep = sweep_figure(made_sweep(reference={name: 1.7705}, variants={name: 1.771}))
        label = figure.axes[0].yaxis.label
        texts = [label, *(t for t in sweep.axes[0].texts)]
        assert not any(t.get_usetex() or t.get_parse_math() for t in texts)
        shown = "".join(label.get_text().split())
        assert shown.endswith("layer")
        assert shown.removesuffix("layer").split("…")[0] in name.replace(" ", "")
        figure_bytes(figure)
        figure_bytes(sweep)


def test_labels_show_what_they_are_given():
    figure = cka_figure(made_map(6, 6, y_label="MoE_27B $x$", x_label="a^b\\c"))
    assert figure.axes[0].get_ylabel() == "MoE_27B $x$ layer"
    assert figure.axes[0].get_xlabel() == "a^b\\c layer"


@given(st.text(max_size=60))
def test_plain_text_is_one_printable_line(name):
    shown = one_line(name)
    assert shown == shown.strip()
    assert all(character.isprintable() or character in "\u200c\u200d" for character in shown)
    assert one_line(shown) == shown


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=40),
       st.floats(20, 200))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_elided_text_fits_and_keeps_its_ends(text, limit):
    font = FontProperties(family=["DejaVu Sans"], size=8)
    short = elided(text, font, limit)
    if text_width(text, font) <= limit:
        assert short == text
    else:
        assert text_width(short, font) <= limit
        head, tail = short.split("…")[0], short.split("…")[-1]
        assert text.startswith(head)
        assert text.endswith(tail)


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), max_size=60),
       st.floats(30, 200), st.integers(1, 4))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_wrapped_text_is_whole_or_shortened_at_its_end(text, limit, most):
    font = FontProperties(family=["DejaVu Sans"], size=8)
    name = one_line(text)
    lines = wrapped(name, font, limit, " end", most).split("\n")
    assert len(lines) <= most
    assert all(text_width(line, font) <= max(limit, text_width("… end", font)) for line in lines)
    assert lines[-1].endswith("end")
    shown = "".join("".join(lines).split())
    if shown != "".join(f"{name} end".split()):
        head, _, tail = shown.rpartition("…")
        assert tail == "end"
        assert "".join(name.split()).startswith(head)
        assert text_width(f"{name} end", font) > limit


def test_a_name_breaks_where_a_reader_would_break_it():
    font = FontProperties(family=["DejaVu Sans"], size=8)
    name = "SmolLM2-135M-Instruct without block_13"
    assert wrapped(name, font, 1000, " layer", 3) == f"{name} layer"
    assert wrapped(name, font, 90, " layer", 3) == "SmolLM2-135M-\nInstruct without\nblock_13 layer"
    assert wrapped(name, font, 90, " layer", 2) == "SmolLM2-135M-\nInstruct with… layer"


def test_a_long_name_neither_leaves_the_figure_nor_loses_the_word_layer():
    name = "Engram-27B with everything that was tried in the second half of the year"
    figure = paper_figure([made_map(9, 9, x_label=name, y_label=name)], made_sweep(), "icml")
    figure.draw_without_rendering()
    ax = figure.axes[0]
    label = ax.xaxis.label.get_window_extent()
    box = ax.get_window_extent()
    assert label.width <= box.width
    assert " ".join(ax.get_xlabel().split()) == f"{name} layer"
    np.testing.assert_array_less(ax.yaxis.label.get_window_extent().height, box.height)
