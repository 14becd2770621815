"""A series of maps over training as a moving picture: GIF, or MP4 where there is an ffmpeg.

The step stands above the map; the loss curves, where there are any, stand beside it with what is
still to come faint. A GIF has the same bytes every time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from engramcka.errors import ConfigError, EngramckaError
from engramcka.figures.heatmap import plot_cka_map
from engramcka.figures.options import MOVIES, checked_extension, write_whole
from engramcka.figures.panels import in_order, step_title
from engramcka.figures.style import Style, as_style, compose, new_figure
from engramcka.figures.training import plot_training
from engramcka.results import SimilarityMap, TrainingCurve

Frame = npt.NDArray[np.uint8]  # (height, width, 3) RGB, both sides even


MOVIE_DPI = 150
_LAST = 4  # times as long as the others the last frame of a GIF stays
_BESIDE = 1.1  # width of the loss curves over that of the map
_HIGH = 0.75  # height of the loss curves over their width


def series_frames(
    maps: Sequence[SimilarityMap],
    style: Style | str = "plain",
    *,
    training: Sequence[TrainingCurve] = (),
    dpi: int = MOVIE_DPI,
    **options: Any,
) -> Iterator[Frame]:
    """A picture of each map of a series, all of one layout.

    Args:
        maps: of one pair of models, with their ``step``.
        style: a `Style` or the name of one.
        training: loss curves to stand beside the map, up to its step.
        dpi: dots an inch.
        options: those of `plot_cka_map`, but ``ax`` and ``title``.

    Raises:
        ComparisonError: there are no maps, one has no step, or a step occurs twice.
    """
    style = as_style(style)
    ordered = in_order(maps)
    with style.context():
        figure = new_figure(style, style.inches * (0.55 if training else 1.1))
        ratios = [1.0, _BESIDE] if training else [1.0]
        axes = figure.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0]

        def draw(cka: SimilarityMap) -> None:
            plot_cka_map(cka, axes[0], title=step_title(cka), **options)
            if training:
                axes[1].set_box_aspect(_HIGH)
                plot_training(training, axes[1], until=float(cka.step or 0))

        compose(figure, lambda: draw(ordered[-1]), trim=True)
    for cka in ordered:
        with style.context():
            for ax in axes:
                ax.clear()
            draw(cka)
            yield _pixels(figure, dpi)


def curves_beside(
    maps: Sequence[SimilarityMap], curves: Iterable[TrainingCurve]
) -> list[TrainingCurve]:
    """The training curves of the models that the maps compare, to stand beside them."""
    labels = {label for cka in maps for label in (cka.y_label, cka.x_label)}
    return [curve for curve in curves if curve.label in labels]


def save_animation(
    maps: Sequence[SimilarityMap],
    path: str | os.PathLike[str],
    style: Style | str = "plain",
    *,
    seconds: float = 0.5,
    **options: Any,
) -> Path:
    """Write a series as a moving picture; the extension says the format.

    Args:
        maps: as in `series_frames`.
        path: a file name that ends in one of `MOVIES`.
        style: a `Style` or the name of one.
        seconds: how long a map is shown, 0.02 to 60.
        options: those of `series_frames`.

    Raises:
        ConfigError: the extension is none of `MOVIES`, or ``seconds`` is out of range.
        EngramckaError: there is no ffmpeg for an MP4, it failed, or the file cannot be written.
    """
    target = Path(path)
    kind = checked_extension(target, MOVIES, "moving picture")
    if not 0.02 <= seconds <= 60:
        raise ConfigError(f"a map is shown for 0.02 to 60 seconds, found {seconds:g}")
    program = _ffmpeg() if kind == "mp4" else ""
    frames = series_frames(maps, style, **options)
    write_whole(target, _gif(frames, seconds) if kind == "gif" else _mp4(frames, seconds, program))
    return target


def _pixels(figure: Figure, dpi: int) -> Frame:
    """The figure as it is, cut to an even number of rows and columns."""
    canvas, before = cast(Any, figure.canvas), figure.dpi
    try:
        figure.set_dpi(dpi)
        canvas.draw()
        colours = np.array(canvas.buffer_rgba())[..., :3]
    finally:
        figure.set_dpi(before)
    height, width = (side // 2 * 2 for side in colours.shape[:2])
    return np.ascontiguousarray(colours[:height, :width])


def _gif(frames: Iterator[Frame], seconds: float) -> bytes:
    """All frames in their own 256 colours, shown for ever."""
    from PIL import Image

    pictures = [
        Image.fromarray(frame).quantize(256, kmeans=4, dither=Image.Dither.NONE) for frame in frames
    ]
    shown = [round(1000 * seconds)] * (len(pictures) - 1) + [round(1000 * seconds * _LAST)]
    buffer = BytesIO()
    pictures[0].save(
        buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=shown, loop=0,
        optimize=False,
    )  # fmt: skip
    return buffer.getvalue()


def _mp4(frames: Iterator[Frame], seconds: float, program: str) -> bytes:
    """H.264 that any player shows."""
    first = next(frames)
    height, width = first.shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "series.mp4"
        command = [
            program, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
            "-s", f"{width}x{height}", "-r", f"{1 / seconds:g}", "-i", "-", "-an",
            "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "16", "-r", "25",
            "-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact",
            "-movflags", "+faststart", str(target),
        ]  # fmt: skip
        content = first.tobytes() + b"".join(frame.tobytes() for frame in frames)
        done = subprocess.run(command, input=content, capture_output=True, check=False)
        if done.returncode or not target.is_file():
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise EngramckaError(
                f"ffmpeg could not write the MP4 ({said[-1] if said else 'without a word'}); "
                "write a .gif"
            )
        return target.read_bytes()


def _ffmpeg() -> str:
    """The program: imageio-ffmpeg's or the system's.

    Raises:
        EngramckaError: there is neither.
    """
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        found = shutil.which("ffmpeg")
    if found is None:
        raise EngramckaError(
            "an MP4 needs ffmpeg, and there is none here; pip install imageio-ffmpeg, or write a "
            ".gif"
        )
    return found
