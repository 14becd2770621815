"""A picture in a box of the screen: half blocks, or shades where there are no colours."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import numpy.typing as npt
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from engramcka import palettes
from engramcka.tui.terminal import Capabilities

Pixels = npt.NDArray[np.uint8]  # (height, width, 3) RGB


class Preview(Widget):
    """Shows a picture as large as fits, or a sentence."""

    DEFAULT_CSS = "Preview { height: 1fr; }"

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.capabilities = capabilities
        self.sentence = ""
        self.pixels: Pixels | None = None
        self._drawn: list[Strip] = []

    def say(self, sentence: str) -> None:
        """Show a sentence instead of the picture."""
        self.sentence, self.pixels = sentence, None
        self._draw()

    def show(self, pixels: Pixels) -> None:
        """Show a picture, as large as fits."""
        self.pixels, self.sentence = pixels, ""
        self._draw()

    def on_resize(self) -> None:
        """Draw the picture again, as large as now fits."""
        self._draw()

    def _draw(self) -> None:
        self._drawn = [] if self.pixels is None else self._strips(self.pixels)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """A line of the picture, in the middle."""
        width, ground = self.size.width, self.rich_style
        top = (self.size.height - len(self._drawn)) // 2
        if self.sentence:
            text = self.sentence[:width] if y == self.size.height // 2 else ""
            return Strip([Segment(text.center(width), ground)])
        if not 0 <= y - top < len(self._drawn):
            return Strip.blank(width, ground)
        strip = self._drawn[y - top]
        left = (width - strip.cell_length) // 2
        return Strip([Segment(" " * left, ground), *strip]).adjust_cell_length(width, ground)

    def _strips(self, pixels: Pixels) -> list[Strip]:
        width, lines = self.size.width, self.size.height
        if width < 2 or lines < 1:
            return []
        if not self.capabilities.half_blocks:
            shades = palettes.ASCII_SHADES if self.capabilities.ascii else palettes.SHADES
            return shaded(resized(pixels, *cells(pixels, width, lines)), shades)
        return half_blocks(fitted(pixels, width, 2 * lines))


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


def half_blocks(pixels: Pixels) -> list[Strip]:
    """Two rows of pixels a line."""
    rows = pixels.tolist()
    if len(rows) % 2:
        rows.append(rows[-1])
    return [
        Strip(
            [
                Segment("▀", Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))
                for upper, lower in zip(rows[y], rows[y + 1], strict=True)
            ]
        ).simplify()
        for y in range(0, len(rows), 2)
    ]


def shaded(pixels: Pixels, shades: str) -> list[Strip]:
    """A row of pixels a line: the darker on a light ground, the more ink, and the reverse."""
    grey = pixels @ [0.299, 0.587, 0.114]
    ground = grey[0, 0]
    ink = abs(grey - ground) / max(ground, 255 - ground)
    levels = (ink * len(shades)).astype(int).clip(0, len(shades) - 1)
    return [Strip([Segment("".join(shades[level] for level in row))]) for row in levels]
