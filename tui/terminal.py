"""What the terminal can show, and names made safe for it and cut to its cells.

A name may come from a stranger's store: it never reaches the terminal with control characters, and
never as markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, set_cell_size

Colours = Literal["true", "256", "16", "none"]

_NUMBER_AT_END = re.compile(r"(?<=\s)[+\-\N{MINUS SIGN}]?\d[\d.,/:%]*$")

_TERMS: dict[str, Colours] = {"kitty": "256", "256color": "256"}


@dataclass(frozen=True)
class Capabilities:
    """What may be written: how many colours, and whether only ASCII."""

    colours: Colours = "true"
    ascii: bool = False

    @property
    def half_blocks(self) -> bool:
        """Whether a character can show two cells in colours that tell them apart."""
        return self.colours in ("true", "256") and not self.ascii


def capabilities(environ: Mapping[str, str]) -> Capabilities:
    """What a terminal with these variables shows; 24-bit and 256 colours as rich finds them."""
    return Capabilities(_colours(environ), ascii_only(environ))


def _colours(environ: Mapping[str, str]) -> Colours:
    term = environ.get("TERM", "").strip().lower()
    if "NO_COLOR" in environ or term in ("dumb", "unknown"):
        return "none"
    if environ.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return "true"
    return _TERMS.get(term.rpartition("-")[2], "16")


def ascii_only(environ: Mapping[str, str]) -> bool:
    """Whether the locale asks for something else than UTF-8.

    Without any locale variable UTF-8 is taken, as in most containers. Python itself sets
    LC_CTYPE=C.UTF-8 when it finds the C locale (PEP 538): next to LANG=C that is not the user's.
    """
    lang = environ.get("LANG", "")
    ctype = environ.get("LC_CTYPE", "")
    if lang in ("C", "POSIX") and ctype == "C.UTF-8":
        ctype = ""
    locale = environ.get("LC_ALL") or ctype or lang
    return bool(locale) and "utf" not in locale.lower()


def shorten(text: str, width: int, ellipsis: str = "…") -> str:
    """The text in at most ``width`` terminal cells, its middle left out where it is longer."""
    if cell_len(text) <= width:
        return text
    room = width - cell_len(ellipsis)
    if room < 2:
        return set_cell_size(text, max(0, width)).rstrip()
    tail = text[len(text) - room // 2 :]
    while cell_len(tail) > room // 2:
        tail = tail[1:]
    head = set_cell_size(text, room - cell_len(tail)).rstrip()
    return f"{head}{ellipsis}{tail}"


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """The text in at most ``width`` terminal cells, its end left out where it is longer.

    So is a number that would lose digits: it would be read as another.
    """
    if cell_len(text) <= width:
        return text
    shown = set_cell_size(text, max(0, width - cell_len(ellipsis)))
    whole = _NUMBER_AT_END.sub("", shown)
    if whole and text.startswith(shown) and not text[len(shown)].isspace():
        shown = whole
    return shown + ellipsis


def ending(text: str, width: int, ellipsis: str = "…") -> str:
    """The text in at most ``width`` terminal cells, its beginning left out where it is longer."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - cell_len(ellipsis):
        text = text[1:]
    return ellipsis + text


def fitting(parts: Iterable[str], width: int) -> str:
    """The parts side by side, without those that do not fit whole."""
    text = ""
    for part in parts:
        longer = f"{text}  {part}" if text else part
        text = longer if cell_len(longer) <= width else text
    return text


def fixed(text: str, width: int, ellipsis: str = "…") -> str:
    """The text shortened or padded to exactly ``width`` terminal cells."""
    return set_cell_size(shorten(text, width, ellipsis), max(0, width))


def with_minus(number: str) -> str:
    """A formatted number as it is shown: with a minus sign, not a hyphen."""
    return number.replace("-", "\N{MINUS SIGN}")


_ASCII = str.maketrans(
    {
        "│": "|", "┃": "|", "║": "|", "▕": "|", "▏": "|", "▐": "|", "▌": "|", "╎": "|",
        "─": "-", "━": "-", "═": "=", "╌": "-", "▔": "-", "▁": "_", "–": "-", "—": "-",
        "╭": "+", "╮": "+", "╰": "+", "╯": "+", "┌": "+", "┐": "+", "└": "+", "┘": "+",
        "├": "+", "┤": "+", "┬": "+", "┴": "+", "┼": "+", "▶": ">", "▸": ">", "▼": "v",
        "▾": "v", "▲": "^", "◀": "<", "◂": "<", "●": "*", "•": "*", "○": "o", "✓": "+",
        "✗": "x", "×": "x", "±": "~", "≥": ">", "≤": "<", "…": ".", "→": ">", "←": "<",
        "↑": "^", "↓": "v", "·": ".", "█": "#", "▓": "%", "▒": "+", "░": ".", "▀": "#",
        "▄": "#", "▊": "#", "⏎": "^", "Δ": "d", "−": "-", "‘": "'", "’": "'", "“": '"',
        "▂": "_", "▃": "_", "▅": "-", "▆": "-", "▇": "=", "▘": "'", "▖": ".", "▛": "#", "▙": "#",
        "”": '"', "◆": "x", "■": "#", "◇": "%", "⌕": "/", "🔎": "/ ",
    }
)  # fmt: skip


def to_ascii(text: str) -> str:
    """The text in ASCII, in as many terminal cells."""
    if text.isascii():
        return text
    text = text.translate(_ASCII)
    return "".join(c if c.isascii() else "?" * cell_len(c) for c in text)
