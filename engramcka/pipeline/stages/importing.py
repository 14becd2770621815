"""Hidden states that were made elsewhere, copied into an activation store of this run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engramcka.config import ImportedModel
from engramcka.errors import DataError
from engramcka.pipeline.context import Context
from engramcka.progress import Task
from engramcka.stores import create_activations, provenance
from engramcka.stores.foreign import open_foreign, read_samples
from engramcka.stores.mending import make_or_mend

IDENTITY = "identity"  # attribute: what tells samples apart, see below
BY_ROW, BY_SPAN = "row", "span"  # the row's number; document, start and end


def import_states(
    context: Context,
    task: Task,
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
    with open_foreign(table.path, table.layers, table.first_layer) as arrays:
        rows, width = arrays.shape
        samples = _samples(table, rows)
        make = partial(
            create_activations,
            layers=list(arrays.layers),
            width=width,
            dtype=arrays.dtype,
            samples=samples,
            attributes={
                "label": context.config.label(name),
                "model": {"path": table.path, "arrays": list(arrays.layers.values())},
                "found_dtype": arrays.found_dtype,
                "corpus": None,
                IDENTITY: BY_ROW if table.samples is None else BY_SPAN,
                "skipped": 0,
                "versions": provenance.versions(),
            },
            inputs=inputs,
            compression=context.config.run.compression,
        )
        store = make_or_mend(path, make)
        if store.n_samples != rows:
            raise DataError(
                f"{table.path}: {rows} samples, {path} was begun with {store.n_samples}; delete it "
                "to make it anew"
            )
        for start, stop in store.missing():
            store.write(start, dict(arrays.rows(slice(start, stop))))
            task.update(stop, rows)
        if not store.sealed:
            store.seal()
    task.update(rows, rows, info=f"{len(arrays.layers)} layers, width {width}")


def _samples(table: ImportedModel, rows: int) -> dict[str, Any]:
    """The sample table: as the file says, or one that numbers the rows."""
    if table.samples is None:
        numbers = np.arange(rows, dtype=np.int64)
        return {"document": np.full(rows, "row"), "start": numbers, "end": numbers + 1}
    columns = read_samples(table.samples)
    found = len(columns["document"])
    if found != rows:
        raise DataError(f"{table.samples}: {found} samples, {table.path} has {rows}")
    return columns


def check_import(table: ImportedModel) -> tuple[int, int, int]:
    """(samples, layers, width) of what an import would copy.

    Raises:
        StoreError: see `open_foreign`.
        DataError: as there; or a sample table of another length.
    """
    with open_foreign(table.path, table.layers, table.first_layer) as arrays:
        _samples(table, arrays.shape[0])
        return arrays.shape[0], len(arrays.layers), arrays.shape[1]
