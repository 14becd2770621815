"""Rows with bars, and texts token by token."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from small_runs import TOKENS, ablation, gates

from engramcka.tui.charts.gates import gate_rows
from engramcka.tui.charts.memory import memory_rows
from engramcka.tui.widgets.bar_list import draw_rows
from engramcka.tui.widgets.tokens import lay_out, plain_line, shade_line, token_line, visible


def plain(lines):
    return ["".join(text for text, _ in line) for line in lines]


def test_gates_of_one_stream_have_intervals_and_their_mean_has_none():
    row = gate_rows(gates(), 0, 0)[2]
    assert (row.label, row.value, row.text) == ("person", 0.9, "0.900 .870–.920")
    assert dict(row.details)["tokens"] == "100"
    mean = gate_rows(gates(), 0, None)[2]
    assert (mean.value, mean.text) == (0.7, "0.700")


def test_orders_and_collisions_are_those_of_the_module():
    text = "\n".join(plain(draw_rows(gate_rows(gates(), 1, 0), 60, 0)))
    assert "2-gram" in text
    assert "70.0%" in text
    assert "20.0%" in text


def test_memory_rows_are_losses_without_minus_with():
    rows = memory_rows({"engram": ablation()})
    assert [row.label for row in rows] == ["Engram", "all", "inside an entity", "outside"]
    assert rows[2].value == 1.0
    said = dict(rows[2].details)
    assert (said["with"], said["without"], said["apart"]) == ("2.5000", "3.5000", "+1.0000")
    assert said["kept"] == f"{np.exp(-1.0):.1%}"
    assert rows[3].text.startswith("−0.0250")
    lines = plain(draw_rows(rows, 70, 1))
    assert lines[2].count("█") > lines[1].count("█") > 0
    assert "░" in lines[3]  # the memory does harm there


@given(st.integers(8, 120))
def test_rows_fit_any_width(width):
    for line in draw_rows(gate_rows(gates(), 0, 0) + memory_rows({"e": ablation()}), width, 1):
        assert cell_len("".join(text for text, _ in line)) <= max(width, 24)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=30), st.integers(8, 60))
def test_every_token_stands_once_in_order_within_the_width(tokens, width):
    lines = lay_out(tokens, width)
    assert [p.index for line in lines for p in line] == list(range(len(tokens)))
    for line in lines:
        assert sum(p.width for p in line) <= width
        assert all(p.width == cell_len(p.text) > 0 for p in line)


@given(st.text(max_size=20))
def test_no_control_character_is_shown(token):
    assert visible(token).isprintable()
    assert visible(token)


def test_colours_and_shades_stand_for_the_same_gates():
    keys = [round(255 * i / (len(TOKENS) - 1)) for i in range(len(TOKENS))]
    (first, *_) = lay_out(TOKENS, 40)
    coloured = token_line(first, keys, "magma", -1)
    grounds = [segment.style.bgcolor for segment in coloured]
    assert len(set(grounds)) == len(first)
    assert "".join(s.text for s in coloured) == "".join(s.text for s in plain_line(first, 0))
    shades = "".join(segment.text for segment in shade_line(first, keys, " .:#"))
    assert len(shades) == sum(p.width for p in first)
    assert shades[0] == " "
