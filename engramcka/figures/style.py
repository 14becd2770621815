"""The look of a figure: widths and font sizes of venues, light and dark.

Settings reach matplotlib through a context only; the caller's rcParams are never changed. Fonts are
those that come with matplotlib, so that a figure is the same on every machine; name another one
with ``font``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, wraps
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from engramcka.errors import ConfigError
from engramcka.figures.options import WIDTHS, Width

_SERIF = ("STIXGeneral", "DejaVu Sans")  # Times-like, as these venues set their text
_SANS = ("DejaVu Sans",)


def _know_own_fonts() -> None:
    """Add the fonts that come with matplotlib where its list of fonts lacks them.

    The list is kept in the user's cache for all environments. Written while an environment was
    being removed, it has the system's fonts only, and every later figure would be set in others.
    """
    known = {font.fname for font in fontManager.ttflist}
    for path in sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("*.ttf")):
        if str(path) not in known:
            fontManager.addfont(path)


_know_own_fonts()

# For what the fonts above lack; taken where the machine has them.
_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "Microsoft YaHei", "PingFang SC", "Hiragino Sans", "Malgun Gothic", "Noto Sans Devanagari",
    "Noto Sans Thai",
)  # fmt: skip

PNG_DPI = 300
PAD = 0.02  # inches around everything
_SAME_ROOM = 0.3  # points by which axes may change and leave what is drawn on them as it is
SETTLED = 0.002  # inches: a height that changes by less is final


@dataclass(frozen=True)
class Style:
    """A venue's measures and what the user chose; lengths in inches, font sizes in points."""

    name: str
    column: float  # width of one column of text
    page: float  # width of the text block
    font_size: float  # axis labels, titles
    small_size: float  # tick labels, legends, annotations
    fonts: tuple[str, ...] = _SANS
    width: Width | float = "column"
    dark: bool = False

    @classmethod
    def named(
        cls,
        name: str = "plain",
        *,
        width: Width | float = "column",
        dark: bool = False,
        font: str | None = None,
    ) -> Style:
        """The style of a venue.

        Args:
            name: one of `STYLES`.
            width: ``column``, ``page`` (the text block), ``half`` of the text block less a gap (two
                figures side by side where the text has one column), or inches.
            dark: light on dark ground, for screens and talks.
            font: a font of this machine to use before the style's own.

        Raises:
            ConfigError: no style, width or font of that name.
        """
        if name not in STYLES:
            raise ConfigError(f"no figure style {name!r}; there are {', '.join(STYLES)}")
        if isinstance(width, str) and width not in WIDTHS:
            raise ConfigError(
                f"figure width is half, column, page or a number of inches, found {width!r}"
            )
        if not isinstance(width, str) and not 1.0 <= width <= 40.0:
            raise ConfigError(f"figure width is 1 to 40 inches, found {width:g}")
        if font is not None and font not in fontManager.get_font_names():
            raise ConfigError(f"no font {font!r} on this machine; leave it out for the style's own")
        style = STYLES[name]
        fonts = (font, *style.fonts) if font else style.fonts
        return replace(style, width=width, dark=dark, fonts=fonts)

    @property
    def inches(self) -> float:
        """Width of the figure, in inches."""
        if self.width == "half":
            return (self.page - 0.25) / 2
        if isinstance(self.width, str):
            return self.page if self.width == "page" else self.column
        return float(self.width)

    @property
    def ink(self) -> str:
        """Colour of text and axes."""
        return "#e8e8e8" if self.dark else "black"

    @property
    def ground(self) -> str:
        """Colour of the figure's ground, behind all axes."""
        return "#15151b" if self.dark else "white"

    def settings(self) -> dict[str, Any]:
        """The rcParams of this style; a whole set, so that no setting of the caller shines in."""
        ink, ground = self.ink, self.ground
        sizes = {"axes.titlesize": self.font_size, "axes.labelsize": self.font_size}
        small = ("xtick.labelsize", "ytick.labelsize", "legend.fontsize")
        inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
        grounds = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
        return {
            **dict(matplotlib.rcParamsDefault.items()),
            "font.family": [*self.fonts, *further_fonts()],
            "font.size": self.font_size,
            **sizes,
            **dict.fromkeys(small, self.small_size),
            **dict.fromkeys(inks, ink),
            **dict.fromkeys(grounds, ground),
            "text.parse_math": False,
            "text.usetex": False,
            "axes.linewidth": 0.6,
            "axes.labelpad": 2.5,
            "axes.titlepad": 4.0,
            **{f"{axis}tick.major.{key}": v for axis in "xy" for key, v in _TICKS.items()},
            "lines.linewidth": 1.1,
            "lines.markersize": 3.5,
            "hatch.linewidth": 0.5,
            "figure.constrained_layout.h_pad": PAD,
            "figure.constrained_layout.w_pad": PAD,
        }

    @contextmanager
    def context(self) -> Iterator[None]:
        """Within it, matplotlib's settings are this style's; after it, the caller's again."""
        settings = {key: v for key, v in self.settings().items() if key not in _BACKENDS}
        with settings_for(settings):
            yield


