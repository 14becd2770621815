"""What is on the screen as a figure or a moving picture; matplotlib is imported here, in a thread.

Matplotlib keeps one set of settings for a whole process, so that one thing is drawn at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from engramcka.errors import EngramckaError
from engramcka.figures.options import FORMATS, MOVIES
from engramcka.tui.catalog import Entry, members

if TYPE_CHECKING:
    from engramcka.figures import Form, Style
    from engramcka.results import SimilarityMap, TrainingCurve

PREVIEW_DPI = 110

_drawing = Lock()


@dataclass(frozen=True)
class Export:
    """The part that is drawn, the file's format and the look of a venue."""

    part: str = ""  # name of one; "" for what is on the screen
    format: str = "png"
    venue: str = "plain"
    width: str = "column"
    dark: bool = False
    folder: str = ""  # where it is written; "" for the run's figures


@dataclass(frozen=True)
class ExportPart:
    """One figure that can be made of what is on the screen."""

    name: str  # as the dialog calls it
    stem: str  # of the file
    value: Any  # one of `engramcka.results`, or several
    options: dict[str, Any] = field(default_factory=dict)
    form: Form = "result"


@dataclass(frozen=True)
class Exportable:
    """What is drawn: the parts, that on the screen first, and the maps of a moving picture."""

    entry: Entry
    parts: tuple[ExportPart, ...]
    maps: tuple[SimilarityMap, ...] = ()

    def part(self, name: str) -> ExportPart:
        """The part of that name, or the one on the screen."""
        return next((part for part in self.parts if part.name == name), self.parts[0])

    @property
    def formats(self) -> tuple[str, ...]:
        """What it can be written as."""
        return (*FORMATS, *MOVIES) if self.maps else FORMATS


def free_path(folder: Path, stem: str, extension: str) -> Path:
    """A file in a folder that is not there yet: STEM.EXT, else STEM-2.EXT, and so on."""
    stem = stem[:200]
    path, number = folder / f"{stem}.{extension}", 2
    while path.exists():
        path = folder / f"{stem}-{number}.{extension}"
        number += 1
    return path


def write(subject: Exportable, export: Export) -> Path:
    """Draw into a new file of the folder asked for; else of the run's figures, or where that cannot
    be written to (the run of somebody else, a read-only disk) of the current folder.

    Raises:
        EngramckaError: it cannot be drawn, or neither folder can be written to.
    """
    if export.folder:
        return _write_into(Path(export.folder).expanduser(), subject, export)
    folder = subject.entry.ref.figures
    try:
        return _write_into(folder, subject, export)
    except EngramckaError as error:
        here = _current_folder()
        in_the_way = isinstance(error.__cause__, OSError)
        if here is None or here == folder.absolute() or not in_the_way:
            raise
        return _write_into(here, subject, export)


def _current_folder() -> Path | None:
    """The current folder; None where it has been deleted."""
    try:
        return Path.cwd()
    except OSError:
        return None


def _write_into(folder: Path, subject: Exportable, export: Export) -> Path:
    from engramcka import figures

    part, style = subject.part(export.part), _style(export)
    if export.format in MOVIES:
        path = free_path(folder, f"series-{subject.maps[0].series}", export.format)
        curves = _training(subject)
        with _drawing:
            known = ("palette", "alignment", "k", "low", "high")
            options = {name: part.options[name] for name in known if name in part.options}
            return figures.save_animation(subject.maps, path, style, training=curves, **options)
    path = free_path(folder, part.stem, export.format)
    with _drawing:
        return figures.save_figure(
            figures.draw_form(part.form, part.value, style, **part.options), path
        )


def preview(subject: Exportable, export: Export) -> bytes:
    """The figure as a PNG of a screen's size; of a moving picture its last map.

    Raises:
        EngramckaError: it cannot be drawn.
    """
    from engramcka import figures

    part = subject.part(export.part)
    if export.format in MOVIES:
        part = ExportPart("", "", subject.maps[-1], subject.parts[0].options)
    with _drawing:
        drawn = figures.draw_form(part.form, part.value, _style(export), **part.options)
        return figures.figure_bytes(drawn, "png", PREVIEW_DPI)


def _style(export: Export) -> Style:
    from engramcka import figures

    return figures.Style.named(export.venue, width=export.width, dark=export.dark)  # type: ignore[arg-type]


def _training(subject: Exportable) -> Sequence[TrainingCurve]:
    """Losses of the models that the maps compare, to stand beside them."""
    from engramcka import figures
    from engramcka.tui.loading import Loaded, load

    stored = members(Entry(subject.entry.ref, "training"))
    found = load(stored[0]) if stored else None
    if not isinstance(found, Loaded):
        return ()
    return figures.curves_beside(subject.maps, found.value.values.values())
