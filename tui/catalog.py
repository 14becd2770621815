"""Which runs and results there are under the paths given, from names of files alone.

Opens no store and imports neither zarr nor NumPy: a folder of a thousand runs is listed at once.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from engramcka.errors import ConfigError, StoreError
from engramcka.own_files import is_regular, open_regular
from engramcka.results.kinds import KINDS, MAPS
from engramcka.stores import layout, nodes

SILENT_SECONDS = 120.0  # after so long without a word, a job that did not end is "silent"
_LOG_TAIL = 4096  # bytes read from the end of a log to know its last event


@dataclass(frozen=True)
class RunRef:
    """One run directory, or a results store that stands alone (then ``run`` holds the store)."""

    run: Path
    results: Path
    label: str
    chosen: str = ""  # KIND/NAME, where the path given was that of one result or series

    @property
    def log(self) -> Path:
        """The run's log.jsonl, which need not be there."""
        return self.run / layout.LOG

    @property
    def figures(self) -> Path:
        """Where exported figures go."""
        return self.run / layout.FIGURES


@dataclass(frozen=True)
class Entry:
    """Something that can be shown: a result of a run, or its log."""

    ref: RunRef
    kind: str  # a key of `KINDS`, "series" or "log"
    name: str = ""

    @property
    def is_together(self) -> bool:
        """Whether all results of its kind share one plot or table; the entry says which."""
        return self.kind in KINDS and KINDS[self.kind].together

    @property
    def title(self) -> str:
        """kind/name, as on the command line."""
        return f"{self.kind}/{self.name}" if self.name else self.kind

    @property
    def path(self) -> Path:
        """The group, file or folder of groups that holds it."""
        if self.kind == "log":
            return self.ref.log
        if self.kind == "series":
            return self.ref.results
        return self.ref.results / self.kind / self.name


@dataclass(frozen=True)
class RunFacts:
    """A run with what it holds and whether a job works on it."""

    ref: RunRef
    entries: tuple[Entry, ...]
    state: str  # "", "running", "finished", "failed" or "silent"
    made: float = 0.0  # when its config was written, else its results; seconds, 0 where unknown


def find_runs(paths: Sequence[Path]) -> list[RunRef]:
    """What the paths name: runs, folders of runs (one level down), results stores.

    Raises:
        ConfigError: a path is none of these; one sentence.
    """
    found: dict[Path, RunRef] = {}
    for path in paths:
        for ref in _refs_of(path):
            found.setdefault(ref.results.absolute(), ref)
    return list(found.values())


def _refs_of(path: Path) -> list[RunRef]:
    if path.parent.name == "series" and store_type(path.parent.parent) == "results":
        (ref,) = _refs_of(path.parent.parent)
        return [replace(ref, chosen=f"series/{path.name}")]
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file or folder; give a run directory")
    if not path.is_dir():
        raise ConfigError(f"{path}: a file; browse opens run directories and results stores")
    whole = path.resolve()
    if whole.name == layout.RESULTS and (whole / nodes.ZARR_JSON).is_file():
        return [RunRef(whole.parent, whole, whole.parent.name)]
    if layout.is_run(path):
        return [_run_ref(path, whole.name)]
    held = store_type(path)
    if held == "results":
        return [RunRef(whole.parent, whole, whole.name)]
    if held in KINDS and store_type(whole.parent.parent) == "results":
        (ref,) = _refs_of(whole.parent.parent)
        return [replace(ref, chosen=f"{held}/{whole.name}")]
    try:
        children = sorted((e.path for e in os.scandir(path) if e.is_dir()), key=by_number)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    refs = [_run_ref(Path(child), Path(child).name) for child in children if layout.is_run(child)]
    if not refs:
        what = f"a store of {held}" if held else "neither a run nor a folder of runs"
        raise ConfigError(
            f"{path}: {what}; browse opens a run directory (with {layout.CONFIG} or "
            f"{layout.RESULTS}), a folder of them, or a results store"
        )
    return refs


