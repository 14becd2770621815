"""A map's values at once, read without zarr, so that the first frame need not wait for it.

Reads only what engramcka itself writes: one uncompressed chunk an array, with a checksum. Anything
else, also anything broken, is None here and left to the stores, which say what is wrong.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engramcka.stores import layout
from engramcka.tui.catalog import Entry

if TYPE_CHECKING:
    from engramcka.results import CkaMap

_DTYPES = {"float64": "<f8", "int64": "<i8"}
_CODECS = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "crc32c"},
]


def glance(entry: Entry) -> CkaMap | None:
    """The map without intervals, null and diagnostics; None where only zarr can tell."""
    if entry.kind != "cka":
        return None
    try:
        return _read(entry.path)
    except Exception:  # whatever it is, reading it properly will say so
        return None


def _read(group: Path) -> CkaMap | None:
    from engramcka.results import CkaMap
    from engramcka.stores import manifest

    if manifest.is_sealed(group):
        manifest.require_whole(group)
    attributes = _metadata(group)["attributes"]
    layout.check_version(group, attributes, "cka")
    return CkaMap(
        read_array(group / "similarity"),
        y_label=str(attributes["y_label"]),
        x_label=str(attributes["x_label"]),
        y_layers=tuple(read_array(group / "y_layer").tolist()),
        x_layers=tuple(read_array(group / "x_layer").tolist()),
        estimator=str(attributes["estimator"]),
        kernel=str(attributes["kernel"]),
        n_samples=attributes["n_samples"],
        warnings=tuple(attributes["warnings"]),
    )


def _metadata(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    return found


def read_array(folder: Path) -> Any:
    """A Zarr array of one uncompressed chunk, its checksum verified.

    Raises:
        ValueError: it is stored in another way, or the checksum is wrong.
        OSError, KeyError: it is not there, or not whole.
    """
    import google_crc32c
    import numpy as np

    meta = _metadata(folder)
    shape: list[int] = meta["shape"]
    plain = (
        meta["zarr_format"] == 3
        and meta["codecs"] == _CODECS
        and meta["chunk_grid"]["configuration"]["chunk_shape"] == shape
        and meta["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
    )
    if not plain:
        raise ValueError("not stored as one plain chunk")
    content = folder.joinpath("c", *["0"] * len(shape)).read_bytes()
    dtype = np.dtype(_DTYPES[meta["data_type"]])
    body, checksum = content[:-4], int.from_bytes(content[-4:], "little")
    if len(body) != math.prod(shape) * dtype.itemsize or google_crc32c.value(body) != checksum:
        raise ValueError("wrong length or checksum")
    return np.frombuffer(body, dtype).reshape(shape)
