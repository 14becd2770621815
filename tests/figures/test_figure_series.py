import io

import numpy as np
import pytest
from drawn import made_map, made_training
from PIL import Image

from engramcka.errors import ComparisonError, ConfigError, EngramckaError
from engramcka.figures import (
    animation,
    plot_training,
    save_animation,
    series_caption,
    series_figure,
    series_frames,
)
from engramcka.results import CkaMap

SERIES = [
    CkaMap(np.full((3, 3), value), y_label="MoE", x_label="MoE", series="s", step=step)
    for step, value in ((300, 0.9), (1, 0.1), (2000, 0.5))
]


def test_panels_are_in_the_order_of_training_with_the_step_above():
    figure = series_figure(SERIES)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["step 1", "step 300", "step 2,000"]
    values = [np.unique(ax.collections[0].get_array()) for ax in figure.axes[:3]]
    np.testing.assert_allclose(values, [[0.1], [0.9], [0.5]])


def test_of_a_long_series_evenly_spaced_maps_are_shown_with_both_ends():
    many = [made_map(2, 2, series="s", step=10 * step) for step in range(101)]
    figure = series_figure(many, most=3)
    assert [ax.get_title() for ax in figure.axes[:3]] == ["step 0", "step 500", "step 1,000"]


def test_a_series_that_has_no_order_is_refused():
    with pytest.raises(ComparisonError, match="at least one map"):
        series_figure([])
    with pytest.raises(ComparisonError, match="MoE and Engram has no training step"):
        series_figure([made_map()])
    with pytest.raises(ComparisonError, match="two maps of the series are of step 300"):
        series_figure([SERIES[0], SERIES[0]])


def test_a_caption_names_the_steps_and_what_is_missing_at_which():
    holed = made_map(series="s", step=5)
    holed.similarity[1] = np.nan
    caption = series_caption([holed, made_map(series="s", step=1200)])
    assert "2 checkpoints, of steps 5, 1,200." in caption
    assert "Hatched at step 5: no value (MoE layer 2)." in caption
    assert caption.count("Hatched") == 1


def test_a_gif_shows_every_map_in_order_and_is_the_same_every_time(tmp_path):
    path = save_animation(SERIES, tmp_path / "s.gif", dpi=60, seconds=0.2, alignment=False)
    assert (
        save_animation(
            SERIES, tmp_path / "t.gif", dpi=60, seconds=0.2, alignment=False
        ).read_bytes()
        == path.read_bytes()
    )
    picture = Image.open(io.BytesIO(path.read_bytes()))
    assert picture.n_frames == 3
    shown, durations = [], []
    for frame in range(3):
        picture.seek(frame)
        durations.append(picture.info["duration"])
        rgb = np.asarray(picture.convert("RGB"), dtype=float)
        shown.append(rgb[rgb.shape[0] // 2 + 8, rgb.shape[1] // 3].mean())
    assert shown[0] < shown[2] < shown[1]  # 0.1, 0.9, 0.5 on magma
    assert durations == [200, 200, 800]


def test_frames_have_one_size_and_the_loss_beside_the_map_up_to_its_step():
    curve = made_training(steps=2000)
    frames = list(series_frames(SERIES, "icml", training=[curve], dpi=80))
    assert len({frame.shape for frame in frames}) == 1
    height, width, _ = frames[0].shape
    assert (height % 2, width % 2, width) == (0, 0, 260)
    right = [frame[:, width // 2 :].astype(int) for frame in frames]
    strong = [int(((part[..., 2] - part[..., 0]) > 90).sum()) for part in right]
    assert strong[0] < strong[1] < strong[2]  # more and more of the curve is no longer faint
    plain = list(series_frames(SERIES, dpi=60))
    assert len(plain) == 3
    artists = plot_training(curve, until=300.0)
    assert artists.axes.get_xlim()[1] > 2000


def test_an_mp4_is_written_where_there_is_an_ffmpeg(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    path = save_animation(SERIES, tmp_path / "s.mp4", dpi=60)
    assert path.read_bytes()[4:8] == b"ftyp"
    assert len(path.read_bytes()) > 1000


def test_without_an_ffmpeg_it_says_so_in_one_line_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(animation.shutil, "which", lambda _: None)
    with pytest.raises(EngramckaError, match=r"pip install imageio-ffmpeg, or write a \.gif"):
        save_animation(SERIES, tmp_path / "s.mp4")
    monkeypatch.setattr(animation.shutil, "which", lambda _: "false")
    with pytest.raises(EngramckaError, match=r"could not write the MP4 \(without a word\)"):
        save_animation(SERIES, tmp_path / "s.mp4", dpi=60)
    assert list(tmp_path.iterdir()) == []


def test_wrong_moving_pictures_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\.gif, \.mp4"):
        save_animation(SERIES, tmp_path / "s.avi")
    with pytest.raises(ConfigError, match=r"0\.02 to 60 seconds, found 0"):
        save_animation(SERIES, tmp_path / "s.gif", seconds=0)
