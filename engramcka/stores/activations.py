"""One model's hidden states on disk: an array a layer, written in whole chunks, resumable.

`MODEL.zarr` holds `layer_01` .. `layer_LL`, each (samples, width); the group `samples`, a table
that says which text each row stands for; and `complete`, one flag a chunk of samples, written
last: a row may be read when its flag is set. bfloat16 is kept as its raw 16-bit words, marked by
the attribute `dtype`, since Zarr has no such type that every reader knows. Knows no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec

from engramcka.errors import StoreError
from engramcka.stores import layout
from engramcka.whole import whole

DTYPES = ("float32", "float16", "bfloat16")


class LayerArray:
    """One layer's hidden states, (samples, width), read a slice of samples at a time."""

    def __init__(self, array: Any, dtype: str, rows: npt.NDArray[np.int64] | None = None) -> None:
        self._array, self._dtype, self._rows = array, dtype, rows
        count = int(array.shape[0]) if rows is None else len(rows)
        self.shape: tuple[int, int] = (count, int(array.shape[1]))
        self.dtype = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> npt.NDArray[Any]:
        try:
            if self._rows is None:
                words = np.asarray(self._array[index])
            else:
                words = np.asarray(self._array.oindex[self._rows[index]])
        except Exception as error:  # missing or corrupt chunks: zarr raises many kinds
            raise StoreError(
                f"{self._array.store_path}: cannot be read ({layout.first_line(error)})"
            ) from error
        return words.view(self.dtype)

    def take(self, rows: npt.NDArray[np.int64]) -> LayerArray:
        """The same layer at these rows only, in this order; all of them in order cost nothing."""
        if self._rows is None and np.array_equal(rows, np.arange(len(self))):
            return self
        return LayerArray(self._array, self._dtype, rows)


@dataclass(frozen=True)
class ActivationStore:
    """One model's hidden states, open for reading (and, by `write`, for filling up)."""

    path: Path
    group: Any  # zarr.Group; its static types know no item that can be subscripted

    @property
    def inputs(self) -> dict[str, Any]:
        """All that the hidden states were made from, as JSON."""
        return dict(self.group.attrs[layout.INPUTS])

    @property
    def attributes(self) -> dict[str, Any]:
        """Every attribute of the group: provenance, dtype, counts."""
        return dict(self.group.attrs)

    @property
    def layers(self) -> dict[int, LayerArray]:
        """Block number -> its array, in order.

        Raises:
            StoreError: a chunk that was written is gone; Zarr alone would read it as zeros.
        """
        dtype = str(self.group.attrs["dtype"])
        written = int(np.count_nonzero(self.group["complete"][...]))
        found = {}
        for name in sorted(self.group.array_keys()):
            number = layout.layer_number(name)
            if number is not None:
                layout.require_chunks(self.group[name], written)
                found[number] = LayerArray(self.group[name], dtype)
        return found

    @property
    def readouts(self) -> dict[str, LayerArray]:
        """What was read off the same forward pass: name -> (samples, columns) float32.

        Raises:
            StoreError: as `layers`.
        """
        if layout.READOUTS not in self.group:
            return {}
        group: Any = self.group[layout.READOUTS]
        written = int(np.count_nonzero(self.group["complete"][...]))
        found = {}
        for name in sorted(group.array_keys()):
            layout.require_chunks(group[name], written)
            found[name] = LayerArray(group[name], "float32")
        return found

    @property
    def samples(self) -> dict[str, np.ndarray[Any, Any]]:
        """The sample table: column name -> (samples,) array."""
        table: Any = self.group["samples"]
        return {name: np.asarray(table[name][...]) for name in sorted(table.array_keys())}

    @property
    def n_samples(self) -> int:
        """Rows of every layer."""
        return int(self.group.attrs["n_samples"])

    def missing(self) -> list[tuple[int, int]]:
        """Ranges (start, stop) of samples that are not written yet, a chunk each, in order."""
        size = int(self.group.attrs["chunk_samples"])
        flags = np.asarray(self.group["complete"][...])
        return [
            (chunk * size, min((chunk + 1) * size, self.n_samples))
            for chunk in np.flatnonzero(flags == 0).tolist()
        ]

    def write(
        self,
        start: int,
        blocks: Mapping[int, np.ndarray[Any, Any]],
        readouts: Mapping[str, np.ndarray[Any, Any]] | None = None,
    ) -> None:
        """Write one whole chunk of samples for every layer, then mark it complete.

        Args:
            start: first row, a multiple of the chunk size.
            blocks: block number -> (rows, width); bfloat16 as uint16 words.
            readouts: name -> (rows, columns) float32.
        """
        stop = start + len(next(iter(blocks.values())))
        with zarr.config.set(layout.KEEP_ZEROS):
            for layer, rows in blocks.items():
                self.group[layout.layer_name(layer)][start:stop] = rows
            for name, rows in (readouts or {}).items():
                self.group[f"{layout.READOUTS}/{name}"][start:stop] = rows
            self.group["complete"][start // int(self.group.attrs["chunk_samples"])] = 1


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
) -> ActivationStore:
    """Make an empty store for one model; it appears whole (all metadata and samples) or not at all.

    Args:
        path: the store, which must not be there.
        layers: block numbers.
        width: of the residual stream.
        dtype: one of `DTYPES`.
        samples: the sample table, column name -> (samples,).
        attributes: JSON: provenance, counts.
        inputs: JSON: all that the hidden states are made from.
        readouts: name -> columns of what is read off the same pass, kept as float32.
    """
    n_samples = len(next(iter(samples.values())))
    chunk = layout.chunk_samples(n_samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as scratch:
        group = zarr.open_group(scratch, mode="w", zarr_format=3)
        for layer in layers:
            group.create_array(
                layout.layer_name(layer),
                shape=(n_samples, width),
                chunks=(chunk, width),
                dtype="uint16" if dtype == "bfloat16" else dtype,
                compressors=[Crc32cCodec()],
                dimension_names=("sample", "feature"),
                attributes={"dtype": dtype, "layer": layer},
            )
        for name, columns in (readouts or {}).items():
            group.create_array(
                f"{layout.READOUTS}/{name}",
                shape=(n_samples, columns),
                chunks=(chunk, columns),
                dtype="float32",
                compressors=[Crc32cCodec()],
                dimension_names=("sample", "column"),
            )
        n_chunks = -(-n_samples // chunk)
        group.create_array(
            "complete",
            data=np.zeros(n_chunks, np.uint8),
            chunks=(1,),
            compressors=None,
            dimension_names=("chunk",),
        )
        _write_samples(group.create_group("samples"), samples)
        group.attrs.update(
            {
                **layout.header("activations"),
                **attributes,
                "dtype": dtype,
                "n_samples": n_samples,
                "chunk_samples": chunk,
                layout.INPUTS: dict(inputs),
            }
        )
    return open_activations(path, mode="r+")


def open_activations(path: Path, mode: str = "r") -> ActivationStore:
    """Open one model's hidden states.

    Raises:
        StoreError: nothing there, not such a store, or of a newer format version.
    """
    return ActivationStore(path, layout.open_group(path, "activations", mode))


def _write_samples(group: zarr.Group, samples: Mapping[str, np.ndarray[Any, Any]]) -> None:
    for name, column in samples.items():
        values = column.astype(str) if column.dtype.kind in "OU" else column
        group.create_array(
            name,
            shape=values.shape,
            dtype=str if values.dtype.kind == "U" else values.dtype,
            chunks=(len(values),),
            dimension_names=("sample",),
        )[...] = values
