"""Create an empty activation store: its arrays, its sample table and its attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from engramcka.atomic import atomic_path
from engramcka.stores import layout
from engramcka.stores.activation_metadata import write_samples
from engramcka.stores.activations import ActivationStore
from engramcka.stores.open import open_activations
from engramcka.stores.shards import LEVEL

Compression = Literal["none", "zstd"]


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
    """
    n_samples = len(next(iter(samples.values())))
    words = "uint16" if dtype == "bfloat16" else dtype
    rows, part = layout.chunk_samples(
        n_samples, width * np.dtype(words).itemsize, chunk_samples, part_samples
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
    group.create_array(
        layout.WRITTEN,
        shape=(n_chunks, n_arrays, 2),
        chunks=(1, n_arrays, 2),
        dtype="uint64",
        compressors=[Crc32cCodec()],
        dimension_names=("chunk", "array", "size_and_crc32c"),
    )
