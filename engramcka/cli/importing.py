"""``engramcka import``: sweeps and maps made elsewhere, as results of a run."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from engramcka.atomic import folder_for
from engramcka.errors import ConfigError, StoreError, code_of
from engramcka.foreign_files import open_file

_BLOCK = 1 << 20  # bytes read at once
PATIENCE = 5.0  # seconds that a run at work is waited for


Kind = Literal["sweep", "cka"]
"""What can be imported."""


def command(
    file: Annotated[
        Path,
        typer.Argument(
            help="Sweep: .csv, .jsonl, TensorBoard event files or their folder. Map: .npy, "
            ".safetensors or .csv.",
            show_default=False,
        ),
    ],
    kind: Annotated[Kind, typer.Option("--as", help="What it is.", show_default=False)],
    into: Annotated[
        Path,
        typer.Option(help="The run directory; made if it is not there.", show_default=False),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the result; the file's own if left out.")
    ] = None,
    y_label: Annotated[str, typer.Option(help="Map: the model of the rows.")] = "y",
    x_label: Annotated[str, typer.Option(help="Map: the model of the columns.")] = "x",
    first_layer: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Map that does not number its layers: number of the first row and column, 0 for "
            "the embedding. 1 if left out.",
        ),
    ] = None,
    tag: Annotated[
        str | None, typer.Option(help="Event files: the tag that is the loss, or its last part.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a result of this name.")] = False,
) -> None:
    """Take a loss sweep or a similarity map from FILE into RUN, to browse and export."""
    from engramcka.config.tables import plain_name
    from engramcka.stores import inventory, layout, results

    if not file.exists():
        raise StoreError(f"{file}: there is no such file", exit_code=2)
    try:
        called = plain_name(name if name is not None else file.resolve().stem)
    except ValueError as error:
        raise ConfigError(f"--name: {error}; give one with --name") from error
    if kind == "sweep" and first_layer is not None:
        raise ConfigError("--first-layer: is for maps; a sweep's file numbers its layers itself")
    if kind == "sweep":
        from engramcka.stores.foreign.sweeps import read_sweep_file

        result: Any = read_sweep_file(file, tag)
    else:
        from engramcka.stores.foreign.maps import read_map_file

        result = read_map_file(file, y_label, x_label, first_layer)
    source = {"file": str(file), "sha256": _digest(file)}
    imported = datetime.now(UTC).isoformat(timespec="seconds")
    result = replace(result, provenance={**source, "imported": imported})
    target = into / layout.RESULTS
    with _held_run(into):
        if os.path.lexists(target / kind / called) and not force:
            raise StoreError(
                f"{into}: has {kind}/{called} already; choose another --name, or --force",
                exit_code=2,
            )
        is_finished = inventory.is_current(into)
        try:
            inventory.mark_unfinished(into)
            results.open_root(target)
            results.write_result(target, called, result, {"imported": source})
        finally:
            if is_finished:
                with suppress(OSError, StoreError):  # else the next run takes it
                    inventory.record(into)
    print(f"Wrote {kind}/{called}. Look at it with: engramcka browse {into}")


@contextmanager
def _held_run(run: Path) -> Iterator[None]:
    """A run directory to write results to, held meanwhile; made where it is not there.

    If the block raises, one that was made is deleted again.

    Raises:
        StoreError: a folder that is something else, or held by a run that is at work.
    """
    from engramcka.pipeline.context import check_parts
    from engramcka.stores import is_run, layout
    from engramcka.stores.lock import hold

    try:
        check_parts(run)
        ours = {layout.LOCK, layout.RESULTS}  # of another import that has just begun
        if run.is_dir() and not is_run(run) and not ours.issuperset(os.listdir(run)):
            raise StoreError(f"{run}: holds other things and is no run", exit_code=2)
        with folder_for(run), hold(run, patience=PATIENCE):
            is_new = {layout.LOCK}.issuperset(os.listdir(run))
            try:
                yield
            except BaseException:
                if is_new:
                    shutil.rmtree(run, ignore_errors=True)
                raise
    except OSError as error:
        told = f"{run}: cannot be written ({error.strerror or error})"
        raise StoreError(told, exit_code=code_of(error)) from error


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of all event files of a folder in order."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*tfevents*")) if path.is_dir() else [path]:
        with open_file(file) as content:
            while block := content.read(_BLOCK):
                found.update(block)
    return found.hexdigest()
