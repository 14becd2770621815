import re
from pathlib import Path

import pytest
from matplotlib.image import imread

from engramcka.figures import STYLES

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "figures.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_each_example_runs_and_makes_the_picture_shown(code, tmp_path, monkeypatch):
    pytest.importorskip("xarray")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/figures.md", "exec"), {})
    named = re.findall(r'"(\w+\.(?:png|gif|csv|tex))"', code)
    assert named
    for name in named:
        assert (tmp_path / name).stat().st_size > 100
        if name.endswith((".png", ".gif")):
            shown = DOCS / "images" / name
            assert f"images/{name}" in TEXT
            assert shown.stat().st_size < 150_000
            assert imread(shown).shape[1] == imread(tmp_path / name).shape[1]


def test_the_table_of_styles_is_the_code():
    for style in STYLES.values():
        row = f"| `{style.name}` | {style.column:g} in | {style.page:g} in |"
        assert f"{row} {style.font_size:g}, {style.small_size:g} pt |" in TEXT
    assert len(re.findall(r"^\| `", TEXT, re.M)) == len(STYLES)
