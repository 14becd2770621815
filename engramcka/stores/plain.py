"""A whole result read without zarr, in a small part of the time that importing zarr takes.

Only a sealed folder, every file of which is what was written, with arrays of one plain chunk: all
that engramcka itself writes. Anything else, also anything broken, is None here and left to
`engramcka.stores.results`, which says what is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engramcka.stores import layout, manifest
from engramcka.stores.chunk import metadata, read_chunk
from engramcka.stores.kinds import KINDS, Kind

_DTYPES = {"float64": "<f8", "int64": "<i8"}


def read_plain(results: Path, kind: str, name: str, max_bytes: int = 64 << 20) -> Any | None:
    """One result as `engramcka.stores.results.read_result` gives it; None where only that can tell.

    Args:
        results: path of results.zarr.
        kind, name: of the result.
        max_bytes: results with more than this are left to the other reader.
    """
    folder = results / kind / name
    try:
        before = (folder / "zarr.json").stat()
        found = _read(folder, KINDS[kind], max_bytes)
        after = (folder / "zarr.json").stat()
    except Exception:  # whatever it is, reading it properly will say so
        return None
    same = (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    return found if same else None


def _read(folder: Path, kind: Kind, max_bytes: int) -> Any | None:
    layout.check_plain(folder)
    listed = manifest.files(folder)
    if sum(size for size, _ in listed.values()) > max_bytes:
        return None
    manifest.require_whole(folder)
    attributes = metadata(folder)["attributes"]
    layout.check_version(folder, attributes, kind.name)
    names = sorted(path.split("/")[0] for path in listed if path.endswith("/zarr.json"))
    arrays = {name: _array(folder / name, max_bytes) for name in names}
    if not set(kind.required) <= arrays.keys():
        return None
    return kind.result(**kind.unpack(arrays, attributes))


def _array(folder: Path, max_bytes: int) -> np.ndarray[Any, Any]:
    shape, data_type, content = read_chunk(folder, max_bytes)
    return np.frombuffer(content, _DTYPES[data_type]).reshape(shape).copy()
