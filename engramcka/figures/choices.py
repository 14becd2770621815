"""What a figure may be asked for: venue, width, colours, readings, and the forms of its file.

For command lines and dialogs, which load without matplotlib; `engramcka.figures.style` has the
venues' measures and `engramcka.palettes` the colours.
"""

from __future__ import annotations

from typing import Literal, get_args

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
