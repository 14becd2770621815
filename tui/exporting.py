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
    """The file's format and the look of a venue."""

    format: str = "png"
    venue: str = "plain"
    width: str = "column"
    dark: bool = False


@dataclass(frozen=True)
class Subject:
    """What is drawn: a result, or two maps beside each other or subtracted."""

    first: Loaded
    second: Loaded | None = None
    subtracted: bool = False
    options: dict[str, Any] = field(default_factory=dict)  # palette, alignment, k, low, high

    @property
    def stem(self) -> str:
        """File name without extension."""
        name = f"{self.first.entry.kind}-{self.first.entry.name}"
        if self.second is None:
            return name
        return f"{name}-{'minus' if self.subtracted else 'and'}-{self.second.entry.name}"


def free_path(entry: Entry, stem: str, extension: str) -> Path:
    """A file in the run's figures that is not there yet: STEM.EXT, else STEM-2.EXT, and so on."""
    folder, stem = entry.place.figures, stem[:200]
    path, number = folder / f"{stem}.{extension}", 2
    while path.exists():
        path = folder / f"{stem}-{number}.{extension}"
        number += 1
    return path


def write(subject: Subject, export: Export) -> Path:
    """Draw into a new file.

    Raises:
        EngramckaError: it cannot be drawn or written.
    """
    from engramcka import figures

    entry, options = subject.first.entry, subject.options
    style = figures.Style.named(export.venue, width=export.width, dark=export.dark)  # type: ignore[arg-type]
    path = free_path(entry, subject.stem, export.format)
    value: Any = subject.first.value
    if subject.second is None:
        if entry.kind == "cka":
            return figures.save_cka_map(value, path, style, **options)
        if entry.kind == "sweep":
            return figures.save_sweep(value, path, style)
        return figures.save_figure(figures.result_figure(value, style, **options), path)
    other: Any = subject.second.value
    if subject.subtracted:
        return figures.save_figure(figures.difference_figure(value, other, style), path)
    names = (entry.name, subject.second.entry.name)
    panels = figures.cka_panels((value, other), style, titles=names, **options)
    return figures.save_figure(panels, path)
