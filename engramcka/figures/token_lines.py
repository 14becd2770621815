"""Tokens set in lines, as a reader of their script expects: where each one stands.

Lines break before a token that starts a word, after a line end, and anywhere in scripts without
spaces or where a word is longer than a line. Right-to-left text runs from the right; what runs the
other way inside a line keeps its own order, brackets are mirrored (a simple form of the Unicode
bidirectional algorithm). Tokens of such text are cut into pieces of one direction, which may then
stand apart.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

_JOINER = "\u200d"
_MIRRORED = str.maketrans("()[]{}<>«»‹›", ")(][}{><»«›‹")
_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")


@dataclass(frozen=True)
class Piece:
    """A token, or the part of one that runs in one direction."""

    token: int
    text: str


@dataclass(frozen=True)
class PieceBox:
    """Where one piece stands; lengths in the unit of the widths."""

    piece: int
    line: int
    left: float
    width: float
    right_to_left: bool = False


def pieces_of(tokens: Sequence[str]) -> list[Piece]:
    """The tokens, cut where the direction changes if any of the text runs right to left."""
    if not any(_direction(token) for token in tokens):
        return [Piece(index, token) for index, token in enumerate(tokens)]
    return [
        Piece(index, "".join(run))
        for index, token in enumerate(tokens)
        for _, run in groupby(token, key=_direction)
    ]


def set_in_lines(
    texts: Sequence[str], widths: Sequence[float], room: float
) -> tuple[list[PieceBox], int]:
    """Break pieces into lines of ``room`` and order each line for reading.

    Args:
        texts: of the pieces; joined they give the passage back.
        widths: of each piece as drawn.
        room: width of a line.

    Returns:
        A place a piece, in their order, and the number of lines.
    """
    base = base_is_right_to_left(texts)
    lines = _broken(texts, widths, room)
    places = []
    for number, line in enumerate(lines):
        left = room - sum(widths[index] for index in line) if base else 0.0
        for index, turned in visual_order([texts[index] for index in line], base):
            piece = line[index]
            places.append(PieceBox(piece, number, left, widths[piece], turned))
            left += widths[piece]
    return sorted(places, key=lambda place: place.piece), len(lines)


def visual_order(texts: Sequence[str], right_to_left: bool) -> list[tuple[int, bool]]:
    """A line's pieces from left to right: index, and whether the piece runs right to left."""
    strong = [_direction(text) for text in texts]
    directions: list[bool] = []
    for index, own in enumerate(strong):
        if own is None:  # neutral: as both neighbours where they agree, else as the line
            before = directions[-1] if directions else right_to_left
            after = next((d for d in strong[index + 1 :] if d is not None), right_to_left)
            own = before if before == after else right_to_left
        directions.append(own)
    runs = [
        (direction, [index for index, _ in group])
        for direction, group in groupby(enumerate(directions), key=lambda pair: pair[1])
    ]
    if right_to_left:
        runs.reverse()
    return [(i, turned) for turned, run in runs for i in (reversed(run) if turned else run)]


def mirrored(text: str) -> str:
    """Brackets turned round, as right-to-left text shows them."""
    return text.translate(_MIRRORED)


def base_is_right_to_left(texts: Sequence[str]) -> bool:
    """Whether the first letter of the text is of a right-to-left script."""
    return next((d for text in texts if (d := _direction(text)) is not None), False)


def joined(tokens: Sequence[str], index: int) -> str:
    """A token with invisible joiners where a cursive script ties it to its neighbours."""
    token = tokens[index]
    before = tokens[index - 1][-1:] if index else ""
    after = tokens[index + 1][:1] if index + 1 < len(tokens) else ""
    head = _JOINER if _is_cursive(before) and _is_cursive(token[:1]) else ""
    tail = _JOINER if _is_cursive(after) and _is_cursive(token[-1:]) else ""
    return head + token + tail


def _broken(tokens: Sequence[str], widths: Sequence[float], room: float) -> list[list[int]]:
    """Lines of token indices."""
    lines: list[list[int]] = [[]]
    used = 0.0
    for word in _words(tokens):
        wide = sum(widths[index] for index in word)
        if lines[-1] and used + wide > room:
            lines.append([])
            used = 0.0
        for index in word:  # a word longer than a line breaks where it must
            if lines[-1] and used + widths[index] > room:
                lines.append([])
                used = 0.0
            lines[-1].append(index)
            used += widths[index]
        if tokens[word[-1]].endswith("\n"):
            lines.append([])
            used = 0.0
    return [line for line in lines if line]


def _words(tokens: Sequence[str]) -> list[list[int]]:
    """Runs of tokens that are kept on one line where that can be."""
    words: list[list[int]] = []
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else " "
        breaks = token[:1].isspace() or before[-1:].isspace() or not token
        if breaks or _has_no_spaces(token[:1]) or not words:
            words.append([])
        words[-1].append(index)
    return words


def _direction(token: str) -> bool | None:
    """Whether the token's first strong character runs right to left; None if it has none."""
    for character in token:
        kind = unicodedata.bidirectional(character)
        if kind in ("R", "AL"):
            return True
        if kind in ("L", "EN"):
            return False
    return None


def _has_no_spaces(character: str) -> bool:
    return bool(character) and unicodedata.name(character, "").startswith(_WITHOUT_SPACES)


def _is_cursive(character: str) -> bool:
    return bool(character) and unicodedata.bidirectional(character) == "AL"
