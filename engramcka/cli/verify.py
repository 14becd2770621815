"""``engramcka verify``: check every byte of a run or a store."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    path: Annotated[
        str,
        typer.Argument(
            help="A run, an activation store (also behind a URL) or a checkpoint.",
            show_default=False,
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="What was found, as JSON.")] = False,
) -> None:
    """Check every byte of PATH and name each broken file; exit code 1 if there is one."""
    from engramcka.plain_text import without_controls
    from engramcka.stores.verify import verify

    checked = list(verify(path))
    broken = [line for one in checked for line in one.broken]
    missing = sum(one.samples_missing for one in checked)
    files, size = sum(one.files for one in checked), sum(one.bytes for one in checked)
    if as_json:
        facts = {
            "path": path,
            "files": files,
            "bytes": size,
            "broken": broken,
            "samples missing": missing,
        }
        print(json.dumps(facts, indent=1))
    else:
        for line in broken:
            print(without_controls(line))
        unfinished = f", {missing:,} samples not written yet" if missing else ""
        verdict = f"{len(broken)} broken" if broken else "all whole"
        print(without_controls(f"{path}: {files:,} files, {size:,} bytes, {verdict}{unfinished}"))
    if broken:
        raise typer.Exit(1)
