"""A series of maps over training checkpoints, that can be stepped through and played."""

from __future__ import annotations

from textual.timer import Timer

from engramcka.results import SimilarityMap
from engramcka.tui.exporting import ExportPart
from engramcka.tui.loading import Several
from engramcka.tui.messages import TitleChanged
from engramcka.tui.screens.map import MapView
from engramcka.tui.terminal import Capabilities
from engramcka.tui.widgets.key_bar import Shortcut

SECONDS = 0.5  # a map is shown for so long while the series plays
_SLIDER = 20  # characters of the slider at most


class SeriesView(MapView):
    """The map of one checkpoint, and the keys to the others; the cursor stays on its cell."""

    BINDINGS = [
        Shortcut("space", "play", "Play"),
        Shortcut("right_square_bracket", "checkpoint(1)", "Later", key_display="]"),
        Shortcut("left_square_bracket", "checkpoint(-1)", "Earlier", key_display="["),
        Shortcut("left_curly_bracket", "checkpoint(-9999)", "First", show=False),
        Shortcut("right_curly_bracket", "checkpoint(9999)", "Last", show=False),
    ]

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(capabilities, id=id)
        self.maps: dict[str, SimilarityMap] = {}
        self.at = 0
        self._timer: Timer | None = None
        self._begin: tuple[str, int] | None = None

    def begin_at(self, name: str, step: int) -> None:
        """What is shown next begins so many checkpoints after this one."""
        self._begin = (name, step)

    def show(self, value: SimilarityMap | Several) -> None:
        """Show a series, at the checkpoint that was shown before where it is the same series."""
        if isinstance(value, SimilarityMap):
            super().show(value)
            return
        names = list(self.maps)
        before = names[self.at] if self.at < len(names) else ""
        last = bool(names) and self.at == len(names) - 1
        self.maps = dict(value.values)
        names = list(self.maps)
        if self._begin is not None and self._begin[0] in names:
            at = names.index(self._begin[0]) + self._begin[1]
            self.at = min(max(at, 0), len(names) - 1)
        elif last or before not in names:  # the newest is followed while the job writes
            self.at = len(names) - 1 if last else 0
        else:
            self.at = names.index(before)
        self._begin = None
        self._show_step()

    @property
    def name_shown(self) -> str:
        """Name of the map on screen."""
        return list(self.maps)[self.at]

    @property
    def heading(self) -> str:
        """Step and slider, for the title."""
        if not self.maps:
            return ""
        count = len(self.maps)
        length = min(_SLIDER, count)
        knob = self.at * (length - 1) // max(1, count - 1)
        slider = "━" * knob + "●" + "─" * (length - 1 - knob)
        mark = "▶ " if self._timer is not None else ""
        step = self.maps[self.name_shown].step
        return f"{mark}step {step}  {slider} {self.at + 1}/{count}"

    def parts(self) -> tuple[ExportPart, ...]:
        """The map on the screen, and small multiples of the series."""
        options = self.figure_options()
        several = {name: options[name] for name in ("palette", "alignment", "k", "low", "high")}
        maps = list(self.maps.values())
        return (
            ExportPart("this map", f"cka-{self.name_shown}", self.map, options),
            ExportPart("all maps", f"series-{maps[0].series}", maps, several, "series"),
        )

    def _show_step(self) -> None:
        super().show(self.maps[self.name_shown])
        self.post_message(TitleChanged())

    def action_checkpoint(self, steps: int) -> None:
        """A later or earlier checkpoint; stops playing."""
        self.stop()
        self._go(min(max(self.at + steps, 0), len(self.maps) - 1))

    def _go(self, at: int) -> None:
        if self.maps and at != self.at:
            self.at = at
            self._show_step()

    def action_play(self) -> None:
        """Play from here on and then from the start, or pause."""
        if self._timer is not None:
            self.stop()
        elif len(self.maps) > 1:
            self._timer = self.set_interval(SECONDS, self._play)
            self.post_message(TitleChanged())

    def _play(self) -> None:
        self._go((self.at + 1) % len(self.maps))

    def stop(self) -> None:
        """Stop playing the series; the map stays."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
            self.post_message(TitleChanged())

    def on_hide(self) -> None:
        """Pause a series that is no longer on the screen."""
        self.stop()
