"""A picture in the terminal: as coloured half blocks, or by one of three protocols for images.

Pure functions from a PNG or its pixels to text and escape sequences. Which protocol a terminal
speaks is read from the environment: asking the terminal would mix its answer with the keys.

Kitty: https://sw.kovidgoyal.net/kitty/graphics-protocol/ ; iTerm2:
https://iterm2.com/documentation-images.html ; Sixel: DEC STD 070, chapter 9.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Literal

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # (height, width, 3) RGB
Protocol = Literal["kitty", "iterm", "sixel", ""]

VARIABLE = "ENGRAMCKA_IMAGES"  # the user's word: kitty, iterm, sixel, or none
_WORDS: dict[str, Protocol] = {"kitty": "kitty", "iterm": "iterm", "sixel": "sixel"}
_TERMS: dict[str, Protocol] = {
    "xterm-kitty": "kitty", "xterm-ghostty": "kitty", "foot": "sixel", "foot-extra": "sixel",
    "mlterm": "sixel",
}  # fmt: skip
_PROGRAMS: dict[str, Protocol] = {
    "iTerm.app": "iterm", "WezTerm": "iterm", "mintty": "iterm", "ghostty": "kitty",
}  # fmt: skip

_KITTY_CHUNK = 4096  # characters of base64 in one sequence
_SIXEL_COLOURS = 128


def protocol(environ: Mapping[str, str]) -> Protocol:
    """How this terminal shows images; "" where it is not known to, as always inside tmux."""
    word = environ.get(VARIABLE, "")
    if word:
        return _WORDS.get(word, "")
    term = environ.get("TERM", "")
    if "TMUX" in environ or "STY" in environ or "NO_COLOR" in environ:
        return ""
    if term.startswith(("tmux", "screen")):
        return ""
    if term in _TERMS:
        return _TERMS[term]
    if environ.get("LC_TERMINAL") == "iTerm2":  # is passed on by ssh
        return "iterm"
    return _PROGRAMS.get(environ.get("TERM_PROGRAM", ""), "")


def pixels_of(png: bytes) -> Pixels:
    """The pixels of a PNG, transparent ones as on white."""
    from PIL import Image

    with Image.open(BytesIO(png)) as image:
        ground = Image.new("RGBA", image.size, "white")
        return np.asarray(Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB"))


def resized(pixels: Pixels, columns: int, rows: int) -> Pixels:
    """The picture in so many pixels or fewer, each a mean over what it covers; never larger."""
    means = pixels.astype(np.float64)
    for axis, count in enumerate((rows, columns)):
        there = pixels.shape[axis]
        edges = np.arange(min(count, there) + 1) * there // min(count, there)
        lengths = np.diff(edges).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        means = np.add.reduceat(means, edges[:-1], axis=axis) / lengths
    return np.rint(means).astype(np.uint8)


def fitted(pixels: Pixels, width: int, height: int) -> Pixels:
    """The picture as large as fits into (width, height) pixels."""
    rows, columns, _ = pixels.shape
    scale = min(width / columns, height / rows, 1.0)
    return resized(pixels, max(1, round(columns * scale)), max(1, round(rows * scale)))


def cells(pixels: Pixels, width: int, lines: int) -> tuple[int, int]:
    """(characters, lines) of the picture where it fits; a character is twice as high as wide."""
    rows, columns, _ = pixels.shape
    scale = min(width / columns, 2 * lines / rows)
    return max(1, min(width, round(columns * scale))), max(1, min(lines, round(rows * scale / 2)))


def kitty(png: bytes, columns: int, lines: int, number: int) -> str:
    """The sequences that show a PNG at the cursor over so many cells, as image ``number``."""
    content = base64.standard_b64encode(png).decode()
    parts = [content[i : i + _KITTY_CHUNK] for i in range(0, len(content), _KITTY_CHUNK)]
    first = f"a=T,t=d,f=100,i={number},p=1,c={columns},r={lines},C=1,q=2,"
    return "".join(
        f"\x1b_G{first if index == 0 else ''}m={int(index < len(parts) - 1)};{part}\x1b\\"
        for index, part in enumerate(parts)
    )


def kitty_end(number: int) -> str:
    """The sequence that takes image ``number`` off the screen and out of the terminal's memory."""
    return f"\x1b_Ga=d,d=I,i={number},q=2\x1b\\"


def iterm(png: bytes, columns: int, lines: int) -> str:
    """The sequence that shows a PNG at the cursor within so many cells."""
    content = base64.standard_b64encode(png).decode()
    options = f"inline=1;size={len(png)};width={columns};height={lines};preserveAspectRatio=1"
    return f"\x1b]1337;File={options}:{content}\x07"


def sixel(pixels: Pixels) -> str:
    """The sequence that shows the pixels at the cursor, in at most 128 of their colours."""
    from PIL import Image

    image = Image.fromarray(pixels).quantize(_SIXEL_COLOURS, dither=Image.Dither.NONE)
    numbers = np.asarray(image)
    table = np.array(image.getpalette("RGB"), dtype=np.int64).reshape(-1, 3)
    height, width = numbers.shape
    colours = "".join(
        f"#{n};2;{red};{green};{blue}"
        for n, (red, green, blue) in enumerate((table * 100 + 127) // 255)
    )
    bands = (_band(numbers[top : top + 6]) for top in range(0, height, 6))
    return f'\x1bP0;1q"1;1;{width};{height}{colours}{"-".join(bands)}\x1b\\'


def _band(numbers: npt.NDArray[np.uint8]) -> str:
    """Six rows: for each colour in them its pixels, a bit each, from the left."""
    weights = (1 << np.arange(len(numbers)))[:, None]
    drawn = []
    for number in np.unique(numbers):
        bits = ((numbers == number) * weights).sum(axis=0)
        drawn.append(f"#{number}" + "".join(_runs(bits)))
    return "$".join(drawn)


def _runs(bits: npt.NDArray[np.int64]) -> Iterator[str]:
    """Characters of sixels, repeated ones as a count."""
    starts = np.flatnonzero(np.diff(bits, prepend=-1))
    lengths = np.diff(starts, append=len(bits))
    for value, length in zip(bits[starts].tolist(), lengths.tolist(), strict=True):
        character = chr(63 + value)
        yield character * length if length < 4 else f"!{length}{character}"
