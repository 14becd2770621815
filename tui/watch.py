"""Looking at the disk again and again, from a thread, and saying what changed.

Asks only for names, sizes and times of files. The pause grows with the time that one look takes,
so that a thousand runs on a slow network disk are not asked for every second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

from engramcka.errors import ConfigError
from engramcka.tui.catalog import Place, RunFacts, facts, find_places

PAUSE = 1.0  # seconds between two looks
SHARE = 0.1  # at most this part of the time is spent looking
LONGEST = 5.0  # seconds between two looks, however long one takes


def look(paths: Sequence[Path], before: Sequence[RunFacts]) -> tuple[RunFacts, ...]:
    """All places under the paths, or those known before where none is left to be found."""
    try:
        places: Sequence[Place] = find_places(paths)
    except ConfigError:
        places = [run.place for run in before]
    return tuple(facts(place) for place in places)


def watch(once: Callable[[], None], stop: Event, pause: float = PAUSE) -> None:
    """Call ``once`` until ``stop`` is set, with pauses that keep it a small part of the time."""
    while not stop.is_set():
        started = time.monotonic()
        once()
        stop.wait(max(pause, min((time.monotonic() - started) / SHARE, LONGEST)))
