"""Figures into files: PNG, PDF or SVG, the same bytes every time.

There is no timestamp in any format, ids in SVG come from a fixed salt, fonts are embedded (Type 42
in PDF, outlines in SVG). The file appears when it is whole.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from engramcka.errors import ConfigError
from engramcka.figures.draw import result_figure
from engramcka.figures.options import FORMATS, checked_extension, write_whole
from engramcka.figures.style import PNG_DPI, Style, settings_for
from engramcka.results import LossSweep, SimilarityMap

_NOTEBOOK_DPI = 150

_METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "pdf": {"Creator": "engramcka", "Producer": None, "CreationDate": None},
    "svg": {"Creator": "engramcka", "Date": None},
}
_SETTINGS = {
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "pdf.compression": 6,
    "svg.fonttype": "path",
    "svg.hashsalt": "engramcka",
    "savefig.bbox": "standard",
    "savefig.transparent": False,
    "savefig.facecolor": "auto",
}


def figure_bytes(figure: Figure, kind: str = "png", dpi: int = PNG_DPI) -> bytes:
    """The figure as the content of a file of one of `FORMATS`.

    Raises:
        ConfigError: there is no such format.
    """
    if kind not in FORMATS:
        raise ConfigError(f"no figure format {kind!r}; there are {', '.join(FORMATS)}")
    buffer = BytesIO()
    with settings_for(_SETTINGS):
        if not isinstance(figure.canvas, FigureCanvasAgg):
            FigureCanvasAgg(figure)
        _settle(figure)
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=_METADATA[kind])
    return buffer.getvalue()


def check_format(path: str | os.PathLike[str]) -> str:
    """The figure format that the file's name asks for.

    Raises:
        ConfigError: its extension is none of `FORMATS`.
    """
    return checked_extension(Path(path), FORMATS, "figure")


def _settle(figure: Figure) -> None:
    """Lay the figure out once and round where its axes stand.

    The layout's solver orders its variables by address: the last bit of a position changes from
    process to process, and with it the names that SVG gives to clip paths.
    """
    if figure.get_layout_engine() is None:
        return
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        place = axes.get_position(original=True).bounds
        left, bottom, width, height = (round(float(value), 6) for value in place)
        axes.set_position((left, bottom, width, height))


def save_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: int = PNG_DPI) -> Path:
    """Write the figure; the extension says the format. Folders on the way are made.

    Args:
        figure: any.
        path: a file name that ends in one of `FORMATS`.
        dpi: dots an inch of a PNG, and of pictures inside a vector file.

    Returns:
        The path written.

    Raises:
        ConfigError: the extension is none of `FORMATS`.
        EngramckaError: the file or its folder cannot be written.
    """
    target = Path(path)
    content = figure_bytes(figure, check_format(target), dpi)
    write_whole(target, content)
    return target


def save_result(
    result: Any,
    path: str | os.PathLike[str],
    style: Style | str = "plain",
    *,
    dpi: int = PNG_DPI,
    **options: Any,
) -> Path:
    """Draw a result, or several in one figure, and write it.

    ``options`` are those of `result_figure`. Raises as that and as `save_figure`.
    """
    check_format(path)
    return save_figure(result_figure(result, style, **options), path, dpi=dpi)


def save_cka_map(
    cka: SimilarityMap, path: str | os.PathLike[str], style: Style | str = "plain", **options: Any
) -> Path:
    """Draw one map and write it; ``options`` are `plot_cka_map`'s. Raises as `save_figure`."""
    return save_result(cka, path, style, **options)


def save_sweep(
    sweep: LossSweep, path: str | os.PathLike[str], style: Style | str = "plain", **options: Any
) -> Path:
    """Draw one sweep and write it; ``options`` are `plot_sweep`'s. Raises as `save_figure`."""
    return save_result(sweep, path, style, **options)


def notebook_png(result: Any) -> bytes:
    """A result of any kind as a notebook shows it: the plain style, at a screen's size."""
    return figure_bytes(result_figure(result), "png", _NOTEBOOK_DPI)
