"""Where the user left off, by the folders that were opened; kept in the user's state directory.

A memory that cannot be read or written is no reason to complain: the app then starts afresh.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from engramcka.atomic import atomic_path

KEPT = 200  # folders remembered


@dataclass
class Memory:
    """What comes back the next time the same paths are opened."""

    run: str = ""  # path of the results that were on screen
    kind: str = ""
    name: str = ""
    palette: str = ""
    theme: str = ""
    row: int = 0
    column: int = 0


def state_file(environ: Mapping[str, str] = os.environ) -> Path:
    """The file of all memories, after the XDG base directory specification."""
    base = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "engramcka" / "browse.json"


def key(paths: Sequence[Path]) -> str:
    """What a memory is filed under."""
    return "\n".join(sorted(str(path.absolute()) for path in paths))


def recall(paths: Sequence[Path], file: Path) -> Memory:
    """What was left off under these paths; an empty memory where nothing is known."""
    known = _read(file).get(key(paths))
    if not isinstance(known, dict):
        return Memory()
    memory = Memory()
    for entry in fields(Memory):
        value = known.get(entry.name)
        if type(value) is type(entry.default):
            setattr(memory, entry.name, value)
    return memory


def remember(paths: Sequence[Path], memory: Memory, file: Path) -> None:
    """File a memory, forgetting the oldest ones beyond `KEPT`."""
    known = _read(file)
    known.pop(key(paths), None)
    known[key(paths)] = asdict(memory)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as scratch:
            scratch.write_text(json.dumps(dict(list(known.items())[-KEPT:])), encoding="utf-8")
    except OSError:
        return


def _read(file: Path) -> dict[str, Any]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
