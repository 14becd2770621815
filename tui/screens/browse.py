"""The one screen of the app: runs on the left, the chosen result or log beside them, keys below."""

from __future__ import annotations

import asyncio
from time import monotonic

from textual.app import ComposeResult
from textual.binding import Binding
from textual.color import Color
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Input, Static

from engramcka.results.kinds import MAPS
from engramcka.tui import loading
from engramcka.tui.catalog import Entry, chosen_entry, named, part_of
from engramcka.tui.driver import TerminalApp
from engramcka.tui.loading import load_at_once
from engramcka.tui.messages import EntryRead, RunsChanged
from engramcka.tui.screens.content import ContentScreen
from engramcka.tui.session import Session
from engramcka.tui.widgets.key_bar import KeyBar, Prompt, Shortcut
from engramcka.tui.widgets.run_tree import RunTree, is_pair, stop_of, stops

SMALLEST = (40, 12)
TRIED = 20  # results that are passed over until one can be read
STEPS = ("n", "N", "p")  # keys to the next and the previous screen
PATIENCE = 0.3  # seconds that keys wait for the result that the key before asked for


class FindField(Prompt):
    """The field below the runs; says which keys end the search."""

    BINDINGS = [
        Shortcut("enter", "screen.take", "Open the first"),
        Shortcut("escape", "screen.back", "Back"),
    ]


