"""The one screen of the app: runs on the left, the chosen result or log beside them.

Reads and watches in worker threads; what they find comes back as messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Footer, Input, Static
from textual.worker import get_current_worker

from engramcka.tui import loading, readout
from engramcka.tui.catalog import Entry, RunFacts, facts, signature
from engramcka.tui.loading import Broken, Loaded
from engramcka.tui.memory import Memory
from engramcka.tui.messages import EntryChanged, EntryChosen, EntryRead, RunsChanged
from engramcka.tui.screens.log import LogView
from engramcka.tui.screens.map import MapView
from engramcka.tui.screens.sweep import SweepView
from engramcka.tui.terminal import Capabilities, clean
from engramcka.tui.watch import PAUSE, look, watch
from engramcka.tui.widgets.run_tree import RunTree

if TYPE_CHECKING:
    from engramcka.tui.catalog import Place

SMALLEST = (40, 12)


class BrowseScreen(Screen[None]):
    """Runs and results."""

    HORIZONTAL_BREAKPOINTS = [
        (0, "-tiny"),
        (SMALLEST[0], "-small"),
        (80, "-medium"),
        (100, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (SMALLEST[1], "-low"), (20, "-high")]

    BINDINGS = [
        Binding("tab", "switch", "Runs", show=False),
        Binding("B", "runs", "Runs", show=False),
        Binding("n", "step(1)", "Next", show=False),
        Binding("N,p", "step(-1)", "Previous", show=False),
        Binding("slash", "find", "Find"),
        Binding("e", "app.export", "Export"),
        Binding("E", "app.export_dialog", "Export as", show=False),
        Binding("y", "app.copy('value')", "Copy"),
        Binding("Y", "app.copy('row')", "Copy row", show=False),
        Binding("ctrl+y", "app.copy('table')", "Copy table", show=False),
        Binding("escape", "back", "Back", show=False),
    ]

    def __init__(
        self,
        paths: Sequence[Path],
        places: Sequence[Place],
        capabilities: Capabilities,
        memory: Memory,
        pause: float = PAUSE,
    ) -> None:
        super().__init__()
        self.paths, self.places = list(paths), list(places)
        self.capabilities, self.memory, self.pause = capabilities, memory, pause
        self.runs: tuple[RunFacts, ...] = ()
        self.entry: Entry | None = None  # what the user wants to see
        self.found: Loaded | Broken | None = None  # what is on screen

    def compose(self) -> ComposeResult:
        """Header, runs, content and keys."""
        yield Static(id="header", markup=False)
        with Horizontal(id="body"):
            with Vertical(id="runs"):
                yield RunTree(id="tree")
                yield Input(placeholder="find", id="find", compact=True)
            with Vertical(id="content"), ContentSwitcher(initial="message", id="views"):
                yield Static("", id="message", markup=False)
                yield MapView(self.capabilities, id="map")
                yield SweepView(self.capabilities, id="sweep")
                yield LogView(id="log")
        yield Static("", id="too-small", markup=False)
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """List the runs, show the first frame, then read."""
        self.query_one("#runs").border_title = "runs"
        self.query_one("#find").display = False
        self.runs = tuple(facts(place) for place in self.places)
        self.query_one(RunTree).set_facts(self.runs)
        entry = self._first_entry()
        if entry is None:
            self._say("There is no result yet. This screen follows the run while it works.")
            self.query_one(RunTree).focus()
        else:
            self.choose(entry, focus=True)
        self.call_after_refresh(self._start_watching)

    def _first_entry(self) -> Entry | None:
        entries = [entry for run in self.runs for entry in run.entries]
        for entry in entries:
            known = (str(entry.place.results.absolute()), entry.kind, entry.name)
            if known == (self.memory.run, self.memory.kind, self.memory.name):
                return entry
        results = [entry for entry in entries if entry.kind != "log"]
        return next(iter([*results, *entries]), None)

    # What is on screen

    def choose(self, entry: Entry, focus: bool = False) -> None:
        """Show an entry, reading it if it is not the one on screen."""
        self.entry = entry
        self.query_one(RunTree).select_entry(entry)
        if focus:
            self.query_one(f"#{_VIEWS[entry.kind]}").focus()
        if self.found is None or self.found.entry != entry:
            self._read(entry)

    def _read(self, entry: Entry) -> None:
        self.run_worker(
            lambda: self.post_message(EntryRead(loading.load(entry))),
            thread=True, group="read", exclusive=True,
        )  # fmt: skip

    def on_entry_chosen(self, message: EntryChosen) -> None:
        """The tree's cursor is on an entry."""
        self.choose(message.entry, message.focus)

    def on_entry_read(self, message: EntryRead) -> None:
        """Put what was read on the screen, unless the user has gone on."""
        if message.found.entry != self.entry:
            return
        first, self.found = self.found is None, message.found
        focused = self.focused is not None and self.focused.id in _VIEWS.values()
        if isinstance(message.found, Broken):
            self._say(message.found.sentence)
        else:
            self._show(message.found)
            if first:
                self._recall()
        if focused and self.entry is not None:
            self.query_one(f"#{_VIEWS[self.entry.kind]}").focus()
        self._title()

    def _show(self, loaded: Loaded) -> None:
        view: Any = self.query_one(f"#{_VIEWS[loaded.entry.kind]}")
        self.query_one(ContentSwitcher).current = view.id
        view.show(loaded.value)

    def _recall(self) -> None:
        """The cursor where it was left."""
        if self.memory.kind == "cka" and self.entry is not None and self.entry.kind == "cka":
            self.query_one(MapView).put_cursor(self.memory.row, self.memory.column)

    def _say(self, sentence: str) -> None:
        self.query_one("#message", Static).update(sentence)
        self.query_one(ContentSwitcher).current = "message"

    def _title(self) -> None:
        entry, found = self.entry, self.found
        left = f"engramcka  {clean(entry.place.run)}" if entry else "engramcka"
        right = ""
        if isinstance(found, Loaded):
            if found.entry.kind == "cka":
                right = readout.facts(found.value)  # type: ignore[arg-type]
            elif found.entry.kind == "sweep":
                right = readout.sweep_facts(found.value)  # type: ignore[arg-type]
        self.query_one("#header", Static).update(header_line(left, right, self.size.width))
        content = self.query_one("#content")
        content.border_title = border_text(entry.title) if entry else ""
        content.border_subtitle = ""
        if isinstance(found, Loaded) and found.entry.kind == "cka":
            value: Any = found.value
            content.border_subtitle = border_text(f"rows {value.y_label}, columns {value.x_label}")

    def on_resize(self) -> None:
        """The header is laid out by hand; below the smallest size only a sentence stays."""
        self._title()
        width, height = self.size
        self.query_one("#too-small", Static).update(
            f"engramcka browse needs {SMALLEST[0]} x {SMALLEST[1]} characters; "
            f"this terminal has {width} x {height}."
        )

    # The disk

    def _start_watching(self) -> None:
        self.run_worker(self._watch, thread=True, group="watch")

    def _watch(self) -> None:
        worker = get_current_worker()
        watch(self._look, lambda: worker.is_cancelled or not self.is_running, self.pause)

    def _look(self) -> None:
        """Compare the disk with the screen; in the watching thread."""
        runs = look(self.paths, self.runs)
        if runs != self.runs:
            self.post_message(RunsChanged(runs))
        found = self.found
        if found is not None and signature(found.entry) != found.signature:
            self.post_message(EntryChanged(found.entry))

    def on_runs_changed(self, message: RunsChanged) -> None:
        """Show the new state of the runs; a run's first result appears by itself."""
        self.runs = message.runs
        self.query_one(RunTree).set_facts(self.runs)
        if self.entry is None:
            entry = self._first_entry()
            if entry is not None:
                self.choose(entry)

    def on_entry_changed(self, message: EntryChanged) -> None:
        """Read again what is on screen."""
        if message.entry == self.entry:
            self._read(message.entry)

    # Keys

    def action_switch(self) -> None:
        """From the runs to the result and back."""
        tree = self.query_one(RunTree)
        if tree.has_focus or not self.query_one("#runs").display:
            current = self.query_one(ContentSwitcher).current
            if current and current != "message":
                self.query_one(f"#{current}").focus()
        else:
            tree.focus()

    def action_runs(self) -> None:
        """Show or hide the runs."""
        self.toggle_class("-toggled")
        tree = self.query_one(RunTree)
        if self.query_one("#runs").display:
            tree.focus()
        else:
            self.action_switch()

    def action_step(self, step: int) -> None:
        """The next or previous result of all runs."""
        entries = [e for run in self.runs for e in run.entries]
        if entries:
            at = entries.index(self.entry) if self.entry in entries else -1
            self.choose(entries[(at + step) % len(entries)], focus=True)

    def action_find(self) -> None:
        """Type parts of a name; the tree shows what has them."""
        self.remove_class("-toggled") if self.has_class("-wide", "-medium") else None
        field = self.query_one("#find", Input)
        field.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        self.query_one(RunTree).set_pattern(event.value)

    def on_input_submitted(self) -> None:
        """Go to the first result that was found."""
        entry = self.query_one(RunTree).first_match()
        self._end_find()
        if entry is not None:
            self.choose(entry, focus=True)

    def action_back(self) -> None:
        """Leave the search."""
        if self.query_one("#find").display:
            self._end_find()
            self.query_one(RunTree).focus()

    def _end_find(self) -> None:
        field = self.query_one("#find", Input)
        field.value = ""
        field.display = False

    def remembered(self) -> Memory:
        """Where the user leaves off."""
        if self.entry is None:
            return self.memory
        row, column = self.query_one(MapView).heatmap.cursor
        return Memory(
            run=str(self.entry.place.results.absolute()),
            kind=self.entry.kind,
            name=self.entry.name,
            palette=self.query_one(MapView).heatmap.look.palette,
            theme=self.app.theme,
            row=row,
            column=column,
        )


_VIEWS = {"cka": "map", "sweep": "sweep", "log": "log"}


def header_line(left: str, right: str, width: int) -> str:
    """Left and right text on one line; the left one is shortened first."""
    from engramcka.tui.terminal import fixed, shorten

    width = max(width - 2, 1)
    right = shorten(right, width)
    room = width - len(right) - 2
    return f"{fixed(left, room)}  {right}" if room > 12 else shorten(left, width)


def border_text(text: str) -> str:
    """A name for a border's title, in which no part is markup."""
    from rich.markup import escape

    return escape(clean(text))
