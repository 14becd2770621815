"""What the terminal shows already, so that only cells that differ are sent.

Textual sends the whole screen again whenever anything is laid out anew: a dialog, a message, a new
result. Over a slow connection that is felt. Its frames are read here cell by cell and compared with
what was sent before; colours are sent where they change.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rich.cells import cell_len

_TOKEN = re.compile(
    r"\x1b\[(?P<y>\d+);(?P<x>\d+)H|\x1b\[(?P<style>[\d;]*)m|\n|(?P<text>[^\x00-\x1f\x7f]+)"
)
_NO_CELL = re.compile(r"\x1b\][^\x1b\x07]*(\x07|\x1b\\)|\x1b\[\?2026[hl]|\x07")
"""What changes no cell: operating system commands (clipboard, pointer), frames' ends, the bell."""

_GAP = 4  # cells that stay are sent again where fewer lie between two that change

Cell = tuple[str, str]  # style as in its escape sequence, character
Frame = list[tuple[int, int, list[Cell]]]  # y and x (from 1) of a run of cells


class SentCells:
    """The cells on the terminal, as far as they are known."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[int, Cell]] = {}

    def forget(self) -> None:
        """What is on the terminal is no longer known: the next frame is sent whole."""
        self._rows.clear()

    def needed(self, data: str) -> str:
        """What of a frame has to be sent; anything that is no frame as it is.

        Args:
            data: escape sequences and text that are to be written.
        """
        if _NO_CELL.fullmatch(data):
            return data
        frame = _read(data)
        if frame is None:
            self.forget()
            return data
        sent, style = [], ""
        for y, x, cells in frame:
            row = self._rows.setdefault(y, {})
            for first, stop in _differing(row, x, cells):
                sent.append(f"\x1b[{y};{x + first}H")
                for new, character in cells[first:stop]:
                    if new != style and not (character == " " and _blank(style) == new):
                        sent.append(_change(style, new))
                        style = new
                    sent.append(character)
            if all(character.isascii() or cell_len(character) == 1 for _, character in cells):
                row.update(enumerate(cells, x))
            else:  # terminals differ in how wide some characters are
                self._rows[y] = {}
        if style:
            sent.append("\x1b[0m")
        if frame and not frame[-1][2]:  # where the terminal's own cursor is put
            sent.append(f"\x1b[{frame[-1][0]};{frame[-1][1]}H")
        return "".join(sent)


def _read(data: str) -> Frame | None:
    """The runs of cells of a frame; None for what is none."""
    frame: Frame = []
    style, at = "", 0
    while at < len(data):
        found = _TOKEN.match(data, at)
        if found is None:
            return None
        at = found.end()
        if found["y"] is not None:
            frame.append((int(found["y"]), int(found["x"]), []))
        elif found["style"] is not None:
            style = _after(style, found["style"])
        elif found["text"] is not None:
            if not frame:
                return None
            blank = _blank(style)
            frame[-1][2].extend(
                [(blank if character == " " else style, character) for character in found["text"]]
            )
    return frame


def _after(style: str, more: str) -> str:
    """The style that holds after one more sequence."""
    if more in ("", "0"):
        return ""
    return f"{style};{more}" if style else more


def _differing(row: dict[int, Cell], x: int, cells: list[Cell]) -> list[tuple[int, int]]:
    """(first, after the last) of the cells that are not on the terminal, near ones together."""
    if any(not character.isascii() and cell_len(character) != 1 for _, character in cells):
        return [(0, len(cells))]
    found: list[tuple[int, int]] = []
    for index, cell in enumerate(cells):
        if row.get(x + index) != cell:
            if found and index - found[-1][1] < _GAP:
                found[-1] = (found[-1][0], index + 1)
            else:
                found.append((index, index + 1))
    return found


def _change(before: str, after: str) -> str:
    """The sequence that turns one style into another, with only what differs where that is less."""
    (ink, ground, other), (new_ink, new_ground, new_other) = _parts(before), _parts(after)
    if other != new_other:
        return f"\x1b[0;{after}m" if after else "\x1b[0m"
    changed = [new_ink or "39"] if ink != new_ink else []
    changed += [new_ground or "49"] if ground != new_ground else []
    return f"\x1b[{';'.join(changed)}m" if changed else ""


@lru_cache(maxsize=4096)
def _blank(style: str) -> str:
    """The style of a blank: the colour of a character that is not there makes no difference."""
    _, ground, other = _parts(style)
    return ground if set(other.split(";")) <= {"", "1", "2", "3"} else style


@lru_cache(maxsize=4096)
def _parts(style: str) -> tuple[str, str, str]:
    """A style's colour of the character, colour of the ground, and all else."""
    ink = ground = ""
    other = []
    codes = style.split(";") if style else []
    while codes:
        code = codes.pop(0)
        if code in ("38", "48"):
            count = 4 if codes[:1] == ["2"] else 2
            colour = ";".join([code, *codes[:count]])
            del codes[:count]
        else:
            colour = code
        number = int(code or 0)
        if number == 38 or 30 <= number <= 37 or 90 <= number <= 97:
            ink = colour
        elif number == 48 or 40 <= number <= 47 or 100 <= number <= 107:
            ground = colour
        else:
            other.append(code)
    return ink, ground, ";".join(other)
