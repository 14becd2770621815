"""docs/measures.md: its code runs, and its table says what the measures say of themselves."""

import re
from pathlib import Path

import pytest

from engramcka import MEASURES

PAGE = (Path(__file__).parents[1] / "docs" / "measures.md").read_text()


def test_the_code_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    there: dict[str, object] = {}
    for block in blocks:  # one after the other, as a reader would
        exec(compile(block, "docs/measures.md", "exec"), there)


@pytest.mark.parametrize("name", list(MEASURES))
def test_the_table_is_the_measures(name: str) -> None:
    known = MEASURES[name]
    cells = (f"`{name}`", known.words, known.range, known.invariant, known.small_n)
    assert f"| {' | '.join(cells)} |" in PAGE
    assert f"{known.title}: {known.source}" in PAGE
