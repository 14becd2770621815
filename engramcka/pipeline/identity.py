"""How files, code and text are known again: results made from the same are not computed again.

Looks at names, sizes and times, and reads little of large files; imports no code.
"""

from __future__ import annotations

import glob
import hashlib
import importlib
import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from engramcka import foreign_files
from engramcka.config import DataTable
from engramcka.config.data_table import STDLIB
from engramcka.data.corpora import corpus_inputs
from engramcka.data.documents import DataKeyError
from engramcka.data.files import SUFFIXES, find_files
from engramcka.errors import StoreError
from engramcka.stores import manifest, nodes
from engramcka.stores.remote import RemotePath, has_store, is_url, remote_path

_BLOCK, _PLACES = 4096, 64  # of a large file: bytes that are read at once, and at how many places
_FILES = 256  # of many: in how many one is looked into, spread evenly
_CHANGES_WITH_IT = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "created")

# Keys of [data] that older stores do not name: left out at the values that held before them.
_NEWER = {"per_document": None, "skip_first": 0}


def data_inputs(data: DataTable) -> dict[str, Any]:
    """What the text and its samples are made from, as JSON; of local files also what they hold."""
    table = data.model_dump(mode="json", exclude={"vocabulary", "nonfinite"})
    table = {key: value for key, value in table.items() if (key, value) not in _NEWER.items()}
    content = content_digest(_texts(data))
    return {**table, **corpus_inputs(data), **({"content": content} if content else {})}


def _texts(data: DataTable) -> list[Path]:
    """The local files of a corpus."""
    if data.source in SUFFIXES:
        try:
            return find_files(data)
        except DataKeyError:
            return []
    folder = Path(data.place).expanduser()
    if data.source == STDLIB or not folder.is_dir():
        return []
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith((".", "cache-"))  # of `datasets`
    ]


def module_digest(function: str, folder: str) -> str | None:
    """A hash of the file of the module in ``module:function``; None where it is not found.

    Args:
        function: as a config names it.
        folder: where modules are looked for before those that are installed.
    """
    importlib.invalidate_caches()
    names = function.partition(":")[0].split(".")
    places: list[str] | None = [str(Path(folder).expanduser().absolute()), *sys.path]
    origin = None
    for depth in range(1, len(names) + 1):
        found = PathFinder.find_spec(".".join(names[:depth]), places)
        if found is None:
            return None
        origin, places = found.origin, found.submodule_search_locations
    try:
        return _hash(Path(origin or "").read_bytes())
    except OSError:
        return None


def content_digest(files: Iterable[Path]) -> str | None:
    """A hash of files' names, sizes and content, so that a copy has the same; None where none is.

    Of a file above 256 KiB 64 places are read, spread evenly, and of many files 256: weights after
    more training or new text differ there, but a few bytes that were changed, with the size kept,
    may not.
    """
    ordered = sorted(files)
    step = max(1, len(ordered) // _FILES)
    seen = []
    for number, file in enumerate(ordered):
        try:
            found = file.stat()
            facts = (str(file.absolute()), found.st_size, found.st_mtime_ns)
            content = "" if number % step else _content_digest(*facts)
        except OSError:
            return None
        seen.append((file.name, found.st_size, content))
    return _hash(json.dumps(seen).encode()) if seen else None


@lru_cache(maxsize=65_536)
def _content_digest(path: str, size: int, time: int) -> str:
    """Of one file; its size and time are there to ask again when it has changed."""
    with foreign_files.open_file(Path(path)) as file:
        if size <= _BLOCK * _PLACES:
            return _hash(file.read())
        digest = hashlib.sha256()
        for place in range(_PLACES):
            file.seek(place * (size - _BLOCK) // (_PLACES - 1))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:16]


def files_state(path: str, samples: str | None = None) -> dict[str, Any] | None:
    """The state of the files of some hidden states, as JSON; None where one of them is gone.

    A finished activation store is known by its manifest, whatever its files' times; other files by
    their names, sizes and times, and behind a URL by what the server says of them.

    Args:
        path: a file, a folder, a glob or a URL, see `engramcka.stores.foreign.hidden_states`.
        samples: the file of the sample table.

    Raises:
        StoreError: the server cannot be asked.
    """
    state = _remote_state(remote_path(path)) if is_url(path) else _state(Path(path).expanduser())
    if state is None or samples is None:
        return state
    table = _local_state([Path(samples).expanduser()])
    return table and {**state, "samples": table}


def _state(place: Path) -> dict[str, Any] | None:
    listing = place / manifest.GROUP / nodes.ZARR_JSON
    if listing.is_file():
        try:
            return {"manifest": _hash(foreign_files.read_file(listing, nodes.MOST_BYTES))}
        except OSError as error:
            raise StoreError(f"{listing}: cannot be read ({error.strerror or error})") from error
    found: Iterable[Path] = place.rglob("*")
    if not place.is_dir():
        found = [Path(name) for name in glob.glob(str(place), recursive=True)]
    return _local_state(file for file in found if file.is_file())


def _local_state(files: Iterable[Path]) -> dict[str, Any] | None:
    seen = []
    for file in sorted(files):
        try:
            found = file.stat()
        except OSError:
            continue
        seen.append((str(file), found.st_size, found.st_mtime_ns))
    if not seen:
        return None
    newest = max(time for _, _, time in seen)
    return {
        "bytes": sum(size for _, size, _ in seen),
        "changed": datetime.fromtimestamp(newest / 1e9, UTC).isoformat(timespec="seconds"),
        "files": _hash(json.dumps(seen).encode()),
    }


def _remote_state(root: RemotePath) -> dict[str, Any] | None:
    if has_store(root):
        listing = root / f"{manifest.GROUP}/{nodes.ZARR_JSON}"
        try:
            content = listing.read(0, nodes.MOST_BYTES)
        except OSError as error:
            raise StoreError(f"{listing}: cannot be read ({error})") from error
        return {"manifest": _hash(content)}
    try:
        found = root.files.find(root.path, detail=True)
    except Exception:  # each protocol's package raises its own kinds; who reads it says why
        return None
    if not found:
        return None
    seen = [
        [name, facts.get("size"), *(str(facts[key]) for key in _CHANGES_WITH_IT if key in facts)]
        for name, facts in sorted(found.items())
    ]
    size = sum(facts.get("size") or 0 for facts in found.values())
    return {"bytes": size, "files": _hash(json.dumps(seen).encode())}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
