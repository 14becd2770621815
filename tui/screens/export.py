"""The export dialog: what is drawn, format, venue, width and ground, and how it will look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widget import Widget

from engramcka.figures.options import VENUES, WIDTHS
from engramcka.plain_text import clean
from engramcka.tui import exporting
from engramcka.tui.exporting import Export, Exportable
from engramcka.tui.terminal import Capabilities
from engramcka.tui.widgets.key_bar import Shortcut
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

    def __init__(self, subject: Exportable, capabilities: Capabilities) -> None:
        super().__init__()
        self.subject, self.capabilities = subject, capabilities
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """The questions in a box, the figure below them."""
        with Vertical(id="export") as box:
            box.border_title = "export a figure"
            box.border_subtitle = "enter writes into the run's figures, esc closes"
            if len(self.subject.parts) > 1:
                yield Choice("figure", [part.name for part in self.subject.parts], id="part")
            yield Choice("format", self.subject.formats, id="format")
            yield Choice("venue", VENUES, id="venue")
            yield Choice("width", WIDTHS, id="width")
            yield Choice("ground", ("light", "dark"), id="ground")
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
            found["ground"] == "dark",
        )  # fmt: skip

    def on_choice_changed(self) -> None:
        """Draw again, when no other answer follows at once."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(PAUSE, self._draw)

    def _draw(self) -> None:
        preview, export = self.query_one(Preview), self.answers
        if preview.size.height >= LEAST:
            preview.say("drawing ..")
            self.run_worker(lambda: self._preview(export), thread=True, group="preview")

    def _preview(self, export: Export) -> None:
        """Draw the figure as a picture, in a thread of its own."""
        if export != self.answers:
            return
        try:
            pixels = pixels_of(exporting.preview(self.subject, export))
            self.post_message(Previewed(export, pixels))
        except Exception as error:  # a figure may fail in any way
            self.post_message(Previewed(export, sentence=clean(error)))

    def on_previewed(self, message: Previewed) -> None:
        """Show it, unless something else is asked for by now."""
        if message.export != self.answers:
            return
        if message.pixels is None:
            self.query_one(Preview).say(message.sentence)
        else:
            self.query_one(Preview).show(message.pixels)

    def action_write(self) -> None:
        """Close the dialog; its answers are written by whoever opened it."""
        self.dismiss(self.answers)
