"""The one screen of the app: runs on the left, the chosen result or log beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.color import Color
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Footer, Input, Static

from engramcka.tui.catalog import Entry, facts
from engramcka.tui.exporting import Subject
from engramcka.tui.glance import glance
from engramcka.tui.loading import Broken, Loaded
from engramcka.tui.memory import Memory
from engramcka.tui.messages import EntryChanged, EntryChosen, EntryRead, RunsChanged
from engramcka.tui.screens import titles
from engramcka.tui.screens.choose import ChooseScreen
from engramcka.tui.screens.compare import CompareView, Pair
from engramcka.tui.screens.log import LogView
from engramcka.tui.screens.map import MapView
from engramcka.tui.screens.reading import ReadingScreen
from engramcka.tui.screens.sweep import SweepView
from engramcka.tui.terminal import Capabilities, clean
from engramcka.tui.watch import PAUSE
from engramcka.tui.widgets.run_tree import RunTree

if TYPE_CHECKING:
    from engramcka.tui.catalog import Place

SMALLEST = (40, 12)


class BrowseScreen(ReadingScreen):
    """Runs and results."""

    HORIZONTAL_BREAKPOINTS = [
        (0, "-tiny"),
        (SMALLEST[0], "-small"),
        (80, "-medium"),
        (100, "-wide"),
        (140, "-huge"),
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
        super().__init__(paths, pause)
        self.capabilities, self.memory = capabilities, memory
        self.runs = tuple(facts(place) for place in places)
        self.entry: Entry | None = None  # what the user wants to see
        self.second: Entry | None = None  # what it is to be compared with
        self.map = MapView(capabilities, id="map")
        self.compare = CompareView(capabilities, id="compare")  # mounted when first wanted
        self.sweep = SweepView(capabilities, id="sweep")
        self.log_view = LogView(id="log")
        self._focus_next = False  # whether what is read next gets the keys

    def compose(self) -> ComposeResult:
        """Header, runs, content and keys."""
        yield Static(id="header", markup=False)
        with Horizontal(id="body"):
            with Vertical(id="runs"):
                yield RunTree(id="tree")
                yield Input(placeholder="find", id="find", compact=True)
            with Vertical(id="content"), ContentSwitcher(initial="message", id="views"):
                yield Static("", id="message", markup=False)
                yield self.map
        yield Static("", id="too-small", markup=False)
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """List the runs, show the first frame, then read."""
        self.query_one("#runs").border_title = "runs"
        self.query_one("#find").display = False
        self.query_one(RunTree).set_facts(self.runs)
        entry = self._first_entry()
        if entry is None:
            self._say("There is no result yet. This screen follows the run while it works.")
            self.query_one(RunTree).focus()
        else:
            self._glance(entry)
        self.call_after_refresh(self.start_watching)

    def _glance(self, entry: Entry) -> None:
        """A map's values before anything else, what else is known of it after the first frame."""
        cka = glance(entry)
        if cka is not None:
            self.post_message(EntryRead(Loaded(entry, cka, None)))
        self.choose(entry, focus=True, read=cka is None)
        if cka is not None:
            self.call_after_refresh(self.read, entry)

    def _first_entry(self) -> Entry | None:
        entries = [entry for run in self.runs for entry in run.entries]
        for entry in entries:
            known = (str(entry.place.results.absolute()), entry.kind, entry.name)
            if known == (self.memory.run, self.memory.kind, self.memory.name):
                return entry
        results = [entry for entry in entries if entry.kind != "log"]
        return next(iter([*results, *entries]), None)

    # What is on screen

    def choose(self, entry: Entry, focus: bool = False, read: bool = True) -> None:
        """Show an entry, reading it if it is not the one on screen."""
        self.entry, self.second = entry, None
        self.query_one(RunTree).select_entry(entry)
        self._focus_next = focus or self._in_content
        if read and (self.found is None or self.found.entry != entry):
            self.read(entry)
        elif self.other is not None:
            self.action_leave_compare()
        elif focus:
            self.action_content()

    def on_entry_chosen(self, message: EntryChosen) -> None:
        """The tree's cursor is on an entry."""
        self.choose(message.entry, message.focus)

    async def on_entry_read(self, message: EntryRead) -> None:
        """Put what was read on the screen, unless the user has gone on."""
        if message.found.entry == self.second:
            self.other = message.found
        elif message.found.entry == self.entry:
            first, self.found = self.found is None, message.found
            await self._show_found()
            if first and isinstance(message.found, Loaded):
                self._recall()
        else:
            return
        await self._show_pair()
        self._title()

    async def _show_found(self) -> None:
        found = self.found
        if isinstance(found, Broken):
            self._say(found.sentence)
        elif isinstance(found, Loaded):
            views = {"cka": self.map, "sweep": self.sweep, "log": self.log_view}
            view: Any = views[found.entry.kind]
            await self._mounted(view)
            view.show(found.value)
            self._switch(view, self._focus_next or self._in_content)
            self._focus_next = False

    async def _mounted(self, view: Widget) -> None:
        """Have a view that is wanted for the first time."""
        if not view.is_attached:
            await self.query_one(ContentSwitcher).add_content(view)

    @property
    def _in_content(self) -> bool:
        """Whether the keys go to the result, not to the runs."""
        return self.focused in (self.map, self.compare, self.sweep, self.log_view)

    def _switch(self, view: Widget, focus: bool) -> None:
        self.query_one(ContentSwitcher).current = view.id
        if focus:
            view.focus()

    def _recall(self) -> None:
        """Cursor and palette as they were left."""
        if self.memory.palette:
            self.map.use_palette(self.memory.palette)
        if self.memory.kind == "cka" and self.entry is not None and self.entry.kind == "cka":
            self.map.put_cursor(self.memory.row, self.memory.column)

    def _say(self, sentence: str) -> None:
        self.query_one("#message", Static).update(sentence)
        self.query_one(ContentSwitcher).current = "message"

    def _title(self) -> None:
        entry = self.entry
        left = f"engramcka  {clean(entry.place.run)}" if entry else "engramcka"
        line = titles.header_line(left, titles.facts(self.found), self.size.width)
        self.query_one("#header", Static).update(line)
        content = self.query_one("#content")
        content.border_title = titles.border_text(entry.title) if entry else None
        content.border_subtitle = titles.sides(self.found) if self.second is None else None

    def on_resize(self) -> None:
        """The header is laid out by hand; below the smallest size only a sentence stays."""
        self._title()
        width, height = self.size
        self.query_one("#too-small", Static).update(
            f"engramcka browse needs {SMALLEST[0]} x {SMALLEST[1]} characters; "
            f"this terminal has {width} x {height}."
        )
        self.call_after_refresh(self._settle)

    def _settle(self) -> None:
        """Borders for the new size; what was too small to be shown gets the keys back."""
        self.highlight()
        if self.focused is None and self.query_one("#body").display:
            self.action_content()

    def on_descendant_focus(self) -> None:
        """The region that has the keys gets a border in the accent's colour."""
        self.highlight()

    def highlight(self) -> None:
        """Colour the borders; by hand, since a rule of the style sheet would restyle all below."""
        theme = self.app.current_theme
        quiet, strong = Color.parse("ansi_bright_black"), Color.parse(theme.accent or "ansi_green")
        if not theme.ansi:
            ground, ink = Color.parse(theme.background or "black"), theme.foreground or "white"
            quiet = ground.blend(Color.parse(ink), 0.3)
        for region in (self.query_one("#runs"), self.query_one("#content")):
            has_keys = self.focused is not None and region in self.focused.ancestors
            bare = region.id == "content" and (self.has_class("-small") or self.has_class("-low"))
            region.styles.border = "none" if bare else ("round", strong if has_keys else quiet)

    # Two maps

    def action_compare(self) -> None:
        """Choose a second map, and show both."""
        others = [e for run in self.runs for e in run.entries if e.kind == "cka"]
        others = [entry for entry in others if entry != self.entry]
        if not others:
            self.notify("There is no second map to compare with.", markup=False)
        elif len(others) == 1:
            self._compare_with(others[0])
        else:
            self.app.push_screen(ChooseScreen("compare with", others), self._compare_with)

    def _compare_with(self, entry: Entry | None) -> None:
        if entry is not None:
            self.second = entry
            self.read(entry)

    async def _show_pair(self) -> None:
        """Both maps, if there are two."""
        found, other = self.found, self.other
        if self.second is None or other is None or other.entry != self.second:
            return
        if isinstance(other, Broken):
            self.notify(other.sentence, severity="error", markup=False)
            self.action_leave_compare()
        elif isinstance(found, Loaded):
            view, single = self.compare, self.map
            one: Any = found.value
            another: Any = other.value
            pair = Pair(one, another, found.entry.name, other.entry.name)
            cursor = view.cursor if view.pair is not None else single.cursor
            await self._mounted(view)
            view.show(pair, single.heatmap.look, cursor)
            self._switch(view, focus=True)

    def action_leave_compare(self) -> None:
        """Back to the first map, the cursor where it is."""
        if self.compare.pair is not None:
            self.map.put_cursor(*self.compare.cursor)
        self.second = self.other = self.compare.pair = None
        self._switch(self.map, focus=True)
        self._title()

    # The disk

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
        if message.entry in (self.entry, self.second):
            self.read(message.entry)

    # Keys

    def action_switch(self) -> None:
        """From the runs to the result and back."""
        tree = self.query_one(RunTree)
        if not tree.has_focus and self.query_one("#runs").display:
            tree.focus()
        else:
            self.action_content()

    def action_content(self) -> None:
        """Give the keys to the result."""
        current = self.query_one(ContentSwitcher).current
        if current and current != "message":
            self.query_one(f"#{current}").focus()

    def action_runs(self) -> None:
        """Show or hide the runs."""
        self.toggle_class("-toggled")
        if self.query_one("#runs").display:
            self.query_one(RunTree).focus()
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
        if not self.query_one("#runs").display:
            self.toggle_class("-toggled")
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
        if self.has_class("-small"):
            self.remove_class("-toggled")

    def view(self) -> MapView | SweepView | None:
        """The view of the map or sweep that is on screen."""
        if not isinstance(self.found, Loaded) or self.found.entry.kind == "log":
            return None
        return self.map if self.found.entry.kind == "cka" else self.sweep

    def subject(self) -> Subject | None:
        """What an export draws."""
        view, found = self.view(), self.found
        if view is None or not isinstance(found, Loaded):
            return None
        options = view.figure_options() if isinstance(view, MapView) else {}
        if self.compare.pair is not None and isinstance(self.other, Loaded):
            options = {name: options[name] for name in ("palette", "alignment", "low", "high")}
            return Subject(found, self.other, self.compare.subtracted, options)
        return Subject(found, options=options)

    def remembered(self) -> Memory:
        """Where the user leaves off."""
        if self.entry is None:
            return self.memory
        row, column = self.map.cursor
        return Memory(
            run=str(self.entry.place.results.absolute()),
            kind=self.entry.kind,
            name=self.entry.name,
            palette=self.map.heatmap.look.palette,
            theme=self.app.theme,
            row=row,
            column=column,
        )
