"""Writing one output file: its extension checked, its content whole or not there.

Knows the output file and no other path.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engramcka.atomic import atomic_path, folder_for
from engramcka.errors import ConfigError, EngramckaError, code_of


def checked_extension(path: Path, allowed: Sequence[str], what: str) -> str:
    """The path's extension in lower case, without its dot.

    Raises:
        ConfigError: it is none of ``allowed``.
    """
    found = path.suffix.lower().removeprefix(".")
    if found not in allowed:
        names = ", ".join(f".{name}" for name in allowed)
        shown = f"ends in .{found}" if found else "has no extension"
        raise ConfigError(f"{path}: a {what} is written as {names}; this name {shown}")
    return found


def write_whole(target: Path, content: bytes) -> None:
    """Write the file so that nobody ever sees half of it; folders on the way are made.

    Where the file is a link, it takes the link's place: nothing is written through one.

    Raises:
        EngramckaError: it cannot be written.
    """
    try:
        with folder_for(target.parent), atomic_path(target) as scratch:
            scratch.write_bytes(content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise EngramckaError(
            f"{target}: cannot be written ({reason}); choose another folder or file name",
            exit_code=code_of(error),
        ) from error