@contextmanager
def settings_for(settings: Mapping[str, Any]) -> Iterator[None]:
    """Within it these rcParams hold; after it, the caller's again."""
    with matplotlib.rc_context(cast(Any, dict(settings))):
        yield


_TICKS = {"size": 2.2, "width": 0.6, "pad": 1.8}
_BACKENDS = ("backend", "backend_fallback", "interactive", "toolbar")

# Text widths and sizes from the venues' LaTeX templates and, for Nature, its guide to authors
# (89 and 183 mm, 5 to 7 pt). Labels one point below the text, small text two below that.
STYLES = {
    style.name: style
    for style in (
        Style("plain", 3.25, 6.75, 8, 6.5),
        Style("neurips", 5.5, 5.5, 9, 7, _SERIF),
        Style("icml", 3.25, 6.75, 8, 6.5, _SERIF),
        Style("iclr", 5.5, 5.5, 9, 7, _SERIF),
        Style("acl", 3.03, 6.3, 9, 7, _SERIF),
        Style("nature", 3.504, 7.205, 7, 6),
    )
}
"""Styles by name; `Style.named` chooses width and ground."""


def as_style(style: Style | str) -> Style:
    """The style itself, or the one of that name.

    Raises:
        ConfigError: no style of that name.
    """
    return style if isinstance(style, Style) else Style.named(style)


def new_figure(
    style: Style, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> Figure:
    """An empty figure of the style's width, outside pyplot; call within the style's context.

    ``compressed`` is for grids of axes of equal aspect: it leaves no room between them.
    """
    figure = Figure(figsize=(style.inches, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def compose(
    figure: Figure, draw: Callable[[], Any], *, trim: bool | Callable[[Figure], None] = False
) -> Any:
    """Draw, lay out, draw again on the same axes until their size stays, and fix the layout.

    What is thinned or shortened to the room there is needs to know that room. Call within the
    style's context: matplotlib makes ticks at the first layout, with the settings of that moment.

    Args:
        figure: its axes are there and empty.
        draw: draws on them.
        trim: cut the figure's height to what it needs, as axes of equal aspect leave room over; a
            function lays the figure out and cuts it in its own way.

    Returns:
        What ``draw`` returned.
    """
    own = list(figure.axes)
    before = None
    for attempt in range(3 if trim else 2):  # a new height changes the room once more
        if attempt:
            for ax in [ax for ax in figure.axes if ax not in own]:
                ax.remove()  # colour bars, which are drawn again too
            for ax in own:
                ax.clear()
        drawn = draw()
        _lay_out(figure, trim)
        sizes = np.array([ax.get_window_extent().size for ax in own]) * 72 / figure.dpi
        if before is not None and np.abs(sizes - before).max() < _SAME_ROOM:
            break
        before = sizes
    figure.set_layout_engine("none")
    figure.draw_without_rendering()
    return drawn


def one_axes_figure(
    style: Style, height: float, draw: Callable[[Axes], Any], *, trim: bool = False
) -> Figure:
    """A figure of one axes.

    Args:
        style: of the figure.
        height: inches.
        draw: draws on the axes; called again until their size stays, see `compose`.
        trim: cut the figure to the height that it needs.
    """
    with style.context():
        figure = new_figure(style, height)
        axes = figure.subplots()
        compose(figure, lambda: draw(axes), trim=trim)
    return figure


def _lay_out(figure: Figure, trim: bool | Callable[[Figure], None]) -> None:
    """Give the axes their places, and with ``trim`` the figure the height that these need."""
    if callable(trim):
        trim(figure)
        return
    arrange(figure)
    for _ in range(3 if trim else 0):
        content = figure.get_tightbbox(cast(Any, figure.canvas).get_renderer())
        height = max(0.5, content.height + 2 * PAD)
        if abs(height - figure.get_figheight()) < SETTLED:
            break
        figure.set_figheight(height)
        arrange(figure)


def arrange(figure: Figure, height: float | None = None) -> None:
    """Lay the figure out once, at a new height in inches if there is one."""
    if height is not None:
        figure.set_figheight(height)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)


@cache
def further_fonts() -> tuple[str, ...]:
    """Those of `_SCRIPTS` that this machine has."""
    return tuple(name for name in _SCRIPTS if name in fontManager.get_font_names())


Plot = TypeVar("Plot", bound=Callable[..., Any])


def on_own_axes(height: float) -> Callable[[Plot], Plot]:
    """Let ``plot(result, ax=None, ..)`` make a figure in the plain style where ``ax`` is None.

    Args:
        height: of that figure before it is cut to what it needs, in its widths.
    """

    def wrapped(plot: Plot) -> Plot:
        @wraps(plot)
        def drawn(result: Any, ax: Any = None, **options: Any) -> Any:
            if ax is not None:
                return plot(result, ax, **options)
            style = STYLES["plain"]
            with style.context():
                figure = new_figure(style, height * style.inches)
                axes = figure.subplots()
                return compose(figure, lambda: plot(result, axes, **options), trim=True)

        return cast(Plot, drawn)

    return wrapped
