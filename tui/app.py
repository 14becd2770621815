"""The Textual app: themes, what every screen can do, the command palette."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.segment import Segment
from textual import events
from textual.app import App, SuspendNotSupported, SystemCommand
from textual.color import Color
from textual.command import CommandPalette
from textual.filter import LineFilter
from textual.screen import Screen
from textual.theme import Theme

from engramcka.errors import EngramckaError
from engramcka.figures.options import MOVIES
from engramcka.plain_text import clean
from engramcka.tui import exporting, signals
from engramcka.tui.driver import TerminalDriver, TerminalState
from engramcka.tui.exporting import Export, Exportable
from engramcka.tui.loading import PAUSE
from engramcka.tui.screens.browse import BrowseScreen
from engramcka.tui.session import Session
from engramcka.tui.terminal import Capabilities, to_ascii
from engramcka.tui.widgets.key_bar import Shortcut

if TYPE_CHECKING:
    from engramcka.tui.catalog import RunRef

THEMES = (
    Theme(
        "dark", primary="#7aa2f7", secondary="#bb9af7", accent="#5fd7ff", warning="#e0af68",
        error="#f7768e", success="#9ece6a", foreground="#d5d8e0", background="#080809",
        surface="#080809", panel="#1c1e2b", dark=True,
    ),
    Theme(
        "light", primary="#1f5fbf", secondary="#7a3fb0", accent="#005f87", warning="#8a5a00",
        error="#b00020", success="#2f6f1f", foreground="#0a0a10", background="#fafaf7",
        surface="#fafaf7", panel="#e9e9e2", dark=False,
    ),
    Theme(
        "high contrast", primary="#66b2ff", secondary="#ffff66", accent="#00ffff",
        warning="#ffd000", error="#ff6060", success="#60ff60", foreground="#ffffff",
        background="#000000", surface="#000000", panel="#000000", dark=True, text_alpha=1.0,
    ),
)  # fmt: skip


KEEP_EVERY = 5.0  # seconds; a power cut or kill -9 forgets no more of where the user was
LONGEST_BURST = 0.15  # seconds; keys that go on for longer are drawn in between
UNSEEN = ("q", "ctrl+c", "ctrl+z", "ctrl+l")  # keys that act where nothing can be shown
NO_FIGURE = "Only a result can be exported, not a log or a sentence."


class AsciiFilter(LineFilter):
    """Writes ASCII only, for terminals that are not UTF-8."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments in ASCII, as wide as before."""
        return [Segment(to_ascii(text), style, control) for text, style, control in segments]


