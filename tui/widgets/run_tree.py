"""The runs, their results and logs as a tree, with a filter and the state of their jobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.style import Style
from rich.text import Text
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from engramcka.plain_text import clean
from engramcka.results.kinds import MAPS
from engramcka.tui.catalog import Entry, RunFacts, part_of, series_of
from engramcka.tui.filters import matching
from engramcka.tui.messages import EntryChosen
from engramcka.tui.terminal import ending, shorten
from engramcka.tui.widgets.key_bar import Shortcut

_PARTS = {"robustness": "by", "baseline": "beside"}  # between a name and what is made for it
FOUND_LIMIT = 300  # entries shown at once while a filter is on

Data = Path | Entry | str


class RunTree(Tree[Data]):
    """The tree; its leaves carry an `Entry`, runs the path of their results."""

    ICON_NODE = "▸ "
    ICON_NODE_EXPANDED = "▾ "

    BINDINGS = [
        Shortcut("j", "cursor_down", show=False),
        Shortcut("k", "cursor_up", show=False),
        Shortcut("l,right", "open", "Open", show=False),
        Shortcut("h,left", "close", "Close", show=False),
        Shortcut("d", "screen.compare", "Compare"),
        Shortcut("g,home", "scroll_home", show=False),
        Shortcut("G,end", "scroll_end", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("runs", id=id)
        self.show_root = False
        self.guide_depth = 2
        self.show_guides = False
        self.facts: tuple[RunFacts, ...] = ()
        self._runs: dict[Path, RunFacts] = {}  # by the path of their results
        self.pattern = ""
        self._opened: set[Data | None] = set()
        self._broken: set[Entry] = set()
        self._labels: dict[Entry, str] = {}  # of entries below another name: what that leaves

    def set_facts(self, facts: Sequence[RunFacts]) -> None:
        """Show these runs; nodes that are still there keep their place, state and cursor."""
        facts = tuple(facts)
        if facts == self.facts and self.root.children:
            return
        self.facts = facts
        self._runs = {run.ref.results: run for run in facts}
        self._sync()

    def set_pattern(self, pattern: str) -> None:
        """Show only entries whose run and name have all words of the pattern."""
        self.pattern = pattern
        self._sync()

    def mark(self, entry: Entry, broken: bool) -> None:
        """Say at an entry whether it could be read."""
        if broken == (entry in self._broken):
            return
        (self._broken.add if broken else self._broken.discard)(entry)
        for node in _below(self.root):
            if node.data == entry:
                node.set_label(self._entry_label(entry))

    def _entry_label(self, entry: Entry) -> Text:
        label = _label(self._labels.get(entry, entry.name))
        if entry in self._broken:
            label.append(" [broken]", Style(italic=True, bold=True, color="red"))
        return label

    def first_match(self) -> Entry | None:
        """The first entry that the filter leaves."""
        return next((e for run in self.facts for e in matching(run, self.pattern)), None)

    def select_entry(self, entry: Entry) -> None:
        """Open the tree down to this entry and put the cursor on it."""
        run = next((n for n in self.root.children if n.data == entry.ref.results), None)
        if run is None:
            return
        run.expand()
        self._fill(run)
        for node in _below(run):
            if node.data == entry:
                above = node.parent
                while above is not None:
                    above.expand()
                    above = above.parent
                self.call_after_refresh(self.move_cursor, node)

    def render_label(self, node: TreeNode[Data], base_style: Style, style: Style) -> Text:
        """The label, cut where it is longer than the tree is wide: its middle is left out, of a
        way its beginning."""
        depth = -1 if not self.show_root else 0
        above = node.parent
        while above is not None:
            depth, above = depth + 1, above.parent
        icon = ""
        if node.allow_expand:
            icon = self.ICON_NODE_EXPANDED if node.is_expanded else self.ICON_NODE
        room = self.size.width - self.guide_depth * (depth + 1) - len(icon)
        label = Text(icon, style=base_style)
        name = node.label.copy() if isinstance(node.label, Text) else Text(str(node.label))
        name.stylize(style)
        if name.cell_len > room:
            below = isinstance(node.data, Entry) and node.data in self._labels
            # what lies below one name begins alike
            name = Text((ending if below else shorten)(name.plain, max(room, 3)), style=style)
        return label + name

    def get_label_width(self, node: TreeNode[Data]) -> int:
        """Labels are cut to the tree's width; how long each one is need not be known."""
        return 1

    def _sync(self) -> None:
        under = self.cursor_node.data if self.cursor_node else None
        opened = {node.data for node in _below(self.root) if node.is_expanded}
        self._opened = opened
        known = bool(self.root.children)
        self.root.remove_children()
        single = len(self.facts) == 1
        left = FOUND_LIMIT
        for run in self.facts:
            entries = matching(run, self.pattern)
            if self.pattern and (not entries or left <= 0):
                continue
            left -= len(entries)
            node = self.root.add(self._run_label(run), data=run.ref.results)
            was_open = run.ref.results in opened or (single and not known)
            if self.pattern or was_open:
                self._fill(node)
                node.expand()
        if self.pattern and not self.root.children:
            self.root.add_leaf(Text("no result has these words", Style(italic=True)), data="")
        self._restore(under)

    def _restore(self, under: Data | None) -> None:
        nodes = list(_below(self.root))
        found = [node for node in nodes if node.data == under]
        if not found and self.pattern:  # the one that enter opens
            found = [node for node in nodes if isinstance(node.data, Entry)]
        if found:
            self.call_after_refresh(self.move_cursor, found[0])

    def _run_label(self, run: RunFacts) -> Text:
        label = Text(clean(run.ref.label) or "?", end="", no_wrap=True)
        if run.state in ("running", "failed", "silent"):
            colour = {"running": "green", "failed": "red"}.get(run.state)
            label.append(
                f" [{run.state}]", Style(italic=True, bold=colour is not None, color=colour)
            )
        return label

    def _fill(self, node: TreeNode[Data]) -> None:
        """Add a run's entries under its node when they are first wanted."""
        run = self._runs.get(node.data) if isinstance(node.data, Path) else None
        if run is None or node.children:
            return
        kinds: dict[str, TreeNode[Data]] = {}
        series: dict[str, TreeNode[Data]] = {}
        parts: dict[tuple[str, str], TreeNode[Data]] = {}
        for entry in by_step(matching(run, self.pattern)):
            if entry.kind == "log":
                node.add_leaf("log", data=entry)
                continue
            if entry.kind not in kinds:
                kinds[entry.kind] = node.add(
                    entry.kind, data=f"{run.ref.results}:{entry.kind}", expand=True
                )
            inside = series_of(entry) if entry.kind in MAPS else None
            part = part_of(entry)
            if inside is None and part:
                place = (entry.kind, part)
                of = part.partition("/")[2]
                if place not in parts:
                    above = f"{run.ref.results}:{entry.kind}:{part}"
                    parts[place] = self._part_node(kinds[entry.kind], part, above)
                name = entry.name.removeprefix(f"{of}.by-")
                self._labels[entry] = name.removesuffix(f".of-{of}")
                parts[place].add_leaf(self._entry_label(entry), data=entry)
                continue
            if inside is None:
                kinds[entry.kind].add_leaf(self._entry_label(entry), data=entry)
                continue
            name, step = inside
            if name not in series:
                whole = Entry(entry.ref, "series", name)
                series[name] = kinds[entry.kind].add(
                    _label(name), data=whole, expand=whole in self._opened
                )
            self._labels[entry] = f"step {step}"
            series[name].add_leaf(self._entry_label(entry), data=entry)
        if not run.entries:
            node.add_leaf(Text("nothing here yet", Style(italic=True)), data="")

    def _part_node(self, above: TreeNode[Data], part: str, data: str) -> TreeNode[Data]:
        """A node for the maps that were made for one result; that of a matrix, which opens them
        itself, is closed."""
        kind, _, name = part.partition("/")
        is_matrix = kind == "matrix"
        label = f"pairs of {name}" if is_matrix else f"{name} {_PARTS.get(kind, 'of')}"
        is_open = not is_matrix or bool(self.pattern) or data in self._opened
        return above.add(_label(label), data=data, expand=is_open)

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[Data]) -> None:
        """Fill a run as it is opened."""
        if isinstance(event.node.data, Path):
            self._fill(event.node)

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[Data]) -> None:
        """Show what the cursor is on."""
        event.stop()
        if self.has_focus and isinstance(event.node.data, Entry):
            self.post_message(EntryChosen(event.node.data))

    def on_tree_node_selected(self, event: Tree.NodeSelected[Data]) -> None:
        """Show it and go there."""
        event.stop()
        if isinstance(event.node.data, Entry):
            self.post_message(EntryChosen(event.node.data, focus=True))

    def action_open(self) -> None:
        """Open a branch, or go to the entry."""
        node = self.cursor_node
        if node is None:
            return
        if isinstance(node.data, Entry):
            self.post_message(EntryChosen(node.data, focus=True))
        else:
            node.expand()

    def action_close(self) -> None:
        """Close a branch, or go to the one above."""
        node = self.cursor_node
        if node is None:
            return
        if node.is_expanded and node.allow_expand:
            node.collapse()
        elif node.parent is not None and node.parent is not self.root:
            self.move_cursor(node.parent)


