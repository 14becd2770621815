"""A picture in a box of the screen: half blocks, shades where there are no colours, or an image.

An image lies over the widget's empty cells. It is sent after the cells were, and taken away when
the widget moves, shrinks or leaves.
"""

from __future__ import annotations

import fcntl
import struct
import sys
import termios

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Offset
from textual.strip import Strip
from textual.widget import Widget

from engramcka import palettes
from engramcka.tui import pictures
from engramcka.tui.capabilities import Capabilities
from engramcka.tui.driver import DiffDriver

_NUMBER = 0x656B61  # of our image, in a terminal that may hold those of others
_CELL = (8, 16)  # pixels of a character where the terminal does not say


class Preview(Widget):
    """Shows a PNG as large as fits, or a sentence."""

    DEFAULT_CSS = "Preview { height: 1fr; }"

    def __init__(
        self, capabilities: Capabilities, protocol: pictures.Protocol, *, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self.capabilities, self.protocol = capabilities, protocol
        self.sentence = ""
        self._png = b""
        self._pixels: pictures.Pixels | None = None
        self._drawn: list[Strip] = []
        self._there = False  # whether an image is on the screen

    def say(self, sentence: str) -> None:
        """Show a sentence instead of the picture."""
        self.sentence, self._pixels = sentence, None
        self.change()

    def show(self, png: bytes, pixels: pictures.Pixels) -> None:
        """Show a picture."""
        self._png, self._pixels, self.sentence = png, pixels, ""
        self.change()

    def on_resize(self) -> None:
        """As large as fits."""
        self.change()

    def on_unmount(self) -> None:
        """Nothing of it stays."""
        self._take_away()

    def change(self) -> None:
        """Draw anew."""
        self._drawn = self._strips() if self._pixels is not None and not self.protocol else []
        self._take_away()
        self.refresh()
        if self._pixels is not None and self.protocol:
            self.call_after_refresh(self._send)

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

    def _strips(self) -> list[Strip]:
        assert self._pixels is not None
        width, lines = self.size.width, self.size.height
        if width < 2 or lines < 1:
            return []
        if not self.capabilities.half_blocks:
            shades = palettes.ASCII_SHADES if self.capabilities.ascii else palettes.SHADES
            columns, rows = pictures.cells(self._pixels, width, lines)
            return shaded(pictures.resized(self._pixels, columns, rows), shades)
        return half_blocks(pictures.fitted(self._pixels, width, 2 * lines))

    # Images

    def _send(self) -> None:
        """Put the image over the cells, which are on the screen by now."""
        if self._pixels is None or not self.is_attached or self.size.width < 2:
            return
        columns, lines = pictures.cells(self._pixels, self.size.width, self.size.height)
        region = self.content_region
        at = Offset(region.x + (region.width - columns) // 2, region.y)
        if self.protocol == "kitty":
            image = pictures.kitty(self._png, columns, lines, _NUMBER)
        elif self.protocol == "iterm":
            image = pictures.iterm(self._png, columns, lines)
        else:
            wide, high = cell_pixels()
            image = pictures.sixel(pictures.fitted(self._pixels, columns * wide, lines * high))
        self._there = True
        self._write(f"\x1b7\x1b[{at.y + 1};{at.x + 1}H{image}\x1b8")

    def _take_away(self) -> None:
        """Take a Kitty image off the screen; the others go when their cells are written again."""
        if self._there and self.protocol == "kitty":
            self._write(pictures.kitty_end(_NUMBER))
        if self._there and isinstance(self.app._driver, DiffDriver):
            self.app._driver.forget()
        self._there = False

    def _write(self, text: str) -> None:
        driver = self.app._driver  # Textual has no public way to write beside the cells
        if driver is not None:
            driver.write(text)
            driver.flush()


def half_blocks(pixels: pictures.Pixels) -> list[Strip]:
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


def shaded(pixels: pictures.Pixels, shades: str) -> list[Strip]:
    """A row of pixels a line: the darker on a light ground, the more ink, and the reverse."""
    grey = pixels @ [0.299, 0.587, 0.114]
    ground = grey[0, 0]
    ink = abs(grey - ground) / max(ground, 255 - ground)
    levels = (ink * len(shades)).astype(int).clip(0, len(shades) - 1)
    return [Strip([Segment("".join(shades[level] for level in row))]) for row in levels]


def cell_pixels() -> tuple[int, int]:
    """(width, height) of a character in pixels."""
    terminal = sys.__stdout__
    if terminal is None:
        return _CELL
    try:
        answer = fcntl.ioctl(terminal.fileno(), termios.TIOCGWINSZ, bytes(8))
        lines, columns, width, height = struct.unpack("HHHH", answer)
        return (width // columns, height // lines) if width and height else _CELL
    except (OSError, ValueError, ZeroDivisionError):
        return _CELL