class BrowseApp(App[None]):
    """Maps and sweeps in the terminal."""

    TITLE = "engramcka"
    CSS_PATH = "engramcka.tcss"
    ENABLE_COMMAND_PALETTE = True

    BINDINGS = [
        Shortcut("ctrl+l", "redraw", "Draw again", show=False),
        Shortcut("ctrl+c", "quit", show=False),
        Shortcut("ctrl+p", "command_palette", "Commands", show=False),
        Shortcut("ctrl+z", "suspend_process", "To the shell", show=False),
    ]

    def __init__(
        self,
        paths: Sequence[Path],
        refs: Sequence[RunRef],
        capabilities: Capabilities,
        session: Session | None = None,
        pause: float = PAUSE,
        keep: Callable[[Session], None] | None = None,
    ) -> None:
        self.capabilities = capabilities
        native = capabilities.colours in ("16", "none")
        self.terminal = TerminalState()
        self._undrawn: ExitStack | None = None  # open while a burst of keys is not drawn
        super().__init__(ansi_color=native, driver_class=TerminalDriver)
        session = session or Session()
        self.last_session = session
        self._keep = keep  # writes a session to where the next start finds it
        self._running_loop: asyncio.AbstractEventLoop | None = None
        self.browser = BrowseScreen(paths, refs, capabilities, session, pause)
        for theme in THEMES:
            self.register_theme(theme)
        self._themes = ["ansi-dark", "ansi-light"] if native else [theme.name for theme in THEMES]
        self.theme = session.theme if session.theme in self._themes else self._themes[0]

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, and ASCII where the terminal needs it."""
        filters = super().get_line_filters()
        return [*filters, AsciiFilter()] if self.capabilities.ascii else filters

    def get_default_screen(self) -> Screen[None]:
        """The screen that the app starts with and never leaves."""
        return self.browser

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the command palette offers."""
        for title, what, action in _COMMANDS:
            yield SystemCommand(title, what, lambda action=action: self._act(action))
        for theme in self._themes:
            yield SystemCommand(
                f"Theme: {theme}", "Colours of the app", lambda t=theme: setattr(self, "theme", t)
            )

    def on_mount(self) -> None:
        """From now on a signal ends the app as a key would, and the place is kept."""
        self._running_loop = asyncio.get_running_loop()
        self.set_interval(KEEP_EVERY, self._keep_place_in_thread)

    def keep_place(self) -> None:
        """Keep in mind where the user is, for the next start."""
        session = self.browser.current_session()
        if session != self.last_session:
            self.last_session = session
            if self._keep is not None:
                self._keep(session)

    def _keep_place_in_thread(self) -> None:
        """The same while the app goes on: a disk may be slow."""
        session, keep = self.browser.current_session(), self._keep
        if keep is not None and session != self.last_session:
            self.last_session = session
            self.run_worker(lambda: keep(session), thread=True, group="keep", exclusive=True)

    def leave(self, code: int) -> bool:
        """End with an exit code, from a signal; False where the app has not begun."""
        if self._running_loop is None:
            return False
        self.keep_place()
        self._running_loop.call_soon_threadsafe(lambda: self.exit(return_code=code))
        return True

    def action_suspend_process(self) -> None:
        """Give the terminal back to the shell, until `fg`."""
        if not signals.can_stop():
            self.notify("There is no shell to go back to: q leaves.", markup=False)
            return
        self.keep_place()
        with suppress(SuspendNotSupported), self.suspend():
            signals.stop()

    def action_redraw(self) -> None:
        """Send every cell again, where another program has written over the screen."""
        self.terminal.sent.forget()
        self.screen.refresh()

    # Keys that come in a burst

    async def on_event(self, event: events.Event) -> None:
        """Act on an event; nothing is drawn while more keys are waiting, unless that takes long."""
        if isinstance(event, events.Resize):
            self.terminal.sent.forget()
        elif isinstance(event, events.Key):
            self.terminal.reach(event)
            if self.browser.is_too_small and event.key not in UNSEEN:
                return
            if self.terminal.keys and self._undrawn is None:
                self._undrawn = ExitStack()
                self._undrawn.enter_context(self.batch_update())
                self.set_timer(LONGEST_BURST, self._draw_burst)
        await super().on_event(event)
        if not self.terminal.keys:
            self._draw_burst()

    def _draw_burst(self) -> None:
        """Draw what the keys until now have led to."""
        if self._undrawn is not None:
            undrawn, self._undrawn = self._undrawn, None
            undrawn.close()
            self.screen.refresh()  # what was laid out meanwhile counts as drawn; few cells are sent

    async def _act(self, action: str) -> None:
        focused = self.browser.focused
        name = action.partition("(")[0]
        has = focused is not None and hasattr(focused, f"action_{name}")
        await self.run_action(action, focused if has else self.browser)

    async def action_quit(self) -> None:
        """Leave, keeping in mind where the user was."""
        self.keep_place()
        self.exit()

    async def action_command_palette(self) -> None:  # type: ignore[override]
        """Open the list of all commands, with a filter."""
        if not isinstance(self.screen, CommandPalette):
            await self.push_screen(CommandPalette())

    async def action_help(self) -> None:
        """Open the help: all keys of what is on the screen."""
        from engramcka.tui.screens.dialogs import HelpScreen

        await self.push_screen(HelpScreen())

    def action_theme(self) -> None:
        """Put on the next theme of the app."""
        at = self._themes.index(self.theme) if self.theme in self._themes else -1
        self.theme = self._themes[(at + 1) % len(self._themes)]
        self.browser.highlight()

    def action_copy(self, what: str) -> None:
        """Copy the value, row or table under the cursor to the terminal's clipboard."""
        view = self.browser.view()
        if view is None:
            self.notify("Only a result can be copied.", severity="warning", markup=False)
            return
        text, name = view.copied(what)
        self.copy_to_clipboard(text)
        shown = text.replace("\t", "  ") if what == "value" else f"{len(text)} characters"
        self.notify(f"Copied {name}: {shown}", markup=False, timeout=2)

    def action_export(self) -> None:
        """Write what is on the screen as a PNG."""
        self.export(self.browser.subject(), Export())

    async def action_export_dialog(self) -> None:
        """Ask for format, venue, width and ground, showing the figure, then write."""
        from engramcka.tui.screens.export import ExportScreen

        subject = self.browser.subject()
        if subject is None:
            self.notify(NO_FIGURE, severity="warning", markup=False)
            return

        def write(export: Export | None) -> None:
            if export is not None:
                self.browser.export_folder = export.folder
                self.export(subject, export)

        folder = self.browser.export_folder
        await self.push_screen(ExportScreen(subject, self.capabilities, folder), write)

    def export(self, subject: Exportable | None, export: Export) -> None:
        """Write a subject, in a worker; a toast says where it went."""
        if subject is None:
            self.notify(NO_FIGURE, severity="warning", markup=False)
            return
        what = subject.part(export.part).stem
        if export.format in MOVIES:
            what = f"{len(subject.maps)} maps"
        self.notify(clean(f"Drawing {what} .."), markup=False, timeout=600)
        self.run_worker(lambda: self._write(subject, export), thread=True, group="export")

    def _write(self, subject: Exportable, export: Export) -> None:
        """Draw and write; in a thread."""
        severity: Literal["information", "error"] = "error"
        try:
            text = f"Wrote {clean(exporting.write(subject, export))}"
            severity = "information"
        except EngramckaError as error:
            text = clean(error)
        except Exception as error:  # a figure may fail in any way
            text = clean(f"{type(error).__name__}: {error}")
        self.call_from_thread(self._written, text, severity)

    def _written(self, text: str, severity: Literal["information", "error"]) -> None:
        """Say how it ended, in place of that it began."""
        self.clear_notifications()
        self.notify(text, severity=severity, markup=False, timeout=8)