def by_number(name: str) -> list[tuple[bool, int, str]]:
    """A sort key in which run2 stands before run10."""
    parts = re.split(r"([0-9]+)", name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _run_ref(path: Path, label: str) -> RunRef:
    return RunRef(path, path / layout.RESULTS, label)


def store_type(path: Path) -> str:
    """What engramcka store a folder is: results, cka, sweep, activations, or "" for none."""
    try:
        return str(nodes.read_group(path, path).get(layout.TYPE, ""))
    except StoreError:
        return ""


def facts(ref: RunRef, now: float | None = None) -> RunFacts:
    """What a run holds at this moment; never raises for what is on disk."""
    entries = [
        Entry(ref, kind, name)
        for kind in KINDS
        for name in sorted(_names(ref.results / kind), key=by_number)
    ]
    if is_regular(ref.log):
        entries.append(Entry(ref, "log"))
    return RunFacts(ref, tuple(entries), run_state(ref.log, now), _made(ref))


def _made(ref: RunRef) -> float:
    """When the run was made; this does not change while a job writes."""
    for path in (ref.run / layout.CONFIG, ref.results / nodes.ZARR_JSON):
        try:
            return os.stat(path).st_mtime
        except OSError:
            continue
    return 0.0


def _names(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    yield entry.name
    except OSError:
        return


def run_state(log: Path, now: float | None = None) -> str:
    """Whether a job works on the run, from the last event of its log and its age.

    Nothing is asked of the process: the job may run on another machine that shares the disk.
    """
    try:
        age = (time.time() if now is None else now) - log.stat().st_mtime
        event = last_event(log)
    except OSError:
        return ""
    if event in ("finished", "failed"):
        return event
    if event == "":
        return ""
    return "running" if age < SILENT_SECONDS else "silent"


def last_event(log: Path) -> str:
    """The name of the last whole event in the log, "" where there is none."""
    for fields in reversed(read_tail(log, _LOG_TAIL)):
        if isinstance(fields.get("event"), str):
            return str(fields["event"])
    return ""


def read_tail(log: Path, limit: int) -> list[dict[str, Any]]:
    """The events in the last ``limit`` bytes of a log, oldest first; cut-off lines passed over.

    Raises:
        OSError: the log cannot be read.
    """
    with open_regular(log) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - limit))
        lines = file.read().splitlines()
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def series_of(entry: Entry) -> tuple[str, int] | None:
    """(series, training step) of a map, from its metadata; None where it is in no series."""
    return _belongs(entry)[0]


def part_of(entry: Entry) -> str:
    """KIND/NAME of the result that a map was made for, from its metadata; "" for none, and for
    what is no map."""
    return _belongs(entry)[1] if entry.kind in MAPS else ""


def _belongs(entry: Entry) -> tuple[tuple[str, int] | None, str]:
    try:
        changed = os.stat(entry.path / nodes.ZARR_JSON).st_mtime_ns
    except OSError:
        return None, ""
    return _read_belongs(str(entry.path), changed)


@lru_cache(maxsize=4096)
def _read_belongs(path: str, changed: int) -> tuple[tuple[str, int] | None, str]:
    try:
        found = nodes.read_group(Path(path), Path(path))
    except StoreError:
        return None, ""
    return layout.series_of(found), layout.part_of(found)


def members(entry: Entry) -> list[Entry]:
    """The stored results that are shown for an entry: a series' maps by step, a plot's curves."""
    ref = entry.ref
    if entry.kind == "series":
        maps = [Entry(ref, kind, name) for kind in MAPS for name in _names(ref.results / kind)]
        steps = [(series_of(one), one) for one in maps]
        inside = [(found[1], one) for found, one in steps if found and found[0] == entry.name]
        return [one for _, one in sorted(inside, key=lambda pair: (pair[0], pair[1].name))]
    if entry.is_together:
        return [
            Entry(ref, entry.kind, n)
            for n in sorted(_names(ref.results / entry.kind), key=by_number)
        ]
    return [entry]


def named(ref: RunRef, entries: Sequence[Entry], kind: str, name: str) -> Entry | None:
    """The entry or series of that kind and name; None where there is none."""
    if kind == "series":
        series = Entry(ref, "series", name)
        return series if members(series) else None
    return next((one for one in entries if (one.kind, one.name) == (kind, name)), None)


def chosen_entry(ref: RunRef, entries: Sequence[Entry]) -> Entry | None:
    """What the path given named; None where it named no result or series, or it is gone."""
    kind, _, name = ref.chosen.partition("/")
    mine = [entry for entry in entries if entry.ref == ref]
    return named(ref, mine, kind, name) if kind else None


def signature(entry: Entry) -> tuple[tuple[str, int, int], ...]:
    """What tells two states of an entry's files apart: names, sizes and times, sorted."""
    found = []
    stack = [str(one.path) for one in members(entry)]
    while stack:
        path = stack.pop()
        try:
            info = os.stat(path)
            found.append((path, info.st_mtime_ns, info.st_size))
            if os.path.isdir(path):
                stack.extend(child.path for child in os.scandir(path))
        except OSError:
            found.append((path, -1, -1))
    return tuple(sorted(found))
