"""Reading one result or log for the screen; what cannot be read becomes a sentence.

Runs in a worker thread. zarr is imported here, when the first frame is already on the screen.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engramcka.errors import EngramckaError, StoreError
from engramcka.tui.catalog import Entry, read_tail, signature
from engramcka.tui.terminal import clean

if TYPE_CHECKING:
    from engramcka.results import CkaMap, LossSweep

LOG_BYTES = 512_000  # of a log, from its end; a long training writes a line a second
_PATIENCE = (0.0, 0.05, 0.25)  # seconds; a result that is being replaced is away for a moment


@dataclass(frozen=True)
class Loaded:
    """An entry with its value and the state of the files that it was read from."""

    entry: Entry
    value: CkaMap | LossSweep | list[dict[str, Any]]
    signature: object  # None for a first glance, which is read again anyway


@dataclass(frozen=True)
class Broken:
    """An entry that cannot be read, and why, in one line."""

    entry: Entry
    sentence: str
    signature: object


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


def _read(entry: Entry) -> CkaMap | LossSweep | list[dict[str, Any]]:
    if entry.kind == "log":
        return read_tail(entry.path, LOG_BYTES)
    from engramcka.stores import read_cka, read_sweep

    if not (entry.path / "zarr.json").is_file():
        raise StoreError(f"{entry.path}: half-written or gone (no zarr.json in it)")
    if entry.kind == "cka":
        return read_cka(entry.place.results, entry.name)
    return read_sweep(entry.place.results, entry.name)
