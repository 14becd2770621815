"""Hidden states that were made elsewhere, copied into an activation store of this run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engramcka.config import Config, ImportedModel
from engramcka.errors import DataError, StoreError
from engramcka.pipeline.context import Context
from engramcka.progress import TaskProgress
from engramcka.stores import ActivationStore, create_activations, layout, provenance
from engramcka.stores.foreign.hidden_states import (
    ForeignArrays,
    number_in,
    open_foreign,
    own_store,
    read_samples,
)
from engramcka.stores.open import open_or_create, stored_attributes

IDENTITY = "identity"  # attribute: what tells samples apart, see below
NUMBERING = "numbering"
"""Attribute: a sentence, which layers arrays are taken for whose names do not say that."""

GUESSED = "numbering_guessed"  # attribute: whether no one has said so, but the default
BY_ROW, BY_SPAN = "row", "span"  # the row's number; document, start and end


def import_states(
    context: Context,
    progress: TaskProgress,
    *,
    name: str,
    table: ImportedModel,
    path: Path,
    inputs: Mapping[str, Any],
) -> None:
    """Fill one model's activation store from the files that its table names.

    Raises:
        StoreError: see `open_foreign`.
        DataError: as there; or a sample table of another length.
    """
    with _open(table) as arrays:
        rows, width = arrays.shape
        samples = _samples(table, arrays)
        own = {} if arrays.store is None else arrays.store.attributes
        numbered = numbering(table, arrays)
        if numbered:
            progress.note(NUMBERING, numbered)
        make = partial(
            create_activations,
            layers=list(arrays.layers),
            width=width,
            dtype=arrays.dtype,
            samples=samples,
            attributes={
                "label": context.config.label(name),
                "model": {
                    "path": table.path,
                    "arrays": list(arrays.layers.values()),
                    "made_from": own.get("model"),
                },
                "found_dtype": arrays.found_dtype,
                "corpus": own.get("corpus") if table.samples is None else None,
                IDENTITY: _identity(table, arrays.store),
                **({NUMBERING: numbered, GUESSED: table.first_layer is None} if numbered else {}),
                **_sample_counts({} if table.samples is not None else own),
                "versions": provenance.versions(),
            },
            inputs=inputs,
            compression=context.config.run.compression,
        )
        store = open_or_create(path, make)
        if store.n_samples != rows:
            raise DataError(
                f"{table.path}: {rows} samples, {path} was begun with {store.n_samples}; delete it "
                "to make it again"
            )
        for start, stop in store.missing():
            store.write(start, dict(arrays.rows(slice(start, stop))))
            progress.update(stop, rows)
        if not store.is_complete:
            store.finalize()
    progress.update(rows, rows, info=f"{len(arrays.layers)} layers, width {width}")


def _open(table: ImportedModel) -> AbstractContextManager[ForeignArrays]:
    return open_foreign(table.path, table.layers, table.first_layer, table.layer_axis)


def tells_samples(config: Config, name: str, table: ImportedModel) -> bool | None:
    """Whether the rows of an import say which samples they are, rather than only their number.

    None where its files cannot be read: whoever imports them says why.
    """
    path = Path(config.run.dir) / layout.ACTIVATIONS / f"{name}.zarr"
    try:
        if path.exists():
            return bool(stored_attributes(path).get(IDENTITY) == BY_SPAN)
        return table.samples is not None or _identity(table, own_store(table.path)) == BY_SPAN
    except StoreError:
        return None


def numbering(table: ImportedModel, arrays: ForeignArrays) -> str:
    """Which layers the first and the last array are taken for, and how to say otherwise.

    Empty where the arrays' own names say it: by the same numbers, from 1 or more, or as layers of a
    store of ours.
    """
    (first, name), *_ = arrays.layers.items()
    last, end = list(arrays.layers.items())[-1]
    told = first > 0 and all(number_in(one) == number for number, one in arrays.layers.items())
    if table.layer_axis is None and (told or _is_own(table, arrays)):
        return ""
    other = "0 if it is the embedding" if first else "1 if it is the first block"
    return (
        f"array {name!r} is taken for {_layer(first)}, {end!r} for {_layer(last)}; "
        f"first_layer = {other}"
    )


def _is_own(table: ImportedModel, arrays: ForeignArrays) -> bool:
    """Whether the layers are numbered as in the store of ours that they are in."""
    return arrays.store is not None and table.layers is None and table.first_layer is None


def _layer(number: int) -> str:
    return f"layer {number}" if number else "the embedding"


def numbering_of(table: ImportedModel) -> str:
    """`numbering` of the files that a table names.

    Raises:
        StoreError, DataError: see `open_foreign`.
    """
    with _open(table) as arrays:
        return numbering(table, arrays)


def _identity(table: ImportedModel, store: ActivationStore | None) -> str:
    """What tells the samples of an import apart."""
    if table.samples is not None:
        return BY_SPAN
    return BY_ROW if store is None else str(store.attributes.get(IDENTITY, BY_SPAN))


def _sample_counts(own: Mapping[str, Any]) -> dict[str, Any]:
    """What a store of ours says of samples that it was asked for and has not; else nothing."""
    keys = ("asked", "drawn", "documents", "most_of_a_document", "left_out", "repeated")
    return {"skipped": 0, **{key: own[key] for key in (*keys, "skipped") if key in own}}


def _samples(table: ImportedModel, arrays: ForeignArrays) -> dict[str, Any]:
    """The sample table: as the file says, or the store of ours, or one that numbers the rows."""
    rows = arrays.shape[0]
    if table.samples is None and arrays.store is not None:
        found = arrays.store.samples
        for name in ("document", "start", "end"):
            if name not in found or len(found[name]) != rows:
                raise DataError(f"{table.path}: its sample table has no {name!r} of {rows} samples")
        return found
    if table.samples is None:
        numbers = np.arange(rows, dtype=np.int64)
        return {"document": np.full(rows, "row"), "start": numbers, "end": numbers + 1}
    columns = read_samples(table.samples)
    count = len(columns["document"])
    if count != rows:
        raise DataError(f"{table.samples}: {count} samples, {table.path} has {rows}")
    return columns


def check_import(table: ImportedModel) -> tuple[int, int, int]:
    """(samples, layers, width) of what an import would copy.

    Raises:
        StoreError: see `open_foreign`.
        DataError: as there; or a sample table of another length.
    """
    with _open(table) as arrays:
        _samples(table, arrays)
        return arrays.shape[0], len(arrays.layers), arrays.shape[1]


def sample_table(table: ImportedModel) -> dict[str, Any]:
    """The samples of what an import would copy: column name -> (samples,) array.

    Raises:
        StoreError: see `open_foreign`.
        DataError: as there; or a sample table of another length.
    """
    with _open(table) as arrays:
        return _samples(table, arrays)
