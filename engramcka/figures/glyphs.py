"""Which characters the fonts of a figure can draw, and text in which the others are named.

Knows fonts and text only.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font

_SHOWN = {"\n": "↵", "\r": "↵", "\t": "⇥", "\u00a0": " "}


def drawable(text: str, families: Sequence[str]) -> tuple[str, frozenset[str]]:
    """The text on one line, with a character's number, as [4E2D], where no font has it.

    Args:
        text: any; line ends and tabs become signs, other control characters numbers.
        families: font families, the first that has a character draws it.

    Returns:
        What can be drawn, and the characters that cannot.
    """
    known = _covered(tuple(families))
    shown, missing = [], set()
    for character in text:
        character = _SHOWN.get(character, character)
        category = unicodedata.category(character)
        if category in ("Mn", "Me", "Cf", "Zs") or ord(character) in known:
            shown.append(character if category[0] != "Z" else " ")
            continue
        shown.append(f"[{ord(character):04X}]")
        missing.add(character)
    return "".join(shown), frozenset(missing)


def scripts(characters: frozenset[str]) -> str:
    """What the characters are, for a caption: 'CJK, Thai'. Control characters are 'control'."""
    names = {unicodedata.name(character, "control").split()[0] for character in characters}
    return ", ".join(sorted(name if name == "CJK" else name.lower() for name in names))


@cache
def _covered(families: tuple[str, ...]) -> frozenset[int]:
    """Every character that one of these families has."""
    found: set[int] = set()
    for family in families:
        path = findfont(FontProperties(family=[family]), fallback_to_default=True)
        found.update(get_font(path).get_charmap())
    return frozenset(found)
