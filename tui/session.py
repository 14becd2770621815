"""Where the user left off, for each set of folders opened; kept in the user's state directory.

A file that cannot be read or written is ignored: the app then starts with its defaults.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from engramcka.atomic import atomic_path

KEPT = 200  # sessions in the file


@dataclass
class Session:
    """What comes back the next time the same paths are opened."""

    run: str = ""  # path of the results that were on screen
    kind: str = ""
    name: str = ""
    palette: str = ""
    theme: str = ""
    row: int = 0
    column: int = 0
    newest_first: bool = False  # how the runs are listed
    export_folder: str = ""  # where figures were written last, if asked for in the dialog


def state_file(environ: Mapping[str, str] = os.environ) -> Path:
    """The file of all sessions, after the XDG base directory specification."""
    base = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "engramcka" / "browse.json"


def session_key(paths: Sequence[Path]) -> str:
    """The key of the sessions of these paths in the file."""
    return "\n".join(sorted(str(path.absolute()) for path in paths))


def load_session(paths: Sequence[Path], file: Path) -> Session:
    """The last session of these paths; the defaults where there is none."""
    known = _read(file).get(session_key(paths))
    if not isinstance(known, dict):
        return Session()
    session = Session()
    for entry in fields(Session):
        value = known.get(entry.name)
        if type(value) is type(entry.default):
            setattr(session, entry.name, value)
    return session


def save_session(paths: Sequence[Path], session: Session, file: Path) -> None:
    """Add a session to the file, and drop the oldest beyond `KEPT`."""
    known = _read(file)
    known.pop(session_key(paths), None)
    known[session_key(paths)] = asdict(session)
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
