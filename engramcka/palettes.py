"""Colour maps as RGB tables, and shade characters, for figures and screens alike.

No matplotlib, and NumPy only for arrays. The anchors are 33 samples of the perceptually uniform,
colour-blind-safe maps of the same names (released to the public domain), interpolated to 256
entries, and of a symmetric blue-white-orange map for differences.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from engramcka.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Rgb = tuple[int, int, int]

_ANCHORS = {
    "magma": (
        "000004 030312 0a0822 130d34 1d1147 29115a 36106b 440f76 51127c 5d177f 6a1c81 762181 832681"
        " 902a81 9c2e7f aa337d b73779 c43c75 d0416f dc4869 e75263 ef5d5e f56b5c f9795d fc8961"
        " fd9869 fea772 feb67c fec488 fed395 fde2a3 fcf0b2 fcfdbf"
    ),
    "viridis": (
        "440154 470d60 48186a 482374 472d7b 453781 424086 3e4989 3b528b 375b8d 33638d 2f6b8e 2c728e"
        " 297a8e 26828e 23898e 21918c 1f988b 1fa088 22a785 28ae80 32b67a 3fbc73 4ec36b 5ec962"
        " 70cf57 84d44b 98d83e addc30 c2df23 d8e219 ece51b fde725"
    ),
    "cividis": (
        "00224e 00285b 002e6a 053371 1a386f 273e6e 32436d 3b496c 434e6c 4b546c 535a6d 5a5f6e 61656f"
        " 686a71 6f7073 767676 7d7c78 848279 8c8878 938e78 9b9476 a39a74 aba072 b4a76f bcae6c"
        " c4b468 cdbb63 d5c25e dec958 e7d150 f0d846 f9e03a fee838"
    ),
    "diverging": "1c3f7c 2f62a8 5b8ec4 97b9dc d0deec f5f5f2 f3dcc0 e8b87c d48a3e b2621c 7d3f0c",
}

PALETTES = tuple(name for name in _ANCHORS if name != "diverging")
"""Sequential palettes a person may choose from, the default first."""

NO_VALUE: dict[str, Rgb] = {
    "magma": (111, 125, 128),
    "viridis": (138, 138, 138),
    "cividis": (200, 107, 107),
    "diverging": (125, 125, 125),
}
"""The colour of a cell without an estimate on screens: none of its palette's."""

SHADES = " ░▒▓█"
"""Characters from empty to full for terminals without colour; `ASCII_SHADES` where not UTF-8."""

ASCII_SHADES = " .:-=+*#%@"


@cache
def rgb(name: str) -> tuple[Rgb, ...]:
    """The palette as 256 (red, green, blue), 0 to 255.

    Raises:
        ConfigError: there is no palette of that name.
    """
    if name not in _ANCHORS:
        raise ConfigError(f"no palette {name!r}; there are {', '.join(_ANCHORS)}")
    anchors = [[int(e[i : i + 2], 16) for i in (0, 2, 4)] for e in _ANCHORS[name].split()]
    return tuple(_between(anchors, index / 255 * (len(anchors) - 1)) for index in range(256))


def _between(anchors: list[list[int]], at: float) -> Rgb:
    """The colour at a place between anchors, linear."""
    low = min(int(at), len(anchors) - 2)
    pairs = zip(anchors[low], anchors[low + 1], strict=True)
    red, green, blue = (round(a + (b - a) * (at - low)) for a, b in pairs)
    return red, green, blue


@cache
def table(name: str) -> npt.NDArray[np.uint8]:
    """The palette as (256, 3) uint8 RGB, read only; raises as `rgb`."""
    import numpy as np

    colours = np.array(rgb(name), dtype=np.uint8)
    colours.flags.writeable = False
    return colours


def colours(
    values: npt.ArrayLike, name: str = PALETTES[0], low: float = 0.0, high: float = 1.0
) -> npt.NDArray[np.uint8]:
    """Values of any shape as (..., 3) uint8 RGB: ``low`` is the first colour, ``high`` the last.

    Values outside are clipped. NaN gets the first colour: mark it yourself, no colour says "none".
    """
    import numpy as np

    scaled = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    index = np.clip(np.nan_to_num(scaled, nan=0.0) * 255.0 + 0.5, 0, 255).astype(np.intp)
    return table(name)[index]


def ink_on(red: float, green: float, blue: float) -> str:
    """Black or white, whichever has the higher contrast (WCAG 2) on a colour of parts 0 to 1."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (red, green, blue)
    )
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"
