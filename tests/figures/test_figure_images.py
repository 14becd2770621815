"""Each figure against a kept picture, with room for other versions of the font renderer."""

import subprocess
import sys

import pytest
from gallery import BASELINES, DPI, FIGURES
from matplotlib.testing.compare import compare_images

from engramcka.figures import figure_bytes

TOLERANCE = 8.0  # root mean square over the pixels, of 255; a moved curve or label is above it


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_a_figure_looks_as_it_did(name, tmp_path):
    drawn = tmp_path / f"{name}.png"
    drawn.write_bytes(figure_bytes(FIGURES[name](), "png", DPI))
    kept = tmp_path / f"{name}-kept.png"
    kept.write_bytes((BASELINES / f"{name}.png").read_bytes())
    assert compare_images(str(kept), str(drawn), TOLERANCE) is None


def test_the_kept_pictures_are_those_there_are_and_small():
    there = {path.stem: path.stat().st_size for path in BASELINES.iterdir()}
    assert set(there) == set(FIGURES)
    assert max(there.values()) < 60_000
    assert sum(there.values()) < 1_000_000


def test_fonts_are_found_where_matplotlibs_list_on_disk_lacks_its_own():
    """The list is shared by all environments: one written badly would change every figure."""
    code = (
        "from matplotlib.font_manager import fontManager, findfont\n"
        "fontManager.ttflist.clear()\n"
        "import engramcka.figures.style\n"
        "print(findfont('STIXGeneral', fallback_to_default=False))\n"
        "print(findfont('DejaVu Sans', fallback_to_default=False))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line.rpartition("/")[2] for line in found.stdout.split()] == [
        "STIXGeneral.ttf", "DejaVuSans.ttf",
    ]  # fmt: skip
