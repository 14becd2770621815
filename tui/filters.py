"""What is typed into the find field: words of names, and kind:, model:, date: and state: filters.

A model is one of those that the run's config has a table of, by its name or its label; the config
is read once, when a filter first asks for models.
"""

from __future__ import annotations

import time
import tomllib
from functools import lru_cache
from pathlib import Path

from engramcka.own_files import open_regular
from engramcka.plain_text import clean
from engramcka.stores import layout
from engramcka.tui.catalog import Entry, RunFacts

KEYS = ("kind", "model", "date", "state")
_CONFIG_BYTES = 256_000  # of a config that are looked at
_NAMED = ("label", "path", "preset")  # keys of a model's table that say which it is


def matching(run: RunFacts, pattern: str) -> list[Entry]:
    """The entries of a run that have all words of the pattern and pass its filters."""
    words, asked = [], []
    for word in pattern.lower().split():
        key, colon, value = word.partition(":")
        if colon and key in KEYS:
            asked.append((key, value))
        else:
            words.append(word)
    if not all(_fits(run, key, value) for key, value in asked if key != "kind"):
        return []
    kinds = [value for key, value in asked if key == "kind"]
    label = clean(run.ref.label).lower()
    return [
        entry
        for entry in run.entries
        if all(entry.kind.startswith(kind) for kind in kinds)
        and all(word in f"{label} {entry.kind}/{clean(entry.name).lower()}" for word in words)
    ]


def _fits(run: RunFacts, key: str, value: str) -> bool:
    if key == "date":
        return bool(run.made) and date(run).startswith(value)
    if key == "state":
        return run.state.startswith(value)
    return value in models(run)


def date(run: RunFacts) -> str:
    """The day on which a run was made, as 2026-11-28; "" where it is not known."""
    return time.strftime("%Y-%m-%d", time.localtime(run.made)) if run.made else ""


def models(run: RunFacts) -> str:
    """Names, labels, paths and presets of a run's models, in lower case."""
    return _models(str(run.ref.run), run.made)


@lru_cache(maxsize=8192)
def _models(folder: str, made: float) -> str:
    try:
        with open_regular(Path(folder) / layout.CONFIG) as file:
            tables = tomllib.loads(file.read(_CONFIG_BYTES).decode("utf-8", "replace"))
    except (OSError, ValueError, RecursionError):
        return ""
    models = tables.get("models")
    known = []
    for name, table in models.items() if isinstance(models, dict) else ():
        found = table if isinstance(table, dict) else {}
        known += [name, *(str(found[key]) for key in _NAMED if key in found)]
    return "\n".join(known).lower()
