"""The export dialog: format, venue, width and ground of the figure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from engramcka.tui.exporting import FORMATS, VENUES, WIDTHS, Export

_LABEL = 9  # characters before the choices


class Choice(Widget, can_focus=True):
    """One question in a line: left and right or a click choose the answer."""

    DEFAULT_CSS = """
    Choice { height: 1; }
    Choice:focus { background: $foreground 12%; }
    """

    BINDINGS = [
        Binding("left,h", "choose(-1)", show=False),
        Binding("right,l,space", "choose(1)", show=False),
        Binding("up,k", "app.focus_previous", show=False),
        Binding("down,j", "app.focus_next", show=False),
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
        for index, answer in enumerate(self.answers):
            chosen = index == self.at
            text.append(f"[{answer}]" if chosen else f" {answer} ", "bold" if chosen else "dim")
        return text

    def action_choose(self, step: int) -> None:
        """The next answer."""
        self.at = (self.at + step) % len(self.answers)
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """The answer that was clicked."""
        x = _LABEL
        for index, answer in enumerate(self.answers):
            if x <= event.x < x + len(answer) + 2:
                self.at = index
            x += len(answer) + 2
        self.refresh()


class ExportScreen(ModalScreen[Export | None]):
    """The dialog; enter writes."""

    BINDINGS = [
        Binding("enter", "write", "Write"),
        Binding("escape,q", "dismiss", "Close"),
    ]

    def compose(self) -> ComposeResult:
        """The questions in a box."""
        with Vertical(id="export") as box:
            box.border_title = "export a figure"
            box.border_subtitle = "enter writes, esc closes"
            yield Choice("format", FORMATS, id="format")
            yield Choice("venue", VENUES, id="venue")
            yield Choice("width", WIDTHS, id="width")
            yield Choice("ground", ("light", "dark"), id="ground")
            yield Static("\nThe file goes into the run's folder figures.", markup=False)

    def action_write(self) -> None:
        """Close with the answers."""
        answers = {choice.id: choice.answer for choice in self.query(Choice)}
        self.dismiss(
            Export(
                answers["format"], answers["venue"], answers["width"], answers["ground"] == "dark"
            )
        )
