"""What is on the screen: one result or log, or two maps; read again when its files change.

`ContentScreen` reads and shows; `BrowseScreen` lays it out with the tree and the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Input, Static

from engramcka.plain_text import clean
from engramcka.results import CkaMap
from engramcka.results.kinds import MAPS, kind_of
from engramcka.tui import loading, titles
from engramcka.tui.catalog import Entry, RunFacts, facts, signature
from engramcka.tui.exporting import Exportable, ExportPart
from engramcka.tui.loading import PAUSE, Broken, Loaded
from engramcka.tui.messages import (
    EntryChanged,
    EntryChosen,
    EntryRead,
    RunsChanged,
    TitleChanged,
)
from engramcka.tui.screens.map import MapView
from engramcka.tui.session import Session
from engramcka.tui.terminal import Capabilities
from engramcka.tui.widgets.run_tree import RunTree, by_step

if TYPE_CHECKING:
    from engramcka.tui.catalog import RunRef
    from engramcka.tui.screens.compare import CompareView


def new_view(kind: str, capabilities: Capabilities) -> Any:
    """The view of a kind of result, of a log, of two maps; the first frame imports none of them."""
    from engramcka.tui.screens.bars import MemoryView
    from engramcka.tui.screens.chart import ChartView
    from engramcka.tui.screens.compare import CompareView
    from engramcka.tui.screens.gates import GatesView
    from engramcka.tui.screens.log import LogView
    from engramcka.tui.screens.matrix import MatrixView
    from engramcka.tui.screens.series import SeriesView

    views: dict[str, type[Widget]] = {
        "compare": CompareView,
        "series": SeriesView,
        "gates": GatesView,
        "memory": MemoryView,
        "matrix": MatrixView,
        "log": LogView,
    }
    view: Any = views.get(kind, ChartView)
    return view(capabilities, id=kind)


class ContentScreen(Screen[None]):
    """Shows what is chosen; `BrowseScreen` lays it out."""

    def __init__(
        self,
        paths: Sequence[Path],
        refs: Sequence[RunRef],
        capabilities: Capabilities,
        session: Session,
        pause: float = PAUSE,
    ) -> None:
        super().__init__()
        self.paths, self.pause = list(paths), pause
        self.capabilities, self.session = capabilities, session
        self.newest_first = session.newest_first
        self.runs = self.in_order([facts(ref) for ref in refs])
        self.entry: Entry | None = None  # what the user wants to see
        self.shown: Entry | None = None  # what is on screen, or was before it was read again
        self.second: Entry | None = None  # what it is to be compared with
        self.found: Loaded | Broken | None = None  # `entry` as it was read
        self.other: Loaded | Broken | None = None  # `second` as it was read
        self.map = MapView(capabilities, id="map")
        self._views: dict[str, Any] = dict.fromkeys(MAPS, self.map)
        self._focus_next = False  # whether what is read next gets the keys
        self._untried: list[Entry] = []  # shown where the first result, not asked for, is broken
        self.export_folder = session.export_folder
        self.marked: Entry | None = None  # a map of the tree that is to be compared with the next
        self._steps = 0  # screens to go on, when the last key that says so has come
        self._leaving = Event()

    # Reading, in worker threads

    def read(self, entry: Entry) -> None:
        """Read an entry in a thread; a later call for another entry makes this one moot."""
        self.run_worker(lambda: self._read(entry), thread=True, group="read")

    def _read(self, entry: Entry) -> None:
        """In the thread: nothing is read for which nobody waits any more, as in a burst of keys."""
        if entry in (self.entry, self.second):
            self.post_message(EntryRead(loading.load(entry)))

    def start_watching(self) -> None:
        """Follow the disk until the app ends."""
        self.run_worker(self._watch, thread=True, group="watch")

    def _watch(self) -> None:
        loading.watch(self.poll_once, self._leaving, self.pause)

    def on_unmount(self) -> None:
        """Stop watching the run's files."""
        self._leaving.set()

    def poll_once(self) -> None:
        """Compare the disk with the screen; in the watching thread."""
        runs = self.in_order(loading.poll(self.paths, self.runs))
        if runs != self.runs:
            self.post_message(RunsChanged(runs))
        for found in (self.found, self.other):
            if found is not None and signature(found.entry) != found.signature:
                self.post_message(EntryChanged(found.entry))

    def in_order(self, runs: Sequence[RunFacts]) -> tuple[RunFacts, ...]:
        """The runs as they are listed: by name, or the newest first."""
        return tuple(sorted(runs, key=lambda run: -run.made) if self.newest_first else runs)

    # Views

    def view_of(self, kind: str) -> Any:
        """The view of a kind of results; made when first wanted."""
        if kind not in self._views:
            self._views[kind] = new_view(kind, self.capabilities)
        return self._views[kind]

    @property
    def compare(self) -> CompareView:
        """The view of two maps."""
        view: CompareView = self.view_of("compare")
        return view

    # What is on screen

    def choose(self, entry: Entry, focus: bool = False, read: bool = True) -> None:
        """Show an entry, reading it if it is not the one on screen; a prompt keeps the keys."""
        focus = focus and not isinstance(self.focused, Input)
        if entry != self.entry:
            self._untried = []
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
        if message.entry == self.entry and not message.focus:
            return  # it was put there for what is on screen, or is about to be
        self.choose(message.entry, message.focus)

    async def on_entry_read(self, message: EntryRead) -> None:
        """Put what was read on the screen, unless the user has gone on."""
        self.query_one(RunTree).mark(message.found.entry, isinstance(message.found, Broken))
        if message.found.entry == self.second:
            self.other = message.found
        elif message.found.entry == self.entry:
            first, self.found = self.found is None, message.found
            if isinstance(message.found, Broken) and self._untried:
                self._pass_over(message.found)
                return
            self._untried = []
            await self._show_found()
            if first and isinstance(message.found, Loaded):
                self._restore()
        else:
            return
        await self._show_pair()
        self._title()
        if self.found is not None:
            self.shown = self.found.entry

    def _pass_over(self, broken: Broken) -> None:
        """The next result instead of a first one that cannot be read and was not asked for."""
        self.notify(broken.sentence, severity="error", markup=False, timeout=8)
        following, *rest = self._untried
        self.found = None
        self.choose(following, focus=True)
        self._untried = rest

    async def _show_found(self) -> None:
        found = self.found
        if isinstance(found, Broken):
            self._show_message(found.sentence)
        elif isinstance(found, Loaded):
            view = self.view_of(found.entry.kind)
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
        return self.focused is not None and self.focused in self._views.values()

    def _switch(self, view: Widget, focus: bool) -> None:
        self.query_one(ContentSwitcher).current = view.id
        if focus:
            self.set_focus(view)

    def _restore(self) -> None:
        """Cursor and palette as they were left."""
        if self.session.palette:
            self.map.use_palette(self.session.palette)
        if self.session.kind in MAPS and self.entry is not None and self.entry.kind in MAPS:
            self.map.put_cursor(self.session.row, self.session.column)

    def _show_message(self, sentence: str) -> None:
        self.query_one("#message", Static).update(sentence)
        self.query_one(ContentSwitcher).current = "message"
        if self.focused is None or not self.focused.display:
            self.query_one(RunTree).focus()

    def _title(self) -> None:
        entry = self.entry
        left = f"engramcka  {clean(entry.ref.run)}" if entry else "engramcka"
        right = titles.header_facts(self.found)
        if entry is not None and (self.has_class("-small") or self.has_class("-low")):
            left, right = self._named(), "? keys"  # there is no border and no line of keys
        line = titles.header_line(left, right, self.size.width)
        self.query_one("#header", Static).update(line)
        content = self.query_one("#content")
        content.border_title = titles.border_text(self._named()) if entry else None
        content.border_subtitle = titles.sides(self.found) if self.second is None else None

    def _named(self) -> str:
        """The entry's title, and where in it the user is."""
        entry = self.entry
        assert entry is not None
        where = getattr(self._views.get(entry.kind), "heading", "")
        return f"{entry.title}  {where}".rstrip()

    def on_title_changed(self, message: TitleChanged) -> None:
        """The view on screen says something else."""
        message.stop()
        if self.entry is not None:
            self._title()

    # Two maps

    async def action_compare(self) -> None:
        """Choose a second map, and show both; in the tree the one under the cursor."""
        if isinstance(self.focused, RunTree):
            self._mark_to_compare()
            return
        others = [e for run in self.runs for e in by_step(run.entries) if e.kind in MAPS]
        shown = self._map_shown(self.found) if isinstance(self.found, Loaded) else None
        others = [entry for entry in others if shown is None or entry != shown.entry]
        if not others:
            self.notify("There is no second map to compare with.", markup=False)
        elif len(others) == 1:
            self._compare_with(others[0])
        else:
            from engramcka.tui.screens.dialogs import ChooseScreen

            await self.app.push_screen(ChooseScreen("compare with", others), self._compare_with)

    def _mark_to_compare(self) -> None:
        """The first of two maps, or the second, which is then shown with the first."""
        node = self.query_one(RunTree).cursor_node
        entry = node.data if node is not None and isinstance(node.data, Entry) else None
        if entry is None or entry.kind not in MAPS:
            self.notify("Two maps can be compared; this is none.", markup=False)
        elif self.marked is None or self.marked == entry:
            self.marked = entry
            name = clean(f"{entry.ref.label}  {entry.name}")
            self.notify(f"d on another map compares {name} with it", markup=False, timeout=4)
        else:
            first, self.marked = self.marked, None
            self.action_content()  # what the tree's cursor passes on its way is not wanted
            self.choose(first, focus=True)
            self._compare_with(entry)

    def _compare_with(self, entry: Entry | None) -> None:
        if entry is not None:
            self.second = entry
            self.read(entry)

    async def _show_pair(self) -> None:
        """Both maps, if there are two."""
        found, other = self.found, self.other
        if self.second is None or other is None or other.entry != self.second:
            return
        if found is not None and found.entry != self.entry:  # still that of before
            return
        if isinstance(other, Broken):
            self.notify(other.sentence, severity="error", markup=False)
            self.action_leave_compare()
        elif isinstance(found, Loaded) and (first := self._map_shown(found)) is not None:
            from engramcka.tui.screens.compare import MapPair

            view, single = self.compare, self.view_of(found.entry.kind)
            pair = MapPair(first.value, other.value, *titles.names_apart(first.entry, other.entry))
            cursor = view.cursor if self.pair_shown else single.cursor
            await self._mounted(view)
            view.show(pair, single.heatmap.cell_style, cursor)
            self._switch(view, focus=True)

    def _map_shown(self, found: Loaded) -> Loaded | None:
        """The map on screen: the one that was read, or that of a series which is shown."""
        if found.entry.kind in MAPS:
            return found
        if found.entry.kind != "series":
            return None
        view = self.view_of("series")
        entry = replace(found.entry, kind=kind_of(view.map).name, name=view.name_shown)
        return Loaded(entry, view.map, found.signature)

    async def action_samples(self) -> None:
        """The samples that make the cell under the cursor what it is, or the two maps differ."""
        shown = self._map_shown(self.found) if isinstance(self.found, Loaded) else None
        pair = self.compare.pair if self.pair_shown else None
        if shown is None:
            return
        maps = [shown.value] if pair is None else [pair.first, pair.second]
        if not all(isinstance(one, CkaMap) for one in maps):
            self.notify("Only of CKA is a cell a sum over samples.", markup=False)
            return
        from engramcka.tui.screens.samples import SamplesScreen, of_cell, of_two

        if pair is None or self.second is None:
            cursor = self.view_of(self.found.entry.kind).cursor  # type: ignore[union-attr]
            await self.app.push_screen(SamplesScreen(*of_cell(shown.entry, shown.value, *cursor)))
        elif (cells := self.compare.cells) is None:
            self.notify("B has no such layers.", markup=False)
        else:
            entries = (shown.entry, self.second)
            await self.app.push_screen(
                SamplesScreen(*of_two(entries, pair, cells, self.compare.subtracted))
            )

    def action_leave_compare(self) -> None:
        """Back to the first map, the cursor where it is."""
        single = self.view_of(self.found.entry.kind) if self.found else self.map
        if self.compare.pair is not None:
            single.put_cursor(*self.compare.cursor)
        self.second = self.other = self.compare.pair = None
        self._switch(single, focus=True)
        self._title()

    def on_entry_changed(self, message: EntryChanged) -> None:
        """Read again what is on screen."""
        if message.entry in (self.entry, self.second):
            self.read(message.entry)

    def action_content(self) -> None:
        """Give the keys to the result."""
        current = self.query_one(ContentSwitcher).current
        nothing = current is None or current == "message"  # a sentence has no keys
        self.set_focus(self.query_one(RunTree if nothing else f"#{current}"))

    @property
    def pair_shown(self) -> bool:
        """Whether two maps are on screen."""
        return self.query_one(ContentSwitcher).current == "compare"

    def view(self) -> Any | None:
        """The view that is on screen; None for a log or a sentence."""
        if not isinstance(self.found, Loaded) or self.found.entry.kind == "log":
            return None
        return self.compare if self.pair_shown else self.view_of(self.found.entry.kind)

    def subject(self) -> Exportable | None:
        """What an export of the shown result draws; None where nothing is shown."""
        found = self.found
        if self.view() is None or not isinstance(found, Loaded):
            return None
        entry, view = found.entry, self.view_of(found.entry.kind)
        if self.pair_shown and self.second is not None:
            return Exportable(entry, self.compare.parts(view.figure_options()))
        if entry.kind == "series":
            return Exportable(entry, view.parts(), tuple(view.maps.values()))
        if hasattr(view, "parts"):
            return Exportable(entry, view.parts(entry.name))
        value, options = view.figure_input()
        return Exportable(
            entry, (ExportPart("figure", f"{entry.kind}-{entry.name}", value, options),)
        )
