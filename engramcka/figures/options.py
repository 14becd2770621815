"""What a figure may be asked for (venue, width, colours, readings), and its file.

For command lines and dialogs, which load without matplotlib; `engramcka.figures.style` has the
venues' measures and `engramcka.palettes` the colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from engramcka.atomic import atomic_path, folder_for
from engramcka.errors import ConfigError, EngramckaError, code_of

Venue = Literal["plain", "neurips", "icml", "iclr", "acl", "nature"]
"""The venues whose widths and font sizes are known."""

Width = Literal["column", "page", "half"]
"""One column of text, the text block, or half of it less a gap."""

Palette = Literal["magma", "viridis", "cividis"]
"""Colours of maps, all safe for the colour-blind, the default first."""

Reading = Literal["kl", "entropy", "top1"]
"""What a lens curve may hold: KL divergence, entropy and agreement of the first guess."""

VENUES: tuple[Venue, ...] = get_args(Venue)
WIDTHS: tuple[Width, ...] = get_args(Width)
READINGS: tuple[Reading, ...] = get_args(Reading)

FORMATS = ("png", "pdf", "svg")
"""File extensions that a figure can be written with."""

MOVIES = ("gif", "mp4")
"""File extensions that a series of maps can be written with."""

TABLE_FORMATS = ("csv", "tex")
"""File extensions that a table can be written with."""


def checked_extension(path: Path, allowed: Sequence[str], what: str) -> str:
    """The path's extension in lower case, without its dot.

    Raises:
        ConfigError: it is none of ``allowed``.
    """
    found = path.suffix.lower().removeprefix(".")
    if found not in allowed:
        names = ", ".join(f".{name}" for name in allowed)
        shown = f"ends in .{found}" if found else "has no extension"
        raise ConfigError(f"{path}: a {what} is written as {names}; this name {shown}")
    return found


def write_whole(target: Path, content: bytes) -> None:
    """Write the file so that nobody ever sees half of it; folders on the way are made.

    Where the file is a link, it takes the link's place: nothing is written through one.

    Raises:
        EngramckaError: it cannot be written.
    """
    try:
        with folder_for(target.parent), atomic_path(target) as scratch:
            scratch.write_bytes(content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise EngramckaError(
            f"{target}: cannot be written ({reason}); choose another folder or file name",
            exit_code=code_of(error),
        ) from error
