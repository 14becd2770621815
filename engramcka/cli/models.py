"""``engramcka models``: the architectures that can be built by name."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Exact numbers, as JSON.")] = False,
) -> None:
    """List the presets: parameters in all, active for a token, in Engram tables, and rho."""
    from engramcka.models.build import describe_presets

    rows = describe_presets()
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("preset", no_wrap=True)
    for column in ("total", "active", "Engram", "rho"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows:
        table.add_row(
            row.name,
            _short(row.total),
            _short(row.active),
            _short(row.engram) if row.engram else "",
            f"{row.rho:.1%}" if row.rho is not None else "",
            row.description,
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "rho: share of the inactive parameters that are experts; the rest is Engram memory."
    )


def _short(count: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.4g}{unit}"
    return str(count)
