"""No exported cell is executed by a spreadsheet, and what is read back is what was written."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engramcka import figures
from engramcka.figures.tables import rows_to_csv
from engramcka.plain_text import one_line
from engramcka.results import LossSweep
from engramcka.stores.foreign.sweeps import read_sweep_file
from engramcka.text_rows import guard_formula, unguard_formula

EVIL = [
    "=cmd|'/C calc'!A1",
    "+1+1",
    "-2",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "＝1",
    "a;=1",
    "a\n=1",
    "'=1",
]
RISKY = st.text(st.sampled_from("=+-@'＝\t\r\n;,\"a 1"), max_size=8) | st.text(max_size=20)


@given(RISKY)
def test_a_cell_is_never_a_formula_and_comes_back(text: str) -> None:
    cell = guard_formula(text)
    assert unguard_formula(cell) == text
    for part in re.split(r"[;\t\r\n]", cell):
        assert part[:1] not in {*"=+-@＝＋－＠"}
    assert cell[:1] not in {"\t", "\r", "\n"}


@pytest.mark.parametrize("text", ["", "Engram", "a=b", "it's", "'quoted'", "'", "3B MoE", "a;b"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert guard_formula(text) == unguard_formula(text) == text


def test_numbers_are_not_guarded() -> None:
    assert rows_to_csv([{"a": -1.5, "b": -2, "c": "-2"}]) == "a,b,c\n-1.5,-2,'-2\n"


@pytest.mark.parametrize("name", EVIL)
def test_a_sweeps_names_go_out_guarded_and_come_back(name: str, tmp_path: Path) -> None:
    sweep = LossSweep(
        layers=(1, 2),
        loss=[[1.5], [-0.5]],
        baseline=[2.0],
        seeds=(0,),
        label=name,
        baseline_label=name,
        variants={name: 1.7},
        reference={name: 1.6},
    )
    file = tmp_path / "a.csv"
    figures.save_table(sweep, file)
    names = [row["name"] for row in csv.DictReader(io.StringIO(file.read_text()))]
    assert set(names) == {guard_formula(one_line(name))}
    found = read_sweep_file(file)
    assert figures.to_csv(found) == file.read_text()
    assert found.label == one_line(name)
    assert found.variants == {one_line(name): 1.7}
    assert replace(found, label="x").loss.tolist() == [[1.5], [-0.5]]
