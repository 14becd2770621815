"""Writing what is on the screen as a figure; matplotlib is imported here, in a worker thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engramcka.tui.catalog import Entry
from engramcka.tui.loading import Loaded

FORMATS = ("png", "pdf", "svg")
VENUES = ("plain", "neurips", "icml", "iclr", "acl", "nature")
WIDTHS = ("column", "page", "half")


@dataclass(frozen=True)
class Export:
    """What to write: the file's format, the look of a venue, and how the result is drawn."""

    format: str = "png"
    venue: str = "plain"
    width: str = "column"
    dark: bool = False
    options: dict[str, Any] = field(default_factory=dict)  # palette, alignment, k, low, high


def free_path(entry: Entry, extension: str) -> Path:
    """A file of the run's figures that is not there yet: KIND-NAME.EXT, else KIND-NAME-2.EXT, .."""
    folder = entry.place.figures
    path, number = folder / f"{entry.kind}-{entry.name}.{extension}", 2
    while path.exists():
        path = folder / f"{entry.kind}-{entry.name}-{number}.{extension}"
        number += 1
    return path


def write(loaded: Loaded, export: Export) -> Path:
    """Draw a loaded result into a new file.

    Raises:
        EngramckaError: it cannot be drawn or written.
    """
    from engramcka import figures

    style = figures.Style.named(export.venue, width=export.width, dark=export.dark)  # type: ignore[arg-type]
    path = free_path(loaded.entry, export.format)
    if loaded.entry.kind == "cka":
        figures.save_cka_map(loaded.value, path, style, **export.options)  # type: ignore[arg-type]
    else:
        figures.save_sweep(loaded.value, path, style)  # type: ignore[arg-type]
    return path