_COMMANDS = (
    ("Export as PNG", "Write the result into RUN/figures", "app.export"),
    ("Export as ..", "Choose format, venue, width and ground", "app.export_dialog"),
    ("Compare", "With another map, side by side or subtracted", "screen.compare"),
    (
        "Samples of the cell",
        "That make its similarity what it is, with their text",
        "screen.samples",
    ),
    ("In words", "What the map is over, what it rests on, why warnings matter", "about"),
    ("Copy the value", "To the terminal's clipboard", "app.copy('value')"),
    ("Copy the row", "As tab-separated text", "app.copy('row')"),
    ("Copy the table", "As tab-separated text", "app.copy('table')"),
    ("Soft alignment", "Show or hide the curve", "alignment"),
    ("Colours", "The next palette", "palette"),
    ("Values", "Cells as numbers", "numbers"),
    ("Range", "Colours over the values there are, or over 0 to 1", "range"),
    ("Range ..", "Choose the values of the first and the last colour", "range_dialog"),
    ("Play", "A series of maps, or pause", "play"),
    ("Zoom in", "Larger cells", "zoom(1)"),
    ("Zoom out", "Smaller cells", "zoom(-1)"),
    ("Find", "A result by parts of its name", "find"),
    ("Runs", "Show or hide the runs", "runs"),
    ("Next result", "Of all runs", "step(1)"),
    ("Previous result", "Of all runs", "step(-1)"),
    ("Draw again", "Where another program has written over the screen", "app.redraw"),
    ("Keys", "All keys on one page", "app.help"),
    ("To the shell", "Put the app aside until fg", "app.suspend_process"),
    ("Quit", "Leave", "app.quit"),
)
