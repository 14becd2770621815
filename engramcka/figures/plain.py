"""Names of models and variants as one line of text without control characters.

Knows text only.
"""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"  # some scripts need them


def plain(name: str) -> str:
    """The name on one line, without control, format and surrogate characters.

    Format characters include those that turn the direction of text, which can make a label show
    something else than it says.
    """
    shown = (
        character if unicodedata.category(character)[0] != "C" or character in _JOINERS else " "
        for character in str(name)
    )
    return " ".join("".join(shown).split())
