"""``engramcka info``: what a run or a store holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from engramcka.errors import StoreError
from engramcka.plain_text import without_controls

_DEPTH, _LENGTH = 6, 2000  # of names in names, and characters of one


def command(
    path: Annotated[
        str,
        typer.Argument(
            help="A run directory or an activation store (also behind a URL).", show_default=False
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Everything known, as JSON.")] = False,
) -> None:
    """Say what PATH holds: a run, a result or a store of hidden states."""
    facts = describe(path)
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for key, value in _flat(facts):
        table.add_row(_clean(key), _clean(value))
    Console(highlight=False).print(table)


def describe(place: Path | str) -> dict[str, Any]:
    """What a run directory or an activation store, also behind a URL, holds, as JSON values.

    Raises:
        StoreError: it is neither.
    """
    from engramcka.figures.subjects import findings
    from engramcka.stores import is_run, nodes, open_activations, open_run
    from engramcka.stores.remote import is_url

    if is_url(str(place)):
        return _describe_store(open_activations(str(place)))
    path = Path(place)
    if not is_run(path):
        if not (path / nodes.ZARR_JSON).is_file():
            raise StoreError(
                f"{path}: neither a run directory nor an activation store", exit_code=2
            )
        return _describe_store(open_activations(path))
    run = open_run(path)
    return {
        "run": str(path),
        "models": {model: _describe_store(run.activations(model)) for model in run.models},
        "results": {finding.name: finding.text for finding in findings(path)},
    }


def _describe_store(store: Any) -> dict[str, Any]:
    layers = store.layers
    attributes = store.attributes
    missing = sum(stop - start for start, stop in store.missing())
    width = next((layer.shape[1] for layer in layers.values()), 0)
    return {
        "label": attributes.get("label", ""),
        "samples": store.n_samples,
        "samples missing": missing,
        "complete": store.is_complete and not missing,
        "damaged": [str(error) for _, error in store.damaged()],
        "chunk samples": store.chunk_samples,
        "bytes": sum(store.sizes()),
        "layers": len(layers),
        "width": width,
        "readouts": {name: array.shape[1] for name, array in store.readouts.items()},
        "dtype": attributes["dtype"],
        "corpus": attributes.get("corpus", ""),
        "model": attributes.get("model", {}),
    }


def _flat(facts: dict[str, Any], prefix: str = "", depth: int = _DEPTH) -> list[tuple[str, str]]:
    """Rows of a table; what a stranger's store holds deeper, or longer, is cut."""
    rows: list[tuple[str, str]] = []
    for key, value in facts.items():
        name = f"{prefix}{key[:_LENGTH]}"
        if isinstance(value, dict) and depth:
            rows += _flat(value, f"{name} ", depth - 1)
        else:
            rows.append((name, str(value)[:_LENGTH]))
    return rows


def _clean(text: str) -> str:
    from rich.markup import escape

    return escape(without_controls(text))
