"""The export dialog: what is drawn, format, venue, width and ground, and how it will look."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from engramcka.figures.options import VENUES, WIDTHS
from engramcka.plain_text import clean
from engramcka.tui import exporting
from engramcka.tui.exporting import Export, Exportable
from engramcka.tui.terminal import Capabilities
from engramcka.tui.widgets.key_bar import Prompt, Shortcut
from engramcka.tui.widgets.preview import Pixels, Preview, pixels_of

LEAST = 4  # lines of a preview that is worth drawing
PAUSE = 0.15  # seconds without another answer before the figure is drawn
_LABEL = 9  # characters before the choices


class Choice(Widget, can_focus=True):
    """One question in a line: left and right or a click choose the answer."""

    class Changed(Message):
        """Another answer was chosen."""

    DEFAULT_CSS = """
    Choice { height: 1; }
    Choice:focus { background: $foreground 12%; }
    """

    BINDINGS = [
        Shortcut("left,h", "choose(-1)", show=False),
        Shortcut("right,l,space", "choose(1)", show=False),
        Shortcut("up,k", "app.focus_previous", show=False),
        Shortcut("down,j", "app.focus_next", show=False),
    ]

    def __init__(self, question: str, answers: Sequence[str], *, id: str) -> None:
        super().__init__(id=id)
        self.question, self.answers = question, tuple(answers)
        self.at = 0

    @property
    def answer(self) -> str:
        """The one that is chosen."""
        return self.answers[self.at]

    def render(self) -> Text:
        """The question and its answers, the chosen one marked."""
        text = Text(f"{self.question:<{_LABEL}}", no_wrap=True)
        for index, answer in self._shown():
            chosen = index == self.at
            text.append(f"[{answer}]" if chosen else f" {answer} ", "bold" if chosen else "dim")
        return text

    def _shown(self) -> list[tuple[int, str]]:
        """The answers with their numbers, from the first on or so that the chosen one fits."""
        answers, room = list(enumerate(self.answers)), self.size.width - _LABEL
        start = 0
        while start < self.at and sum(len(a) + 2 for _, a in answers[start : self.at + 1]) > room:
            start += 1
        return answers[start:]

    def action_choose(self, step: int) -> None:
        """Take the next answer to the chosen question."""
        self._take((self.at + step) % len(self.answers))

    def _take(self, at: int) -> None:
        self.at = at
        self.refresh()
        self.post_message(self.Changed())

    def on_click(self, event: events.Click) -> None:
        """The answer that was clicked."""
        x = _LABEL
        for index, answer in self._shown():
            if x <= event.x < x + len(answer) + 2:
                self._take(index)
            x += len(answer) + 2


class Folders(Suggester):
    """Completes the name of a folder that is there; the right arrow takes it."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """The first folder by name that begins so."""
        above, _, begun = value.rpartition("/")
        place = Path(f"{above}/" if "/" in value else ".").expanduser()
        try:
            with os.scandir(place) as found:
                names = sorted(one.name for one in found if one.is_dir())
        except (OSError, ValueError, RuntimeError):
            return None
        known = [name for name in names if name.startswith(begun) and name.isprintable()]
        known = [name for name in known if begun or not name.startswith(".")]
        head = f"{above}/" if "/" in value else ""
        return f"{head}{known[0]}/" if known and value else None


class FolderField(Prompt):
    """Where the figure goes."""

    DEFAULT_CSS = "FolderField { width: 1fr; }"

    BINDINGS = [
        Shortcut("up", "app.focus_previous", show=False),
        Shortcut("down", "app.focus_next", show=False),
    ]


@dataclass
class Previewed(Message):
    """A preview was drawn, or could not be."""

    export: Export
    pixels: Pixels | None = None
    sentence: str = ""


class ExportScreen(ModalScreen[Export | None]):
    """The dialog, with the figure as it will be; enter writes."""

    BINDINGS = [
        Shortcut("enter", "write", "Write"),
        Shortcut("escape,q", "dismiss", "Close"),
    ]

    def __init__(self, subject: Exportable, capabilities: Capabilities, folder: str = "") -> None:
        super().__init__()
        self._folder = folder
        self.subject, self.capabilities = subject, capabilities
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """The questions in a box, the figure below them."""
        with Vertical(id="export") as box:
            box.border_title = "export a figure"
            box.border_subtitle = "enter writes, esc closes"
            if len(self.subject.parts) > 1:
                yield Choice("figure", [part.name for part in self.subject.parts], id="part")
            yield Choice("format", self.subject.formats, id="format")
            yield Choice("venue", VENUES, id="venue")
            yield Choice("width", WIDTHS, id="width")
            yield Choice("ground", ("light", "dark"), id="ground")
            with Horizontal(id="folder-line"):
                yield Static(f"{'folder':<{_LABEL}}", id="folder-label")
                yield FolderField(
                    self._folder, placeholder="the run's figures", compact=True, id="folder",
                    suggester=Folders(), select_on_focus=False,
                )  # fmt: skip
            yield Preview(self.capabilities, id="preview")

    def on_mount(self) -> None:
        """Draw the figure as it is asked for first, when it is known how much room there is."""
        self.call_after_refresh(self._draw)

    @property
    def answers(self) -> Export:
        """The chosen part, format, venue, width and ground."""
        found = {str(choice.id): choice.answer for choice in self.query(Choice)}
        return Export(
            found.get("part", ""), found["format"], found["venue"], found["width"],
            found["ground"] == "dark", self.query_one(FolderField).value.strip(),
        )  # fmt: skip

    @property
    def _figure(self) -> Export:
        """What the preview shows, wherever it is to be written."""
        return replace(self.answers, folder="")

    def on_choice_changed(self) -> None:
        """Draw again, when no other answer follows at once."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(PAUSE, self._draw)

    def _draw(self) -> None:
        preview, export = self.query_one(Preview), self._figure
        if preview.size.height >= LEAST:
            preview.say("drawing ..")
            self.run_worker(lambda: self._preview(export), thread=True, group="preview")

    def _preview(self, export: Export) -> None:
        """Draw the figure as a picture, in a thread of its own."""
        if export != self._figure:
            return
        try:
            pixels = pixels_of(exporting.preview(self.subject, export))
            self.post_message(Previewed(export, pixels))
        except Exception as error:  # a figure may fail in any way
            self.post_message(Previewed(export, sentence=clean(error)))

    def on_previewed(self, message: Previewed) -> None:
        """Show it, unless something else is asked for by now."""
        if message.export != self._figure:
            return
        if message.pixels is None:
            self.query_one(Preview).say(message.sentence)
        else:
            self.query_one(Preview).show(message.pixels)

    async def action_write(self) -> None:
        """Close the dialog; its answers are written by whoever opened it."""
        await self.query_one(FolderField).typed()
        self.dismiss(self.answers)
