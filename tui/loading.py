"""Reading results and logs for the screen, and following what is on disk, in worker threads.

What cannot be read becomes a sentence. Following asks only for names, sizes and times of files; the
pause grows with the time that this takes, so that a thousand runs on a slow network disk are not
asked for every second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from engramcka.errors import ConfigError, EngramckaError, StoreError
from engramcka.own_files import is_regular
from engramcka.plain_text import clean
from engramcka.results.kinds import MAPS
from engramcka.stores import nodes
from engramcka.tui.catalog import (
    Entry,
    RunFacts,
    RunRef,
    facts,
    find_runs,
    members,
    read_tail,
    signature,
)

LOG_BYTES = 512_000  # of a log, from its end; a long training writes a line a second
AT_ONCE_BYTES = 32 << 20  # of a map that is read before the first frame
PAUSE = 1.0  # seconds between two polls of the disk
SHARE = 0.1  # at most this part of the time is spent polling
LONGEST = 5.0  # seconds between two polls, however long one takes
_PATIENCE = (0.0, 0.05, 0.25)  # seconds; a result that is being replaced is away for a moment


@dataclass(frozen=True)
class Several:
    """Results that are shown together: the maps of a series by step, or the curves of a run."""

    chosen: str  # the name that was asked for
    values: dict[str, Any]  # name -> one of `engramcka.results`, in the order to show
    unread: tuple[str, ...] = ()  # a sentence for each that cannot be read


@dataclass(frozen=True)
class Loaded:
    """An entry with its value and the state of the files that it was read from."""

    entry: Entry
    value: Any  # one of `engramcka.results`, `Several` of them, or a log's events
    signature: object


@dataclass(frozen=True)
class Broken:
    """An entry that cannot be read, and why, in one line."""

    entry: Entry
    sentence: str
    signature: object


def load_at_once(entry: Entry) -> Loaded | None:
    """A map for the first frame, read at once; None where that takes time, or it cannot be read."""
    if entry.kind not in MAPS:
        return None
    from engramcka.stores.results import read_result

    state = signature(entry)
    try:
        found = read_result(entry.ref.results, entry.kind, entry.name, AT_ONCE_BYTES)
    except EngramckaError:  # `load` reads it again and says why
        return None
    return Loaded(entry, found, state)


def load(entry: Entry) -> Loaded | Broken:
    """Read an entry; never raises for what is on disk."""
    sentence = ""
    state: object = ()
    for pause in _PATIENCE:
        time.sleep(pause)
        state = signature(entry)
        try:
            return Loaded(entry, _read(entry), state)
        except EngramckaError as error:
            sentence = str(error)
        except Exception as error:  # a store may be broken in ways that no reader foresaw
            sentence = f"{entry.path}: cannot be read ({type(error).__name__}: {error})"
    return Broken(entry, clean(sentence), state)


def _read(entry: Entry) -> Any:
    if entry.kind == "log":
        return read_tail(entry.path, LOG_BYTES)
    if entry.kind == "series" or entry.is_together:
        return _read_several(entry)
    return _read_one(entry)


def _read_one(entry: Entry) -> Any:
    from engramcka.stores.results import read_result

    if not is_regular(entry.path / nodes.ZARR_JSON):
        raise StoreError(f"{entry.path}: half-written or gone (no zarr.json in it)")
    return read_result(entry.ref.results, entry.kind, entry.name)


def _read_several(entry: Entry) -> Several:
    """All that are shown with the entry; one that cannot be read only stops its own entry."""
    values: dict[str, Any] = {}
    unread = []
    for member in members(entry):
        try:
            values[member.name] = _read_one(member)
        except EngramckaError as error:
            if member == entry:
                raise
            unread.append(clean(error))
    if not values:
        raise StoreError("; ".join(unread) or f"{entry.title}: there is no such result any more")
    return Several(entry.name, values, tuple(unread))


def poll(paths: Sequence[Path], before: Sequence[RunFacts]) -> tuple[RunFacts, ...]:
    """The state of all runs under the paths; of those known before where none is found any more."""
    try:
        refs: Sequence[RunRef] = find_runs(paths)
    except ConfigError:
        refs = [run.ref for run in before]
    return tuple(facts(ref) for ref in refs)


def watch(once: Callable[[], None], stop: Event, pause: float = PAUSE) -> None:
    """Call ``once`` until ``stop`` is set, with pauses that keep it a small part of the time."""
    while not stop.is_set():
        started = time.monotonic()
        once()
        stop.wait(max(pause, min((time.monotonic() - started) / SHARE, LONGEST)))
