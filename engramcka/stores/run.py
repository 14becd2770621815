"""A run directory as one object: what it holds, read when it is asked for.

`open_run` is the way in from Python; the terminal app and `engramcka info` use it too.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from engramcka.errors import StoreError, in_words
from engramcka.own_files import (
    NotRegular,
    check_file,
    check_folder,
    is_folder,
    read_regular,
)
from engramcka.plain_text import first_line
from engramcka.results.kinds import KINDS, MAPS
from engramcka.stores import layout, results
from engramcka.stores.activations import ActivationStore
from engramcka.stores.open import open_activations
from engramcka.stores.remote import is_url

T = TypeVar("T")

_MOST_CONFIG_BYTES = 16 << 20
_MOST_LOG_BYTES = 1 << 30


class Results(Mapping[str, T], Generic[T]):
    """Results of one kind by name; each is read from disk when it is looked up."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._kind = path, kind

    def __getitem__(self, name: str) -> T:
        if name not in list(self):
            there = ", ".join(self) or "none"
            raise KeyError(f"{self._path}: no {self._kind}/{name}; there is {there}")
        return results.read_result(self._path, self._kind, name)  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(results.names(self._path, self._kind))

    def __len__(self) -> int:
        return len(results.names(self._path, self._kind))


@dataclass(frozen=True)
class Run:
    """A run directory opened for reading: its results by kind and name, its stores, its log."""

    path: Path

    def results(self, kind: str) -> Results[Any]:
        """Results of one kind by name; a kind is a key of `engramcka.results.kinds.KINDS`."""
        return Results(self.path / layout.RESULTS, kind)

    def __getattr__(self, kind: str) -> Results[Any]:
        """``run.cka``, ``run.lens`` and so on: results of one kind by name."""
        if kind in KINDS:
            return self.results(kind)
        raise AttributeError(f"a run has no {kind!r}; its results are {', '.join(KINDS)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *KINDS]

    @property
    def series(self) -> dict[str, list[tuple[str, str]]]:
        """(kind, name) of the maps of every series over training, by step; of each map only its
        attributes are read."""
        found: dict[str, list[tuple[int, str, str]]] = {}
        for kind, name, attributes in self._maps():
            inside = layout.series_of(attributes)
            if inside:
                found.setdefault(inside[0], []).append((inside[1], kind, name))
        return {
            series: [(kind, name) for _, kind, name in sorted(maps)]
            for series, maps in found.items()
        }

    @property
    def parts(self) -> set[tuple[str, str]]:
        """(kind, name) of the maps that were made for another result alone, as a matrix."""
        return {(kind, name) for kind, name, found in self._maps() if layout.part_of(found)}

    def _maps(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Kind, name and attributes of every map that can be read."""
        for kind, name in [(one, name) for one in MAPS for name in self.results(one)]:
            try:
                found = results.read_attributes(self.path / layout.RESULTS, kind, name)
            except StoreError:  # whoever asks for that map hears of it
                continue
            yield kind, name, found

    @property
    def config(self) -> dict[str, Any]:
        """config.toml as plain values."""
        try:
            content = read_regular(self.path / layout.CONFIG, _MOST_CONFIG_BYTES)
            return tomllib.loads(content.decode())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = first_line(error)
            raise StoreError(f"{self.path / layout.CONFIG}: cannot be read ({reason})") from error

    @property
    def models(self) -> list[str]:
        """Names of the models whose hidden states are here."""
        folder = self.path / layout.ACTIVATIONS
        if not is_folder(folder):
            return []
        return sorted(
            Path(name).stem
            for name in os.listdir(folder)
            if name.endswith(".zarr") and name[0] != "." and is_folder(folder / name)
        )

    def activations(self, model: str) -> ActivationStore:
        """The store of one model's hidden states, by the model's name."""
        return open_activations(self.path / layout.ACTIVATIONS / f"{model}.zarr")

    def log(self) -> list[dict[str, Any]]:
        """The events of log.jsonl, oldest first; a line cut off by a kill is passed over."""
        path = self.path / layout.LOG
        try:
            content = read_regular(path, _MOST_LOG_BYTES)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
        events = []
        for line in content.decode(errors="replace").splitlines():
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                events.append(event)
        return events


def open_run(path: str | Path) -> Run:
    """Open a run directory.

    Raises:
        StoreError: the folder is not there or is not a run directory.
    """
    if is_url(str(path)):
        raise StoreError(
            f"{path}: a run is opened in a folder, copy it here; behind a URL activation stores "
            "are opened, with open_activations",
            exit_code=2,
        )
    run = Path(path)
    if not run.is_dir():
        raise StoreError(f"{run}: there is no such folder", exit_code=2)
    if not layout.is_run(run):
        raise StoreError(
            f"{run}: not a run directory (no {layout.CONFIG}, no {layout.RESULTS})", exit_code=2
        )
    check_frame(run)
    return Run(run)


def check_frame(run: Path) -> None:
    """Refuse a run of which a part is a link, or a file where a folder should be and the reverse.

    A run directory may itself be a link; nothing inside one may, or it would lead out of it.

    Raises:
        StoreError: names the part.
    """
    kinds = (run / layout.RESULTS / kind for kind in KINDS)
    try:
        for folder in (*(run / name for name in layout.PLACES), *kinds):
            check_folder(folder)
        for name in (layout.CONFIG, layout.LOG, layout.LOCK):
            check_file(run / name)
    except NotRegular as error:
        raise StoreError(in_words(error), exit_code=2) from error
