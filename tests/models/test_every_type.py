"""No type of model is silently wrong: its states are transformers' own, or it is refused.

docs/models.md says what becomes of each, and is what is tried here: with ``--full`` all of it, else
every type of which the page says more than "right", and some of the others.
"""

from __future__ import annotations

from pathlib import Path

import every_type
import pytest
import transformers
from every_type import DECODER_COLUMNS, ENCODER_COLUMNS
from transformers import AutoModel, AutoModelForCausalLM

PAGE = (Path(__file__).parents[2] / "docs/models.md").read_text()
OF_PAGE = f"transformers {transformers.__version__} has" in PAGE  # which one version alone can be
EVERY = 6
KINDS = {
    "decoders": (every_type.TYPES, AutoModelForCausalLM, DECODER_COLUMNS),
    "encoders": (every_type.ENCODERS, AutoModel, ENCODER_COLUMNS),
}


def rows(kind: str) -> dict[str, str]:
    """A type's line on the page."""
    decoders, encoders = PAGE.split("## Encoders", 1)
    lines = (decoders if kind == "decoders" else encoders).splitlines()
    found = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    return {name: line for name, line in found.items() if name != "type"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_becomes_of_a_type_is_what_the_page_says(kind: str, full: bool) -> None:
    names, auto, columns = KINDS[kind]
    said = rows(kind)
    plain = every_type.row("", every_type.Found("right", "right"), columns).split("|")[2:]
    some = [
        name
        for place, name in enumerate(names)
        if full or place % EVERY == 0 or said.get(name, "").split("|")[2:] != plain
    ]
    tried = {name: every_type.try_type(name, auto) for name in some}
    bad = {name: one for name, one in tried.items() if one.states in ("wrong", "not built")}
    assert not {name: one for name, one in bad.items() if OF_PAGE or one.states == "wrong"}
    if OF_PAGE:
        made = {name: every_type.row(name, one, columns) for name, one in tried.items()}
        assert made == {name: said.get(name) for name in some}, "make docs/models.md again"


@pytest.mark.skipif(not OF_PAGE, reason="the page is of another version of transformers")
def test_the_page_names_every_type() -> None:
    for kind, (names, _, _) in KINDS.items():
        assert list(rows(kind)) == names


def test_the_counts_are_those_of_the_tables() -> None:
    decoders, encoders = (list(rows(kind).values()) for kind in KINDS)
    for lines in (decoders, encoders):
        cells = [line.split("|") for line in lines]
        right = sum(row[2].strip() == "right" for row in cells)
        refused = sum(row[2].strip() == "refused" for row in cells)
        assert f"States: {right} right, {refused} refused, 0 wrong" in PAGE
    lens = sum("| right | right |" in line for line in decoders)
    assert f"Lens, of those that are right: {lens} right" in PAGE
