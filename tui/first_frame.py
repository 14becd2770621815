"""A map's cells on the screen before anything heavy is imported: no NumPy, Textual or rich.

Draws where the app will draw them, into the alternate screen, which the app then takes over. Knows
the sizes of the app's regions (engramcka.tcss); where anything is unusual it draws nothing.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Iterator, Sequence
from colorsys import rgb_to_hls
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from engramcka import palettes
from engramcka.stores import layout
from engramcka.stores.chunk import read_chunk
from engramcka.stores.nodes import read_group
from engramcka.tui.capabilities import Capabilities, capabilities
from engramcka.tui.catalog import RESULT_KINDS, Entry, Place, chosen_entry, facts, named
from engramcka.tui.memory import Memory
from engramcka.tui.widgets.geometry import Geometry, fit

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?1049l\x1b[?25h"
_MAX_BYTES = 32 << 20  # of a map's values


@dataclass(frozen=True)
class Taken:
    """A terminal that the app is about to run in."""

    entered: bool  # whether it shows the other screen, with a first frame on it
    attributes: list[Any] | None  # as `termios` has them, before it was made quiet


@contextmanager
def first_frame(places: Sequence[Place], memory: Memory) -> Iterator[Taken]:
    """Draw what the app is about to show.

    Keys pressed meanwhile are kept for the app and not echoed. The terminal is as before when the
    block ends.
    """
    with _quiet() as attributes:
        drawn = _drawn(places, memory)
        if not drawn:
            yield Taken(False, attributes)
            return
        sys.stdout.write(ENTER + drawn)
        sys.stdout.flush()
        try:
            yield Taken(True, attributes)
        except BaseException:
            sys.stdout.write(LEAVE)
            sys.stdout.flush()
            raise


@contextmanager
def _quiet() -> Iterator[list[Any] | None]:
    """No echo, and keys as they are; yields the attributes before, None where there are none."""
    import termios

    terminal = sys.stdin.fileno()
    try:
        before = termios.tcgetattr(terminal)
        quiet = [*before]
        quiet[0] &= ~termios.ICRNL  # enter stays what it is
        quiet[3] &= ~(termios.ECHO | termios.ICANON)
        termios.tcsetattr(terminal, termios.TCSANOW, quiet)
    except termios.error:
        yield None
        return
    try:
        yield before
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)


def _drawn(places: Sequence[Place], memory: Memory) -> str:
    """What makes the first frame; "" where the app shows something else, or says what is wrong."""
    try:
        entry = _entry(places, memory)
        size = os.get_terminal_size(sys.stdout.fileno())
        if entry is None or os.environ.get("TERM") in (None, "dumb", "unknown"):
            return ""
        return frame(entry, memory, *size, capabilities(os.environ))
    except Exception:
        return ""


def _entry(places: Sequence[Place], memory: Memory) -> Entry | None:
    """The map that the app opens on; None where it opens on something else."""
    first: Entry | None = None
    for place in places:
        mine = str(place.results.absolute()) == memory.run
        if first is not None and not mine and not place.chosen:
            continue
        entries = [entry for entry in facts(place).entries if entry.kind in RESULT_KINDS]
        asked = chosen_entry(place, entries)
        if asked is not None:
            first = asked
            break
        if mine and (left := named(place, entries, memory.kind, memory.name)):
            first = left
        elif first is None and entries:
            first = entries[0]
    return first if first is not None and first.kind == "cka" else None


def frame(
    entry: Entry, memory: Memory, width: int, height: int, known: Capabilities | None = None
) -> str:
    """The map's cells with the escape sequences that put them where they belong; "" for none."""
    known = known or Capabilities()
    rows, columns, values = read_similarity(entry.path)
    x, y, field = _field(width, height)
    labels, numbers = _read(entry.path / "y_layer", "int64")
    gutter = max(len(str(number)) for number in numbers) + 1
    if field[0] < 8 or field[1] < 4 or width < 40 or height < 12 or labels != (rows,):
        return ""
    bar = 2 if field[1] > 13 else 0
    sub = 2 if known.half_blocks else 1
    geometry = fit(rows, columns, field[0] - gutter - 1, field[1] - 2 - bar, sub=sub)
    mine = memory.kind == "cka" and memory.name == entry.name
    cell = (min(memory.row, rows - 1), min(memory.column, columns - 1)) if mine else (0, 0)
    geometry = geometry.reveal(*cell)
    left = x + max(0, (field[0] - geometry.used_width - gutter) // 2) + gutter
    top = y + max(0, (field[1] - geometry.used_lines - 2 - bar) // 2)
    lines = _half_blocks(geometry, values, _codes(memory.palette, known))
    if not known.half_blocks:
        shades = palettes.ASCII_SHADES if known.ascii else palettes.SHADES
        lines = _shades(geometry, values, shades)
    return "".join(f"\x1b[{top + line + 1};{left + 1}H{text}" for line, text in enumerate(lines))


def _field(width: int, height: int) -> tuple[int, int, tuple[int, int]]:
    """(first character, first line, (width, height)) of the heatmap, as in engramcka.tcss."""
    if width < 80 or height < 20:
        return 0, 0, (width, height - 1)
    runs = 38 if width >= 140 else 26
    inside = (width - runs - 2, height - 4)
    wide = width >= 100
    return runs + 1, 2, (inside[0] - 26, inside[1]) if wide else (inside[0], inside[1] - 1)


def _half_blocks(g: Geometry, values: Sequence[float], codes: Sequence[str]) -> Iterator[str]:
    """Two sub-rows a line; what lies above the map stays as it is."""
    for line in range(g.used_lines):
        rows = [g.row_at(line, 0), g.row_at(line, 1)]
        keys = []
        for column in range(g.first_column, g.first_column + g.shown_columns):
            pair = tuple(_level(values, g, row, column) for row in rows)
            keys += [pair] * g.cell_width
        text = []
        for (upper, lower), run in groupby(keys[: g.used_width]):
            count = len(list(run))
            if upper == -1:
                text.append(f"\x1b[38;{codes[lower]}m\x1b[49m{'▄' * count}")
            else:
                below = f"\x1b[48;{codes[lower]}m" if lower >= 0 else "\x1b[49m"
                text.append(f"\x1b[38;{codes[upper]}m{below}{'▀' * count}")
        yield "".join(text) + "\x1b[0m"


def _shades(g: Geometry, values: Sequence[float], shades: str) -> Iterator[str]:
    """A row of characters a line, as `cells.shade`; "?" where there is no estimate."""
    for line in range(g.used_lines):
        row, text = g.row_at(line), ""
        for column in range(g.first_column, g.first_column + g.shown_columns):
            level = _level(values, g, row, column)
            shade = shades[min(level * len(shades) // 256, len(shades) - 1)]
            text += (" " if level < 0 else "?" if level > 255 else shade) * g.cell_width
        yield text[: g.used_width]


def _level(values: Sequence[float], g: Geometry, row: int | None, column: int) -> int:
    """Index into the palette, as `cells.levels`; -1 for nothing, 256 for no estimate."""
    if row is None:
        return -1
    value = values[row * g.columns + column]
    if not abs(value) < float("inf"):
        return 256
    return min(255, max(0, int(value * 255.0 + 0.5)))


def _codes(palette: str, known: Capabilities) -> list[str]:
    """The part of an escape sequence that says each level's colour."""
    palette = palette if palette in palettes.PALETTES else palettes.PALETTES[0]
    colours = [*palettes.rgb(palette), palettes.NO_VALUE[palette]]
    if known.colours == "true":
        return [f"2;{red};{green};{blue}" for red, green, blue in colours]
    return [f"5;{nearest_of_256(colour)}" for colour in colours]


def nearest_of_256(colour: palettes.Rgb) -> int:
    """Number of the colour that rich takes for this one on a terminal of 256 colours."""
    _, light, saturation = rgb_to_hls(*(part / 255 for part in colour))
    if saturation < 0.15:
        grey = round(light * 25)
        return {0: 16, 25: 231}.get(grey, 231 + grey)
    red, green, blue = (round(c / 95 if c < 95 else 1 + (c - 95) / 40) for c in colour)
    return 16 + 36 * red + 6 * green + blue


def read_similarity(group: Path) -> tuple[int, int, Sequence[float]]:
    """(rows, columns, values row by row) of a stored map, its checksum verified.

    Raises:
        StoreError: not there, stored in another way than engramcka does, broken, or large.
    """
    layout.check_version(group, read_group(group, group.parents[1]), "cka")
    (rows, columns), values = _read(group / "similarity", "float64")
    return rows, columns, values


def _read(folder: Path, data_type: str) -> tuple[tuple[int, ...], array[Any]]:
    shape, found, content = read_chunk(folder, _MAX_BYTES, folder.parents[2], (data_type,))
    if not content:
        raise ValueError(f"{folder}: holds nothing")
    values = array({"float64": "d", "int64": "q"}[found])
    values.frombytes(content)
    return shape, values
