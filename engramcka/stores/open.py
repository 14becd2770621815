"""Open an activation store for reading, for writing what is missing or damaged, or make a new one.

A new store has its arrays, its sample table and its attributes, and no hidden state yet.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engramcka.atomic import atomic_path
from engramcka.errors import StoreError
from engramcka.own_files import is_folder
from engramcka.stores import layout, manifest, nodes
from engramcka.stores.activation_metadata import store_attributes, write_samples
from engramcka.stores.activations import ActivationStore, open_unchecked
from engramcka.stores.remote import is_url, open_remote
from engramcka.stores.shards import LEVEL

if TYPE_CHECKING:
    import zarr

Compression = Literal["none", "zstd"]


def open_activations(path: Path | str) -> ActivationStore:
    """Open one model's hidden states; of a finished store, all but the data are checked.

    Args:
        path: the store; a URL that fsspec knows, as s3://bucket/moe.zarr, is opened for reading.

    Raises:
        StoreError: nothing there, not such a store, of another format version, or a file of a
            finished store is damaged.
    """
    if isinstance(path, str):
        if is_url(path):
            return open_remote(path)
        path = Path(path)
    if manifest.is_complete(path):
        layout.check_store(path)
        manifest.require_intact(path)
    return open_unchecked(path)


def stored_attributes(path: Path) -> dict[str, Any]:
    """Attributes of a store, its inputs among them, also where some of its files are damaged.

    Raises:
        StoreError: not such a store, or both copies of the attributes are damaged.
    """
    layout.check_store(path)
    try:
        return open_activations(path).attributes
    except StoreError as error:
        try:
            attributes = dict(manifest.attributes(path)["store"])
            store_attributes(path, attributes)
            return attributes
        except (StoreError, KeyError, TypeError, ValueError):
            pass  # the manifest is the damaged file: the store's own metadata say it too
        try:
            attributes = nodes.read_group(path, path)
            store_attributes(path, attributes)
        except StoreError:
            raise error from None
        return attributes


def open_or_create(path: Path, create: Callable[[Path], Any]) -> ActivationStore:
    """Open a store for writing: created if it is not there, its damaged chunks marked as missing.

    Where its metadata or its sample table are damaged, they are written again and intact chunks
    are kept.

    Args:
        path: the store.
        create: creates an empty store at a path, always the same one, under the path's own name.
    """
    if not os.path.lexists(path):
        create(path)
    layout.check_store(path)
    try:
        store = open_activations(path)
    except StoreError:
        if not is_folder(path / layout.WRITTEN):  # not a store, or of another format version
            raise
        _recreate(path, create)
        store = open_activations(path)
        store.discard_damaged(every_byte=True)
    else:
        store.discard_damaged()
    return store


def _recreate(path: Path, create: Callable[[Path], Any]) -> None:
    """Replace a store by an empty one that takes over the old one's chunks."""
    with atomic_path(path) as scratch:
        create(scratch)
        for old in manifest.files_in(path):
            name = old.relative_to(path)
            if "c" in name.parts and name.parts[0] != layout.SAMPLES:
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                _link(old, scratch / name)


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # a file system without such links
        shutil.copy2(old, new)


def create_activations(
    path: Path,
    *,
    layers: Sequence[int],
    width: int,
    dtype: str,
    samples: Mapping[str, np.ndarray[Any, Any]],
    attributes: Mapping[str, Any],
    inputs: Mapping[str, Any],
    readouts: Mapping[str, int] | None = None,
    compression: Compression = "none",
    chunk_samples: int | None = None,
    part_samples: int | None = None,
    most_samples: int | None = None,
) -> ActivationStore:
    """Create an empty store for one model; it appears complete, with all metadata, or not at all.

    Args:
        path: the store, which must not be there.
        layers: block numbers; there may be none where there are read-outs.
        width: of the residual stream.
        dtype: "float32", "float16" or "bfloat16".
        samples: the sample table, column name -> (samples,).
        attributes: JSON: provenance, counts.
        inputs: JSON: all that the hidden states are made from.
        readouts: name -> columns of what is read off the same pass, kept as float32.
        compression: of the hidden states and read-outs; lossless.
        chunk_samples: samples of a chunk at most; left out, `layout.chunk_samples` chooses.
        part_samples: samples that are read at once at most; the same.
        most_samples: of a chunk that `layout.chunk_samples` chooses.
    """
    import zarr

    n_samples = len(next(iter(samples.values())))
    words = "uint16" if dtype == "bfloat16" else dtype
    rows, part = layout.chunk_samples(
        n_samples, width * np.dtype(words).itemsize, chunk_samples, part_samples, most_samples
    )
    names = [layout.layer_name(layer) for layer in layers]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as scratch:
        group = zarr.open_group(scratch, mode="w", zarr_format=3)
        for layer, array in zip(layers, names, strict=True):
            marks = {"dtype": dtype, "layer": layer}
            size = (n_samples, width, rows, part)
            _add_sharded(group, array, words, size, compression, "feature", marks)
        for readout, columns in sorted((readouts or {}).items()):
            names.append(f"{layout.READOUTS}/{readout}")
            size = (n_samples, columns, rows, part)
            _add_sharded(group, names[-1], "float32", size, compression, "column", {})
        _add_written(group, -(-n_samples // rows), len(names))
        write_samples(group, samples)
        group.attrs.update(
            {
                **layout.header("activations"),
                **attributes,
                "name": path.stem,
                "dtype": dtype,
                "n_samples": n_samples,
                "chunk_samples": rows,
                "arrays": names,
                layout.INPUTS: dict(inputs),
            }
        )
    return open_activations(path)


def _add_sharded(
    group: zarr.Group,
    name: str,
    dtype: str,
    size: tuple[int, int, int, int],
    compression: str,
    dimension: str,
    attributes: Mapping[str, Any],
) -> None:
    """An empty array of samples.

    Args:
        group: to put it into.
        name: of the array.
        dtype: of its words.
        size: samples, width, rows of a shard, rows of a part.
        compression: "none" or "zstd".
        dimension: name of its second dimension.
        attributes: JSON.
    """
    from zarr.codecs import Crc32cCodec, ZstdCodec

    n_samples, width, rows, part = size
    group.create_array(
        name,
        shape=(n_samples, width),
        shards=(rows, width),
        chunks=(part, width),
        dtype=dtype,
        compressors=[*([ZstdCodec(level=LEVEL)] if compression == "zstd" else []), Crc32cCodec()],
        dimension_names=("sample", dimension),
        attributes=dict(attributes),
    )


def _add_written(group: zarr.Group, n_chunks: int, n_arrays: int) -> None:
    """The array of sizes and checksums, a file a row."""
    from zarr.codecs import Crc32cCodec

    group.create_array(
        layout.WRITTEN,
        shape=(n_chunks, n_arrays, 2),
        chunks=(1, n_arrays, 2),
        dtype="uint64",
        compressors=[Crc32cCodec()],
        dimension_names=("chunk", "array", "size_and_crc32c"),
    )
