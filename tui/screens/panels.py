"""Base of views that show a result with what is known under the cursor beside it."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from engramcka.tui.terminal import Capabilities
from engramcka.tui.widgets.canvas import Line
from engramcka.tui.widgets.panel import DetailsPanel, TextLines


class PanelView(Widget, can_focus=True):
    """A result with a panel beside it; on small screens one line below it instead.

    A subclass yields the result's widgets in `compose_result` and says what the panel and the line
    tell; it calls `refresh_panel` when that changes.
    """

    DEFAULT_CSS = """
    PanelView { layout: vertical; }
    PanelView .result { height: 1fr; }
    """

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.capabilities = capabilities

    def compose(self) -> ComposeResult:
        """Result and panel, and the line that stands in for the panel."""
        with Horizontal(classes="result"):
            yield from self.compose_result()
            with Vertical(classes="panel"):
                yield DetailsPanel()
        yield TextLines(classes="line")

    def compose_result(self) -> ComposeResult:
        """The widgets that show the result, side by side."""
        raise NotImplementedError

    def panel_lines(self, panel: DetailsPanel) -> list[Line]:
        """What the panel tells about the place under the cursor."""
        raise NotImplementedError

    def short_line(self, width: int) -> Line:
        """The same in one line of so many characters."""
        raise NotImplementedError

    def on_resize(self) -> None:
        """The texts depend on the width."""
        self.call_after_refresh(self.refresh_panel)

    def refresh_panel(self) -> None:
        """Tell what is known about the place under the cursor, in the panel or the line."""
        if self.query_one(".panel").display:
            panel = self.query_one(DetailsPanel)
            panel.set_lines(self.panel_lines(panel))
        line = self.query_one(".line", TextLines)
        if line.display:
            line.set_lines([self.short_line(line.size.width)])
