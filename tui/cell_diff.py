"""Output to a terminal reduced to the cells that it changes, as curses does.

Textual sends a changed line from the left edge of its widget, and the style of each piece of text
whole. `CellDiff` keeps what the terminal shows and sends of cells, places and styles only what
differs: over a slow line a move of the cursor takes a part of the bytes. It knows the sequences
that Textual draws with. All others are handed on, and where one may change cells, or a text may be
wider than its characters, it forgets what it knows of them.
"""

from __future__ import annotations

import re
from functools import lru_cache

_TOKEN = re.compile(
    r"\x1b\[(?P<style>[0-9;]*)m"
    r"|\n?\x1b\[(?P<place>[0-9]*;?[0-9]*)H"  # before a place, Textual's line feed is idle
    r"|(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
    r"|(?P<mode>\x1b\[[?<>=][0-9;]*[hlu]|\x1b\[\?[0-9;]*\$p)"
    r"|(?P<string>\x1b[P_\]X^].*?(?:\x1b\\|\x07)|\x1b[78])"
    r"|(?P<other>\x1b\[[0-?]*[ -/]*[@-~]|.)",
    re.DOTALL,
)
_SWITCH = re.compile(r"\x1b\[\?(?:3|5|47|1047|1049)[hl]")  # to another screen, or one drawn anew
NARROW = re.compile(
    "[ -~\u00a1-\u00ac\u00ae-\u02af\u0391-\u03c9\u2010-\u2027\u2030-\u205e\u2190-\u21ff"
    "\u2200-\u22ff\u2500-\u25fc\u2713\u2717\u2800-\u28ff]+"
)
"""Texts that are certainly as wide as they have characters."""

_COLOUR = r"(?:2;\d+;\d+;\d+|5;\d+)"
_PAIR = re.compile(f"(38;{_COLOUR});(48;{_COLOUR})")
_GAP = 4  # cells that stay are written again where that is shorter than going past them


class CellDiff:
    """What one terminal shows, as far as it is known."""

    def __init__(self) -> None:
        self._lines: dict[int, dict[int, tuple[str, str]]] = {}  # line -> x -> character, style
        self._style: str | None = None  # in force on the terminal; None: not known
        self._at: tuple[int, int] | None = None  # the terminal's cursor: line, x
        self._wanted_style = ""  # as the output so far asks for
        self._wanted_at: tuple[int, int] | None = None  # x is 0 after text of unknown width
        self._out: list[str] = []

    def forget(self) -> None:
        """Take it that any cell may show anything."""
        self._lines.clear()
        self._style = self._at = None

    def reduced(self, output: str) -> str:
        """What must be sent so that the terminal shows what the output would have it show."""
        self._out = []
        for token in _TOKEN.finditer(output):
            kind, text = token.lastgroup, token[0]
            if kind == "style":
                self._take_style(token["style"])
            elif kind == "place":
                self._wanted_at = _place(token["place"])
            elif kind == "text":
                self._draw(text)
            else:
                self._hand_on(str(kind), text)
        self._go(self._wanted_at)
        return "".join(self._out)

    def _take_style(self, new: str) -> None:
        if new in ("", "0"):
            self._wanted_style = ""
        else:
            self._wanted_style = f"{self._wanted_style};{new}".lstrip(";")

    def _draw(self, text: str) -> None:
        if not self._wanted_at or not self._wanted_at[1] or not NARROW.fullmatch(text):
            self._draw_unknown(text)
            return
        line, x = self._wanted_at
        cells, style = self._lines.setdefault(line, {}), self._wanted_style
        changed = [i for i, c in enumerate(text, x) if cells.get(i) != (c, style)]
        start = 0
        for index in range(1, len(changed) + 1):
            if index == len(changed) or changed[index] - changed[index - 1] > _GAP:
                first, last = changed[start], changed[index - 1] + 1
                self._write(line, first, text[first - x : last - x])
                start = index
        for i in changed:
            cells[i] = (text[i - x], style)
        self._wanted_at = (line, x + len(text))

    def _write(self, line: int, x: int, text: str) -> None:
        self._go((line, x))
        self._dress()
        self._out.append(text)
        self._at = (line, x + len(text))

    def _draw_unknown(self, text: str) -> None:
        """Text that may be wider than its characters, or goes to a place that is not known."""
        self._go(self._wanted_at)
        self._dress()
        self._out.append(text)
        self._at = None
        if self._wanted_at is None:
            self._lines.clear()
            return
        line, x = self._wanted_at
        cells = self._lines.get(line, {})
        self._lines[line] = {i: cell for i, cell in cells.items() if i < x}
        self._wanted_at = (line, 0)

    def _hand_on(self, kind: str, text: str) -> None:
        """A sequence that draws no text, where and in the style in which it would have come."""
        switch = kind == "other" or _SWITCH.fullmatch(text) is not None
        if kind != "mode" or switch:
            self._go(self._wanted_at)
            self._dress()
            self._at = self._wanted_at = None
        self._out.append(text)
        if switch:
            self.forget()

    def _go(self, place: tuple[int, int] | None) -> None:
        """Move the terminal's cursor, over a few cells by writing them again."""
        if place is None or place == self._at or not place[1]:
            return
        line, x = place
        if self._at is not None and self._at[0] == line and 0 < x - self._at[1] <= _GAP:
            cells = self._lines.get(line, {})
            between = [cells.get(i) for i in range(self._at[1], x)]
            if all(cell is not None and cell[1] == self._style for cell in between):
                self._out.append("".join(cell[0] for cell in between if cell is not None))
                self._at = place
                return
        self._out.append(f"\x1b[{line};{x}H")
        self._at = place

    def _dress(self) -> None:
        """Make the terminal's style the one that is asked for."""
        old, new = self._style, self._wanted_style
        if old == new:
            return
        before, after = _pair(old or ""), _pair(new)
        if before is None or after is None:
            self._out.append(f"\x1b[0;{new}m" if new else "\x1b[0m")
        else:
            pairs = zip(before, after, strict=True)
            self._out.append(f"\x1b[{';'.join(b for a, b in pairs if a != b)}m")
        self._style = new


@lru_cache(maxsize=4096)
def _pair(style: str) -> tuple[str, ...] | None:
    """The two colours of a style that is nothing else."""
    found = _PAIR.fullmatch(style)
    return None if found is None else found.groups()


def _place(numbers: str) -> tuple[int, int]:
    line, _, x = numbers.partition(";")
    return int(line or 1), int(x or 1)