def _label(name: str) -> Text:
    return Text(shorten(clean(name) or "?", 60), end="", no_wrap=True)


def is_pair(entry: Entry) -> bool:
    """Whether it is a map that was made for a matrix alone."""
    return part_of(entry).startswith("matrix/")


def stop_of(entry: Entry, run: RunFacts) -> Entry:
    """The entry itself, or that of all that is on the same screen: a series, a plot of curves; of
    a pair of a matrix the matrix."""
    if is_pair(entry):
        return next((one for one in run.entries if one.title == part_of(entry)), entry)
    inside = series_of(entry) if entry.kind in MAPS else None
    if inside is not None:
        return Entry(entry.ref, "series", inside[0])
    if entry.is_together:
        return next(other for other in run.entries if other.kind == entry.kind)
    return entry


def stops(run: RunFacts) -> list[Entry]:
    """What `n` goes through: the entries of a run in the order of the tree, a screen each; but for
    the pairs of a matrix, which opens them."""
    kept = [entry for entry in by_step(run.entries) if not is_pair(entry)]
    return list(dict.fromkeys(stop_of(entry, run) for entry in kept))


def by_step(entries: Sequence[Entry]) -> list[Entry]:
    """The entries in their order, the maps of a series by training step where the first one is."""
    found = {entry: series_of(entry) if entry.kind in MAPS else None for entry in entries}
    names = [inside[0] if inside else "" for inside in found.values()]

    def place(index: int) -> tuple[int, int, int]:
        inside = found[entries[index]]
        return (names.index(inside[0]), inside[1], index) if inside else (index, 0, index)

    return [entries[index] for index in sorted(range(len(entries)), key=place)]


def _below(node: TreeNode[Data]) -> Iterable[TreeNode[Data]]:
    for child in node.children:
        yield child
        yield from _below(child)
