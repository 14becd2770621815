import os
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from drawn import made_map, made_sweep
from matplotlib.image import imread

from engramcka.errors import ConfigError, EngramckaError
from engramcka.figures import (
    FORMATS,
    cka_figure,
    figure_bytes,
    save_cka_map,
    save_figure,
    save_sweep,
)

TWICE = """
import hashlib, sys
from engramcka.figures import figure_bytes, paper_figure
from engramcka.paper import published_lens, published_maps, published_sweep
maps, lens = list(published_maps().values()), list(published_lens().values())
figure = paper_figure(maps[:1], published_sweep(), "icml", lens=lens)
for kind in ("png", "pdf", "svg"):
    print(kind, hashlib.sha256(figure_bytes(figure, kind)).hexdigest())
"""


def test_bytes_are_the_same_in_two_processes_at_two_times():
    outputs = []
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone}
        environment["SOURCE_DATE_EPOCH"] = "1" if seed == "1" else "1000000000"
        run = subprocess.run(
            [sys.executable, "-c", TWICE], env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        outputs.append(run.stdout)
    assert outputs[0] == outputs[1]
    assert outputs[0].count("\n") == 3


@pytest.mark.parametrize("kind", FORMATS)
def test_saving_twice_gives_the_same_bytes(kind, tmp_path):
    figure = cka_figure(made_map(8, 8, groups=4))
    first = save_figure(figure, tmp_path / f"a.{kind}").read_bytes()
    assert save_figure(figure, tmp_path / f"b.{kind}").read_bytes() == first
    assert save_cka_map(made_map(8, 8, groups=4), tmp_path / f"c.{kind}").read_bytes() == first


def test_a_notebook_shows_results_as_figures():
    for result in (made_map(), made_sweep()):
        assert result._repr_png_().startswith(b"\x89PNG")
    shown = imread(BytesIO(made_map()._repr_png_()))
    saved = imread(BytesIO(figure_bytes(cka_figure(made_map()), "png", 150)))
    np.testing.assert_array_equal(shown, saved)


def test_a_png_is_as_wide_as_its_style_at_300_dots_an_inch(tmp_path):
    image = imread(save_sweep(made_sweep(), tmp_path / "sweep.png", "icml"))
    assert image.shape[1] == round(3.25 * 300)


def test_fonts_are_embedded_as_type_42_and_nothing_is_dated(tmp_path):
    raw = save_cka_map(made_map(), tmp_path / "a.pdf", "icml").read_bytes()
    assert b"/CIDFontType2" in raw
    assert b"/FontFile2" in raw
    assert b"/Type3" not in raw
    assert b"CreationDate" not in raw
    svg = save_cka_map(made_map(), tmp_path / "a.svg").read_text()
    assert "<dc:date>" not in svg
    assert "<text" not in svg  # outlines, as no viewer has our fonts


def test_small_maps_are_vectors_and_large_ones_one_picture():
    vector = figure_bytes(cka_figure(made_map(60, 60)), "pdf")
    picture = figure_bytes(cka_figure(made_map(200, 200)), "pdf")
    assert vector.count(b"/Subtype /Image") == 0
    assert picture.count(b"/Subtype /Image") == 1
    assert len(picture) < 200_000


@pytest.mark.parametrize("name", ["map.jpg", "map.PNGX", "map", "map.", ".png"])
def test_an_unknown_extension_names_the_allowed_ones_and_draws_nothing(name, tmp_path):
    with pytest.raises(ConfigError, match=r"\.png, \.pdf, \.svg"):
        save_cka_map(made_map(), tmp_path / name)
    with pytest.raises(ConfigError):
        save_figure(cka_figure(made_map()), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_capital_letters_in_an_extension_are_fine(tmp_path):
    assert save_cka_map(made_map(), tmp_path / "A.PDF").read_bytes().startswith(b"%PDF")


def test_folders_are_made(tmp_path):
    assert save_cka_map(made_map(), tmp_path / "new" / "folder" / "a.png").exists()


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "taken.png").mkdir()
    (tmp_path / "taken.png" / "x").write_text("")
    for target in (tmp_path / "file" / "a.png", tmp_path / "taken.png"):
        with pytest.raises(EngramckaError, match="cannot be written") as caught:
            save_cka_map(made_map(), target)
        assert str(target) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_clear_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(EngramckaError, match="Permission denied"):
        save_cka_map(made_map(), tmp_path / "a.png")


def test_an_old_file_survives_a_failed_write(tmp_path, monkeypatch):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EngramckaError, match="No space left"):
        save_cka_map(made_map(), target)
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
