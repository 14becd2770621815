"""A map's cells on the screen before anything heavy is imported: no NumPy, Textual or rich.

Draws where the app will draw them, into the alternate screen, which the app then takes over. Knows
the sizes of the app's regions (engramcka.tcss); where anything is unusual it draws nothing.
"""

from __future__ import annotations

import json
import os
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from engramcka import palettes
from engramcka.stores import layout
from engramcka.tui.catalog import RESULT_KINDS, Entry, Place, facts
from engramcka.tui.memory import Memory
from engramcka.tui.widgets.geometry import Geometry, fit

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?1049l\x1b[?25h"
_LARGEST = 10_000  # cells: more take longer to check than to wait for
_CODECS = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "crc32c"},
]


@contextmanager
def first_frame(places: Sequence[Place], memory: Memory) -> Iterator[Callable[[], None] | None]:
    """Draw what the app is about to show.

    Keys pressed meanwhile are kept for the app and not echoed. Yields what makes the terminal echo
    again, for the app to call as it takes over; None where nothing was drawn. The terminal is as
    before when the block ends.
    """
    try:
        import termios

        entry = _entry(places, memory)
        size = os.get_terminal_size(sys.stdout.fileno())
        shown = _suits(os.environ) and entry is not None
        drawn = frame(entry, memory, *size) if shown and entry is not None else ""
        before = termios.tcgetattr(sys.stdin.fileno())
    except Exception:  # the app will show it, or say what is wrong
        yield None
        return
    if not drawn:
        yield None
        return

    def restore() -> None:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, before)

    quiet = [*before]
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, quiet)
    sys.stdout.write(ENTER + drawn)
    sys.stdout.flush()
    try:
        yield restore
    except BaseException:
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
        raise
    finally:
        restore()


def _suits(environ: Mapping[str, str]) -> bool:
    """Whether the terminal surely shows 24-bit colours and half blocks."""
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or "utf-8"
    colours = environ.get("COLORTERM", "").lower() in ("truecolor", "24bit")
    plain = "NO_COLOR" in environ or environ.get("TERM") in (None, "dumb", "unknown")
    return colours and not plain and "utf" in locale.lower()


def _entry(places: Sequence[Place], memory: Memory) -> Entry | None:
    """The map that the app opens on; None where it opens on something else."""
    first: Entry | None = None
    for place in places:
        mine = str(place.results.absolute()) == memory.run
        if first is not None and not mine:
            continue
        entries = [entry for entry in facts(place).entries if entry.kind in RESULT_KINDS]
        asked = [entry for entry in entries if entry.title == place.chosen]
        left = [e for e in entries if mine and (e.kind, e.name) == (memory.kind, memory.name)]
        if asked:
            first = asked[0]
            break
        if left:
            first = left[0]
        elif first is None and entries:
            first = entries[0]
    return first if first is not None and first.kind == "cka" else None


def frame(entry: Entry, memory: Memory, width: int, height: int) -> str:
    """The map's cells with the escape sequences that put them where they belong; "" for none."""
    rows, columns, values = read_similarity(entry.path)
    x, y, field = _field(width, height)
    labels, _, numbers = _read(entry.path / "y_layer", "q")
    gutter = max(len(str(number)) for number in numbers) + 1
    if field[0] < 8 or field[1] < 4 or width < 40 or height < 12 or labels != (rows,):
        return ""
    bar = 2 if field[1] > 13 else 0
    geometry = fit(rows, columns, field[0] - gutter - 1, field[1] - 2 - bar, sub=2)
    mine = memory.kind == "cka" and memory.name == entry.name
    cell = (min(memory.row, rows - 1), min(memory.column, columns - 1)) if mine else (0, 0)
    geometry = geometry.reveal(*cell)
    left = x + max(0, (field[0] - geometry.used_width - gutter) // 2) + gutter
    top = y + max(0, (field[1] - geometry.used_lines - 2 - bar) // 2)
    known = memory.palette in palettes.PALETTES
    palette = memory.palette if known else palettes.PALETTES[0]
    table = [*palettes.rgb(palette), palettes.NO_VALUE[palette]]
    return "".join(
        f"\x1b[{top + line + 1};{left + 1}H{text}"
        for line, text in enumerate(_lines(geometry, values, table))
    )


def _field(width: int, height: int) -> tuple[int, int, tuple[int, int]]:
    """(first character, first line, (width, height)) of the heatmap, as in engramcka.tcss."""
    if width < 80 or height < 20:
        return 0, 0, (width, height - 1)
    runs = 38 if width >= 140 else 26
    inside = (width - runs - 2, height - 4)
    wide = width >= 100
    return runs + 1, 2, (inside[0] - 26, inside[1]) if wide else (inside[0], inside[1] - 1)


def _lines(g: Geometry, values: Sequence[float], table: Sequence[palettes.Rgb]) -> Iterator[str]:
    """Two sub-rows a line, as half blocks; what lies above the map stays as it is."""
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
                text.append(f"{_colour(38, lower, table)}\x1b[49m{'▄' * count}")
            else:
                text.append(_colour(38, upper, table) + _colour(48, lower, table) + "▀" * count)
        yield "".join(text) + "\x1b[0m"


def _level(values: Sequence[float], g: Geometry, row: int | None, column: int) -> int:
    """Index into the palette, as `cells.levels`; -1 for nothing, 256 for no estimate."""
    if row is None:
        return -1
    value = values[row * g.columns + column]
    if not abs(value) < float("inf"):
        return 256
    return min(255, max(0, int(value * 255.0 + 0.5)))


def _colour(code: int, level: int, table: Sequence[palettes.Rgb]) -> str:
    if level == -1:
        return f"\x1b[{code + 1}m"
    red, green, blue = table[level]
    return f"\x1b[{code};2;{red};{green};{blue}m"


def read_similarity(group: Path) -> tuple[int, int, Sequence[float]]:
    """(rows, columns, values row by row) of a stored map, its checksum verified.

    Raises:
        ValueError: stored in another way than engramcka does, broken, or large.
        OSError, KeyError: not there, or not whole.
    """
    layout.check_version(group, _metadata(group)["attributes"], "cka")
    shape, _, values = _read(group / "similarity", "d")
    rows, columns = shape
    return rows, columns, values


def _metadata(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    return found


def _read(folder: Path, code: str) -> tuple[tuple[int, ...], str, array[Any]]:
    """(shape, type, values) of an array of one uncompressed chunk; ``code`` as in `array`."""
    meta = _metadata(folder)
    shape = tuple(meta["shape"])
    count = 1
    for size in shape:
        count *= size
    plain = (
        meta["data_type"] == {"d": "float64", "q": "int64"}[code]
        and meta["zarr_format"] == 3
        and meta["codecs"] == _CODECS
        and meta["chunk_grid"]["configuration"]["chunk_shape"] == [*shape]
        and meta["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
    )
    if not plain or not 0 < count <= _LARGEST or sys.byteorder != "little":
        raise ValueError("not stored as one small plain chunk")
    content = folder.joinpath("c", *["0"] * len(shape)).read_bytes()
    body, checksum = content[:-4], int.from_bytes(content[-4:], "little")
    if len(body) != count * 8 or crc32c(body) != checksum:
        raise ValueError("wrong length or checksum")
    values = array(code)
    values.frombytes(body)
    return shape, meta["data_type"], values


@cache
def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


def crc32c(content: bytes) -> int:
    """CRC-32C (Castagnoli; RFC 3720, appendix B.4) of bytes."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
