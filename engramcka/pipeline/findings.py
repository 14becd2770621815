"""What a run found, in rows for a person: one short line a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engramcka.results.kinds import KINDS
from engramcka.stores import layout, open_run


@dataclass(frozen=True)
class Finding:
    """One result: its name, what it says, what is doubtful, and the figure that shows it."""

    name: str
    text: str
    figure: str
    warnings: tuple[str, ...] = ()


def findings(run: Path) -> Iterator[Finding]:
    """Every stored result of a run that answers its config, read from disk."""
    stored = open_run(run)
    for kind in KINDS.values():
        if kind.is_finding:
            for name, result in stored.results(kind.name).items():
                figure = _figure(run, f"{kind.name}-{name}", kind.name if kind.together else "")
                yield Finding(f"{kind.name}/{name}", result.summary(), figure, result.doubts)


def _figure(run: Path, *stems: str) -> str:
    """Path of the first of these figures that is drawn; "" if none is."""
    paths = (run / layout.FIGURES / f"{stem}.png" for stem in stems if stem)
    return next((str(path) for path in paths if path.is_file()), "")