class BrowseScreen(ContentScreen):
    """The whole window: runs on the left, the chosen result on the right, keys below."""

    _pair: tuple[Entry, Entry] | None = None  # a map that was opened from a matrix, and the matrix

    AUTO_FOCUS = ""  # what is on screen takes the keys by itself
    HORIZONTAL_BREAKPOINTS = [
        (0, "-tiny"),
        (SMALLEST[0], "-small"),
        (80, "-medium"),
        (100, "-wide"),
        (140, "-huge"),
        (180, "-vast"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (SMALLEST[1], "-low"), (20, "-high")]

    BINDINGS = [
        Shortcut("tab", "switch", "Runs", show=False),
        Shortcut("B", "runs", "Runs", show=False),
        Shortcut(STEPS[0], "step(1)", "Next", show=False),
        Shortcut(",".join(STEPS[1:]), "step(-1)", "Previous", show=False),
        Shortcut("o", "order", "Newest first", show=False),
        Shortcut("slash", "find", "Find"),
        Shortcut("e", "app.export", "Export"),
        Shortcut("E", "app.export_dialog", "Export as", show=False),
        Shortcut("y", "app.copy('value')", "Copy"),
        Shortcut("Y", "app.copy('row')", "Copy row", show=False),
        Shortcut("ctrl+y", "app.copy('table')", "Copy table", show=False),
        Shortcut("T", "app.theme", "Theme", show=False),
        Shortcut("colon", "app.command_palette", "Commands", show=False),
        Shortcut("question_mark,f1", "app.help", "Help", key_display="?"),
        Shortcut("q", "app.quit", "Quit"),
        Binding("escape", "back", "Back", show=False),  # after those of what has the focus
    ]

    def compose(self) -> ComposeResult:
        """Header, runs, content and keys."""
        yield Static(id="header", markup=False)
        with Horizontal(id="body"):
            with Vertical(id="runs"):
                yield RunTree(id="tree")
                yield FindField(placeholder="name kind: model: date:", id="find", compact=True)
            with Vertical(id="content"), ContentSwitcher(initial="message", id="views"):
                yield Static("", id="message", markup=False)
                yield self.map
        yield Static("", id="too-small", markup=False)
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        """List the runs, show the first frame, then read."""
        self.query_one("#runs").border_title = "runs"
        self.query_one("#find").display = False
        self.query_one(RunTree).set_facts(self.runs)
        entry = self._first_entry()
        if entry is None:
            self._show_message(
                "There is no result yet. This screen follows the run while it works."
            )
            self.query_one(RunTree).focus()
        else:
            self._show_first(entry)
        self.call_after_refresh(self.start_watching)

    def _show_first(self, entry: Entry) -> None:
        """A map in the first frame; what takes longer to read follows."""
        found = load_at_once(entry)
        if found is not None:
            self._switch(self.map, focus=False)
            self.set_focus(self.map)  # keys that are waiting already are meant for it
            self.post_message(EntryRead(found))
        self.choose(entry, focus=True, read=found is None)
        if found is None and not self._was_asked(entry):
            results = self._results()
            self._untried = results[1:TRIED] if results[:1] == [entry] else []

    def _first_entry(self) -> Entry | None:
        """The result that was asked for, else where the user left off, else the first."""
        for run in self.runs:
            if asked := chosen_entry(run.ref, run.entries):
                return asked
        left = self.session
        for run in self.runs:
            if str(run.ref.results.absolute()) == left.run and (
                entry := named(run.ref, run.entries, left.kind, left.name)
            ):
                return entry
        entries = [entry for run in self.runs for entry in run.entries]
        return next(iter([*self._results(), *entries]), None)

    def _results(self) -> list[Entry]:
        """All results in order; those of the first run that has any with maps that were made for
        another result after all others."""
        runs = [[e for e in run.entries if e.kind != "log"] for run in self.runs]
        runs = [entries for entries in runs if entries]
        if runs:
            runs[0].sort(key=lambda entry: bool(part_of(entry)))
        return [entry for entries in runs for entry in entries]

    def _was_asked(self, entry: Entry) -> bool:
        """Whether the path given or the last session named it."""
        left = self.session
        return bool(entry.ref.chosen) or (entry.kind, entry.name) == (left.kind, left.name)

    def on_resize(self) -> None:
        """Write the header for the new width; below the smallest size only a sentence stays."""
        self._title()
        width, height = self.size
        self.query_one("#too-small", Static).update(
            f"engramcka browse needs {SMALLEST[0]} x {SMALLEST[1]} characters; "
            f"this terminal has {width} x {height}."
        )
        self.call_after_refresh(self._settle)

    @property
    def is_too_small(self) -> bool:
        """Whether only a sentence is shown, so that no key may do what is not seen."""
        return self.is_current and (self.has_class("-tiny") or self.has_class("-flat"))

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

    # The disk

    def on_runs_changed(self, message: RunsChanged) -> None:
        """Show the new state of the runs; a run's first result appears by itself."""
        self.runs = message.runs
        self.query_one(RunTree).set_facts(self.runs)
        if self.entry is None:
            entry = self._first_entry()
            if entry is not None:
                self.choose(entry)

    # Keys

    def action_order(self) -> None:
        """List the runs by name, or the newest first."""
        self.newest_first = not self.newest_first
        by_name = self.in_order(self.runs)
        if not self.newest_first:
            by_name = tuple(loading.poll(self.paths, self.runs))
        self.runs = by_name
        self.query_one(RunTree).set_facts(self.runs)
        how = "the newest first" if self.newest_first else "by name"
        self.notify(f"Runs: {how}", markup=False, timeout=2)

    def action_switch(self) -> None:
        """From the runs to the result and back."""
        tree = self.query_one(RunTree)
        if not tree.has_focus and self.query_one("#runs").display:
            self._take_keys(tree)
        else:
            self.action_content()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a name is typed, a slash is a part of it."""
        return action != "find" or not isinstance(self.focused, Input)

    def _take_keys(self, widget: Widget) -> None:
        """From the next key on, also where a result that is being read was to get them."""
        self._focus_next = False
        self.set_focus(widget)

    def action_runs(self) -> None:
        """Show or hide the runs."""
        self.toggle_class("-toggled")
        if self.query_one("#runs").display:
            self._take_keys(self.query_one(RunTree))
        else:
            self.action_switch()

    async def action_step(self, step: int) -> None:
        """The next or previous screen of all runs; a series or a plot of curves is one. Where the
        same is asked for again at once, only the last screen is read."""
        self._steps += step
        app = self.app
        if isinstance(app, TerminalApp) and app.terminal.follows(*STEPS):
            return
        steps, self._steps = self._steps, 0
        entry = self.entry
        for _ in range(abs(steps)):
            entry = self._beside(entry, 1 if steps > 0 else -1)
        if entry is not None and steps:
            self.choose(entry, focus=True)
            await self._arrival()

    def _beside(self, entry: Entry | None, step: int) -> Entry | None:
        """The next (1) or previous (-1) screen of all runs."""
        runs = [run for run in self.runs if run.entries]
        if not runs:
            return None
        known = (i for i, run in enumerate(runs) if entry and run.ref == entry.ref)
        at = next(known, 0)
        here = stops(runs[at])
        if entry is not None and entry in runs[at].entries:
            entry = stop_of(entry, runs[at])
        place = (here.index(entry) if entry in here else -1) + step
        if not 0 <= place < len(here):
            here = stops(runs[(at + step) % len(runs)])
            place = 0 if step > 0 else -1
        return here[place]

    async def action_series(self, step: int) -> None:
        """From one map to the next of its series."""
        shown = self.map.map
        if self.entry is not None and self.entry.kind in MAPS and shown and shown.series:
            self.view_of("series").begin_at(self.entry.name, step)
            self.choose(Entry(self.entry.ref, "series", shown.series), focus=True)
            await self._arrival()

    async def action_pair(self) -> None:
        """From a matrix to the map of the pair under its cursor; escape there leads back."""
        matrix = self.entry
        if matrix is None or self.found is None or self.found.entry != matrix:
            return
        kind, _, name = self.view_of("matrix").map_shown.partition("/")
        pair = named(matrix.ref, [e for run in self.runs for e in run.entries], kind, name)
        if pair is None:
            self.notify("There is no map of these two in the run.", markup=False)
            return
        self._pair = pair, matrix
        self.choose(pair, focus=True)
        await self._arrival()

    async def _back_to_matrix(self) -> None:
        """From the map of a pair to its matrix."""
        pair, matrix = self._pair or (None, None)
        if self.entry != pair:
            matrix = self._matrix_of(self.entry)
        if matrix is not None and matrix != self.entry:
            self.choose(matrix, focus=True)
            await self._arrival()

    def _matrix_of(self, entry: Entry | None) -> Entry | None:
        """The matrix that a map was made for alone; None for other entries."""
        run = next((run for run in self.runs if entry and entry in run.entries), None)
        return stop_of(entry, run) if entry and run and is_pair(entry) else None

    async def _arrival(self) -> None:
        """Keep the next keys for what was chosen, unless reading it takes long."""
        ends = monotonic() + PATIENCE
        while self.shown != self.entry and monotonic() < ends:
            await asyncio.sleep(0.005)

    def action_find(self) -> None:
        """Type parts of a name; the tree shows what has them."""
        if not self.query_one("#runs").display:
            self.toggle_class("-toggled")
        field = self.query_one(FindField)
        field.display = True
        self._take_keys(field)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show only the runs and results that the typed text is in."""
        self.query_one(RunTree).set_pattern(event.value)

    async def action_take(self) -> None:
        """Go to the first result that was found."""
        tree = self.query_one(RunTree)
        tree.set_pattern(await self.query_one(FindField).typed())
        entry = tree.first_match()
        self._end_find()
        self.action_content()
        if entry is not None:
            self.choose(entry, focus=True)
            await self._arrival()

    async def action_back(self) -> None:
        """Leave the search field for the tree, or the map of a pair for its matrix."""
        if self.query_one(FindField).display:
            await self.query_one(FindField).typed()
            self._end_find()
            self.set_focus(self.query_one(RunTree))
        elif self._in_content:
            await self._back_to_matrix()

    def _end_find(self) -> None:
        field = self.query_one(FindField)
        field.value = ""
        field.display = False
        if self.has_class("-small"):
            self.remove_class("-toggled")

    def current_session(self) -> Session:
        """Where the user leaves off; where the last session did until a result is shown."""
        if self.entry is None or self.shown is None:
            return self.session
        row, column = self.map.cursor
        return Session(
            run=str(self.entry.ref.results.absolute()),
            kind=self.entry.kind,
            name=self.entry.name,
            palette=self.map.heatmap.cell_style.palette,
            theme=self.app.theme,
            row=row,
            column=column,
            newest_first=self.newest_first,
            export_folder=self.export_folder,
        )
