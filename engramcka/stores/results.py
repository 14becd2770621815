"""results.zarr: the dataclasses of `engramcka.results` as Zarr groups KIND/NAME, and back.

Arrays have dimension names and coordinates, so that ``xarray.open_zarr(path, group="cka/NAME")``
gives a labelled Dataset. Each dataclass says which field is which array. Results are read without
zarr, in our own form only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engramcka.atomic import atomic_path
from engramcka.errors import EngramckaError, StoreError
from engramcka.own_files import is_folder, is_regular
from engramcka.results import CkaMap, LossSweep, Result
from engramcka.results.kinds import KINDS, kind_of
from engramcka.stores import layout, manifest, nodes
from engramcka.stores.nodes import read_chunk

if TYPE_CHECKING:
    import zarr

_ATTEMPTS = 200  # readings of a result that is replaced while it is read


def write_result(results: Path, name: str, result: Result, inputs: Mapping[str, Any]) -> None:
    """Write one result as results/KIND/NAME, whole or not at all.

    Args:
        results: path of results.zarr.
        name: name of the result.
        result: one of the dataclasses of `engramcka.results`; its type says the kind.
        inputs: all that it was made from; a later run compares it to see what is done.
    """
    kind = kind_of(result)
    attributes = {key: getattr(result, key) for key in result.attributes()}
    arrays, extra = result.pack()

    def fill(group: zarr.Group) -> None:
        _write_attributes(group, kind.name, {**attributes, **extra}, inputs)
        for key, (value, dimensions) in arrays.items():
            write_array(group, key, value, dimensions)

    _write_whole(results, f"{kind.name}/{name}", fill)


def read_result(
    results: Path, kind: str, name: str, most_bytes: int = layout.MAX_RESULT_BYTES
) -> Any:
    """Read one result, as it was at one moment: one that is replaced meanwhile is read again.

    Args:
        results: path of results.zarr.
        kind, name: of the result.
        most_bytes: that its files may hold together.

    Raises:
        StoreError: it is not there, broken, larger, or of a newer format version; the message names
            the store and the array.
    """
    folder = results / kind / name
    for _ in range(_ATTEMPTS):
        before = _stamp(folder)
        try:
            found = _read_once(results, kind, name, most_bytes)
        except StoreError:
            if _stamp(folder) == before:
                raise
        else:
            if _stamp(folder) == before:
                return found
        time.sleep(0.001)
    raise StoreError(f"{folder}: replaced faster than it can be read; wait for the run that does")


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Which folder this is: another when it is replaced; None while there is none."""
    try:
        found = (folder / nodes.ZARR_JSON).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _read_once(results: Path, kind: str, name: str, most_bytes: int) -> Result:
    folder, result = results / kind / name, KINDS[kind].result
    attributes, listed = _open(results, kind, name)
    size = sum(size for size, _ in listed.values())
    if size > most_bytes:
        raise StoreError(f"{folder}: {size:,} bytes, more than are read here ({most_bytes:,})")
    manifest.require_intact(folder)
    there = sorted(path.split("/")[0] for path in listed if path.endswith(f"/{nodes.ZARR_JSON}"))
    for key in result.required():
        if key not in there:
            raise StoreError(f"{folder / key}: cannot be read (there is no such array)")
    arrays = {key: _read(folder / key, most_bytes, results) for key in there}
    try:
        return result.unpack(arrays, attributes)
    except (EngramckaError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StoreError(f"{folder}: does not hold a {result.__name__} ({error})") from error


def _open(results: Path, kind: str, name: str) -> tuple[dict[str, Any], manifest.Files]:
    """Attributes of a result and what its manifest lists."""
    folder = results / kind / name
    if name in ("", ".", "..") or "/" in name:
        raise StoreError(f"{folder}: no name of a result")
    layout.check_store(folder)
    attributes = nodes.read_group(folder, results)
    layout.check_version(folder, attributes, kind)
    return attributes, manifest.files(folder, f"{kind}/{name}")


def write_cka(results: Path, name: str, cka: CkaMap, inputs: Mapping[str, Any]) -> None:
    """Write one map; see `write_result`."""
    write_result(results, name, cka, inputs)


def read_cka(results: Path, name: str) -> CkaMap:
    """Read one map; raises as `read_result`."""
    cka: CkaMap = read_result(results, "cka", name)
    return cka


def write_sweep(results: Path, name: str, sweep: LossSweep, inputs: Mapping[str, Any]) -> None:
    """Write one sweep; see `write_result`."""
    write_result(results, name, sweep, inputs)


def read_sweep(results: Path, name: str) -> LossSweep:
    """Read one sweep; raises as `read_result`."""
    sweep: LossSweep = read_result(results, "sweep", name)
    return sweep


def names(results: Path, kind: str) -> list[str]:
    """Names of the results of one kind (a key of `KINDS`), sorted; empty where there are none."""
    folder = results / kind
    if not is_folder(folder):
        return []
    return sorted(
        name for name in os.listdir(folder) if is_regular(folder / name / nodes.ZARR_JSON)
    )


def read_attributes(results: Path, kind: str, name: str) -> dict[str, Any]:
    """Attributes of a stored result, none of whose arrays is read.

    Raises:
        StoreError: it is not there, broken, or of another format version.
    """
    return _open(results, kind, name)[0]


def read_inputs(results: Path, kind: str, name: str) -> Any | None:
    """What a stored result was made from, or None if there is no such result that is whole."""
    try:
        attributes, _ = _open(results, kind, name)
        manifest.require_intact(results / kind / name)
    except StoreError:
        return None
    return attributes.get(layout.INPUTS)


def open_root(results: Path) -> dict[str, Any]:
    """Attributes of the root of results.zarr: the run's provenance, seconds a task.

    Made, with its kinds, where it is not there, and again where it is damaged: it is a record, and
    no result depends on it.
    """
    for kind in KINDS:
        try:
            manifest.read_node(results / kind)
        except StoreError:
            manifest.write_node(results / kind, {})
    try:
        return read_root(results)
    except StoreError:
        update_root(results)
        return read_root(results)


def update_root(results: Path, **attributes: Any) -> None:
    """Set attributes of the root of results.zarr, keeping the others."""
    try:
        before = read_root(results)
    except StoreError:
        before = {}
    manifest.write_node(results, {**before, **attributes, **layout.header("results")})


def read_root(results: Path) -> dict[str, Any]:
    """Attributes of the root of results.zarr, as `open_root` gives them.

    Raises:
        StoreError: it is not there, damaged, or of another format version.
    """
    attributes = manifest.read_node(results)
    layout.check_version(results, attributes, "results")
    return attributes


def _write_whole(results: Path, name: str, fill: Callable[[zarr.Group], None]) -> None:
    """Fill the group beside the store, where no reader lists it, and move it in when complete."""
    import zarr

    with atomic_path(results / name, beside=results) as scratch:
        fill(zarr.open_group(scratch, mode="w", zarr_format=3))
        manifest.finalize(scratch, name)
        (results / name).parent.mkdir(parents=True, exist_ok=True)


def _write_attributes(
    group: zarr.Group, kind: str, attributes: Mapping[str, Any], inputs: Mapping[str, Any]
) -> None:
    plain = {
        key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()
    }
    group.attrs.update({**layout.header(kind), **plain, layout.INPUTS: dict(inputs)})


def write_array(
    group: zarr.Group, key: str, value: np.ndarray[Any, Any], dimensions: tuple[str, ...]
) -> None:
    """One small array as one chunk, uncompressed, with a checksum: any reader opens it."""
    import zarr
    from zarr.codecs import Crc32cCodec

    with zarr.config.set(layout.KEEP_ZEROS):
        group.create_array(
            key,
            data=np.ascontiguousarray(value),
            chunks=tuple(max(1, size) for size in value.shape),
            compressors=[Crc32cCodec()],
            dimension_names=dimensions,
        )


def _read(folder: Path, most_bytes: int, results: Path) -> np.ndarray[Any, Any]:
    shape, data_type, content = read_chunk(folder, most_bytes, results)
    return np.frombuffer(content, np.dtype(data_type).newbyteorder("<")).reshape(shape).copy()
